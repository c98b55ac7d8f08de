"""Faults that machines and people cause, with real processes and real disks: `nox -s chaos`."""
