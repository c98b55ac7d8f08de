"""The work of commands without a command line: typed jobs and results, for the command line and for Python."""
