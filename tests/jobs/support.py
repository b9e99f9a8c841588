"""
Helpers for tests of jobs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kiroworkers.jobs.job import Job, StoredResponse
from kiroworkers.jobs.service import JobService
from kiroworkers.pool.agent_groups import AgentGroups
from kiroworkers.settings import Settings
from kiroworkers.tasks import Task
from kiroworkers.web.errors import error_json
from kiroworkers.web.jobs import job_json


def job_service_in(
    reactor: Any, groups: AgentGroups, tasks: Mapping[str, Task], **flags: str
) -> JobService:
    """
    Return a running service that keeps jobs in memory.
    """
    settings = Settings.read({"port": "0", **flags}, {})
    job_service = JobService(
        reactor, settings, groups, tasks, lambda problem: StoredResponse(*error_json(problem)),
        job_json,
    )  # fmt: skip
    job_service.open(None)
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
