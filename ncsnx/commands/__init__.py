"""The commands, a class each: parameters, help, work and result. ncsnx.cli and ncsnx call them."""
