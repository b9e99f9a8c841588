"""
Dispatch requests to agents: the queue, the workers, and their supervision.
"""
