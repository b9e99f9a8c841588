"""
Call a kiroworkers server from Python programs that run Twisted.

For example, in a coroutine::

    from kiroworkers.client import Kiro

    kiro = Kiro("http://127.0.0.1:8080")
    answer = await kiro.generate_story("Export the story list", timeout=60)
    print(answer.value["title"], answer.worker)

Each request has its own connection, because a turn takes seconds.  Cancelling a request
closes its connection, and the server then abandons the request.

Needs ``pip install 'kiroworkers[client]'``.
"""

from kiroworkers.client.answers import Answer, Review, ReviewWarning, Story, Test
from kiroworkers.client.errors import BadRequest, Failed, KiroError, TimedOut, Unavailable
from kiroworkers.client.events import Noticed, Postponed, Queued, Retrying, Said, Started, Watch
from kiroworkers.client.kiro import Kiro, Terms

__all__ = [
    "Answer",
    "BadRequest",
    "Failed",
    "Kiro",
    "KiroError",
    "Noticed",
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
