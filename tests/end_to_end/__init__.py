"""
End-to-end tests: real servers over HTTP, with real programs on terminals and pipes.
"""
