"""
Benchmarks, each of which compares side by side in one run and prints ratios.

``python -m bench`` runs all, ``python -m bench NAME`` one; ``bench.transport`` and
``bench.chaos`` run by themselves.  All need a checkout with the packages of the
``test`` and ``bench`` extras, and end by themselves.
"""
