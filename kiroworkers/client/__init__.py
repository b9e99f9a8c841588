"""
A client for Python programs that run Twisted::

    from kiroworkers.client import Kiro

    kiro = Kiro("http://127.0.0.1:8080")
    answer = await kiro.generate_story("Export the story list", timeout=60)
    print(answer.value["title"], answer.worker)

Each request has a connection of its own, for a turn takes seconds; whoever cancels
one hangs up, and so gives it up.  Needs ``pip install 'kiroworkers[client]'``.
"""

from kiroworkers.client.kiro import (
    Answer,
    BadRequest,
    Failed,
    Kiro,
    KiroError,
    Postponed,
    Queued,
    Retrying,
    Review,
    ReviewWarning,
    Said,
    Started,
    Story,
    Terms,
    Test,
    TimedOut,
    Unavailable,
    Watch,
)

__all__ = [
    "Answer",
    "BadRequest",
    "Failed",
    "Kiro",
    "KiroError",
    "Postponed",
    "Queued",
    "Retrying",
    "Review",
    "ReviewWarning",
    "Said",
    "Started",
    "Story",
    "Terms",
    "Test",
    "TimedOut",
    "Unavailable",
    "Watch",
]
