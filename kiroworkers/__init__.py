"""
Keeps Kiro CLI sessions warm in terminals and answers HTTP requests with JSON.

One way through the house, each room knowing only the ones after it::

    web -> tasks -> sessions (pool, worker, session) -> terminal (conversation) -> PTY

`tap` is the composition root; `offline` is a program of its own.
"""

__version__ = "0.1.0.dev0"
