"""JSON documents: frozen attrs classes that are saved to files and read back by one mechanism."""
