"""
Implement the ``kiroworkers`` command: `main` and a module for each subcommand.
"""
