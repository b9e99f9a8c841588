"""
Let twistd find kiroworkers.

This module is imported whenever twistd lists its plugins, so it must not import the server.
"""

from twisted.application.service import ServiceMaker

kiroworkers = ServiceMaker(
    "kiroworkers",
    "kiroworkers.tap",
    "Serve a warm pool of terminal AI agents (Kiro CLI) over HTTP, as typed JSON.",
    "kiroworkers",
)
