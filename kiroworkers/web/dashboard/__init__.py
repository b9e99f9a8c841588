"""
Serve the page at ``/``, which shows operators what the server does, and what it needs.
"""
