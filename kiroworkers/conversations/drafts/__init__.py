"""
Draft a dialect from a recording of its program.
"""
