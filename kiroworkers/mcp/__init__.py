"""
Define the messages of MCP, the Model Context Protocol, as far as a server of tools needs them.

Nothing here does I/O: JSON values go in and come out.  `kiroworkers.web.mcp` sends them over HTTP.
"""
