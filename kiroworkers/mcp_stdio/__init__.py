"""
Serve MCP on standard input and output, with a server's ``/mcp`` behind it.

A desktop agent starts ``kiroworkers mcp`` and writes one JSON-RPC message per line to it.  Each
is sent to the server as an HTTP request, and what the server answers is written as lines again.

`lines`, `messages`, `headers` and `replies` are pure; `Forwarder` does the rest.  It knows nothing
of tools: a message passes as it is, byte by byte, whatever it says.

Source: the specification of MCP, revisions 2025-03-26 to 2026-07-28, pages "stdio" and
"Streamable HTTP".
"""
