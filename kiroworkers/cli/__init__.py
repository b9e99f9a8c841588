"""
The subcommands of ``kiroworkers``.
"""
