"""
Log what happens, and measure the event loop.

Nothing here decides anything: the other packages fill in records and write log events.
"""
