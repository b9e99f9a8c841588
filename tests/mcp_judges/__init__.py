"""
Programs that check a server with the official clients of MCP.

`tests.end_to_end.test_mcp_clients` runs each in a process of its own, because the lines 1.x and 2.x
of the Python client have the same name.  A program prints ``NAME: ok`` for each check.
"""
