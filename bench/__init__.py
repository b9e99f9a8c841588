"""
Benchmarks: each compares side by side in one run and prints ratios.

``python -m bench.latency`` and ``python -m bench.throughput``, from a checkout
with the packages of the ``test`` extra; both end by themselves.
"""
