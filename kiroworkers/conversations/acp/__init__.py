"""
Follow conversations over pipes, using the Agent Client Protocol.
"""
