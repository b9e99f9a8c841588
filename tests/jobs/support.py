"""
What tests of jobs share.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kiroworkers.jobs.job import Job, Said
from kiroworkers.jobs.service import Desk
from kiroworkers.pool.agent_groups import Groups
from kiroworkers.settings import Settings
from kiroworkers.tasks import Task
from kiroworkers.web.errors import described_error
from kiroworkers.web.jobs import described_job


def desk_in(reactor: Any, groups: Groups, tasks: Mapping[str, Task], **flags: str) -> Desk:
    """
    A desk that keeps jobs in memory, and runs.
    """
    settings = Settings.read({"port": "0", **flags}, {})
    desk = Desk(
        reactor, settings, groups, tasks, lambda problem: Said(*described_error(problem)),
        described_job,
    )  # fmt: skip
    desk.open(None)
    desk.startService()
    return desk


def new_job(id: str, **fields: Any) -> Job:
    """
    A job for a story.
    """
    usual = {
        "client": "ann",
        "agent": "kiro",
        "task": "generate-story",
        "asked": {"idea": id},
        "created": 1000.0,
    }
    return Job(id=id, **{**usual, **fields})
