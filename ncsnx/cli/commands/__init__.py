"""The commands, one file each: signature and help; the work is in the library."""
