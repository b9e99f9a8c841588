"""
Follow the life of one agent process, one turn at a time.
"""
