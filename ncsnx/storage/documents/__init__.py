"""JSON documents: what is kept in files is a frozen attrs class, written and read by one mechanism."""
