"""
Tests of whole servers over HTTP, with real programs on terminals and pipes.
"""
