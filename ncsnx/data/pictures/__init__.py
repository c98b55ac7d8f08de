"""Users' picture files: finding, decoding and scanning them."""
