"""Fault-injection tests, with real processes and real file systems: `python -m tests.chaos`, or `nox -s chaos`.

Each does to small runs what machines and people do to large ones, hundreds of times, and counts what came out. What can
be shown in seconds is among the other tests.
"""
