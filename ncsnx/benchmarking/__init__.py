"""The benchmark of this machine: executions of a network side by side, in alternating rounds."""

from ncsnx.benchmarking.benchmark import Benchmark, BenchmarkSettings, run_benchmark

__all__ = ["Benchmark", "BenchmarkSettings", "run_benchmark"]
