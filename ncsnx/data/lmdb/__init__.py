"""LMDB folders of encoded pictures, the format of LSUN and FFHQ."""
