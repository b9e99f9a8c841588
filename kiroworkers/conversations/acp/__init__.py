"""
Conversations over pipes, by the Agent Client Protocol.
"""
