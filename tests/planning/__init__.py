"""Tests of ncsnx.planning."""
