"""
Call a kiroworkers server, from asyncio or from synchronous code.

For example::

    from kiroworkers_client import Kiro

    with Kiro("http://127.0.0.1:8080") as kiro:
        answer = kiro.generate_story("Export the story list", timeout=60)
        print(answer.value["title"], answer.worker)

`AsyncKiro` has the same methods, as coroutines.  The module `errors` has a class for each failure
that a server reports.
"""

from kiroworkers_client import errors
from kiroworkers_client._version import __version__
from kiroworkers_client.answers import Answer, Review, ReviewWarning, Story, Test
from kiroworkers_client.async_client import AsyncEventStream, AsyncKiro
from kiroworkers_client.base_errors import (
    BadRequest,
    Failed,
    KiroError,
    TimedOut,
    Unavailable,
    UnknownError,
)
from kiroworkers_client.callbacks import InvalidSignature, verify_callback
from kiroworkers_client.events import (
    Answered,
    Event,
    Missed,
    Noticed,
    Postponed,
    Queued,
    Retrying,
    Said,
    Started,
    Waiting,
)
from kiroworkers_client.jobs import Job, JobPage, JobReceipt
from kiroworkers_client.options import JobOptions, Options
from kiroworkers_client.readiness import Readiness
from kiroworkers_client.retries import RetryPolicy
from kiroworkers_client.sync_client import EventStream, Kiro

__all__ = [
    "Answer",
    "Answered",
    "AsyncEventStream",
    "AsyncKiro",
    "BadRequest",
    "Event",
    "EventStream",
    "Failed",
    "InvalidSignature",
    "Job",
    "JobOptions",
    "JobPage",
    "JobReceipt",
    "Kiro",
    "KiroError",
    "Missed",
    "Noticed",
    "Options",
    "Postponed",
    "Queued",
    "Readiness",
    "RetryPolicy",
    "Retrying",
    "Review",
    "ReviewWarning",
    "Said",
    "Started",
    "Story",
    "Test",
    "TimedOut",
    "Unavailable",
    "UnknownError",
    "Waiting",
    "__version__",
    "errors",
    "verify_callback",
]
