"""
Conversations over the Agent Client Protocol.
"""
