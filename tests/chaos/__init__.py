"""Fault-injection tests, with real processes and real file systems: `python -m tests.chaos`, or `nox -s chaos`.

Each injects faults that machines and people cause into small runs, hundreds of times, and counts the outcomes. Faults
that can be tested in seconds are among the other tests.
"""
