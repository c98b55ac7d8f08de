"""Tests of commands in several ranks."""
