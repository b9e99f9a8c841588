"""
Drive one agent process through its conversation, one turn at a time.
"""
