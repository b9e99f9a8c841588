"""
Conversations on a terminal: line editors, prompts and screens.
"""
