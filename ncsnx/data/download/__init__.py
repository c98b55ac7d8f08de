"""Downloads of data sets: their addresses, the transfer, the archives."""
