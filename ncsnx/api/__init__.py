"""The functions of `import ncsnx`: the work of commands, called from Python, with typed results."""
