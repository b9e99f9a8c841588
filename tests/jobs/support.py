"""
Helpers for tests of jobs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kiroworkers.jobs.job import Job
from kiroworkers.jobs.service import JobService
from kiroworkers.pool.agent_groups import AgentGroups
from kiroworkers.settings import Settings
from kiroworkers.tasks import Task
from kiroworkers.web.jobs import job_json


def job_service_in(
    reactor: Any,
    groups: AgentGroups,
    tasks: Mapping[str, Task],
    state: Path | None = None,
    /,
    **flags: str,
) -> JobService:
    """
    Return a running service that keeps jobs in the folder `state`, or else in memory.
    """
    settings = Settings.read({"port": "0", **flags}, {})
    job_service = JobService(reactor, settings, groups, tasks, job_json)
    job_service.open(state)
    job_service.startService()
    return job_service


def new_job(id: str, **fields: Any) -> Job:
    """
    Return a job of the task generate-story.
    """
    defaults = {
        "client": "ann",
        "agent": "kiro",
        "task": "generate-story",
        "payload": {"idea": id},
        "created": 1000.0,
    }
    return Job(id=id, **{**defaults, **fields})
