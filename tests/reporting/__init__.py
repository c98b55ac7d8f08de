"""Tests of the page about runs."""
