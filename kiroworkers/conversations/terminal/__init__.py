"""
Follow conversations on a terminal: with line editors, line prompts and full screens.
"""
