"""The measurement engine: the contract of a measurement, and the code that runs one."""
