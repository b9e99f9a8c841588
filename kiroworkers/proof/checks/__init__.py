"""
Hold the checks of ``kiroworkers prove``, one module for each group.

Each module has a tuple ``CHECKS``; `catalogue` lists them all in the order in which they run.
"""
