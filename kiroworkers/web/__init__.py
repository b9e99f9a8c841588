"""
Serve the HTTP API: routes, authorization, status codes and rules for browsers.

Sessions and queueing are left to `kiroworkers.pool`.
"""
