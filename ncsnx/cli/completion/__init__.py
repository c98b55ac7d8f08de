"""Completion in shells: scripts, and answers to what they ask."""
