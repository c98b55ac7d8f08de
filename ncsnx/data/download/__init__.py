"""Downloads of data sets: the transfer, the archives."""
