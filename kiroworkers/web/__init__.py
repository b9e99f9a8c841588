"""
The door: routes, status codes and what a browser may do.  It decides nothing
about sessions.
"""
