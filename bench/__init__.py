"""
Benchmarks: each compares side by side in one run and prints ratios.

``python -m bench.latency``, ``bench.throughput`` and ``bench.ingest``, from a checkout
with the packages of the ``test`` extra; all end by themselves.
"""
