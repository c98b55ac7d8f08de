"""Typed arguments and options as objects of the library: data sets, experiments, samplers, features, tasks."""
