"""
Run programs on terminals or pipes, and make sure that they end.
"""
