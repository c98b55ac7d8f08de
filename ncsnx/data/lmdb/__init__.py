"""LMDB folders of encoded pictures, as LSUN and FFHQ come."""
