"""
Serve the tasks as tools over MCP, the Model Context Protocol.
"""
