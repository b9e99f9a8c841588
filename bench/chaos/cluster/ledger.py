"""
Write down what clients of the cluster sent and what came back.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from bench.chaos.cluster.faults import Fault
from bench.chaos.cluster.plan import Plan
from bench.chaos.tally import Tally

#: What must not happen, however often anything else does.
FORBIDDEN = (
    "jobs lost",
    "jobs without a result",
    "wrong results of jobs",
    "results that changed",
    "jobs doubled under one key",
    "jobs too late",
    "live requests without an answer",
    "wrong answers",
    "answers that changed under one key",
    "wrong statuses",
    "POSTs asked twice",
    "503 after a turn had begun",
    "repeated prompts without an explanation",
    "answers lost without an explanation",
    "live requests refused without the database",
    "wrong streams",
    "callbacks missing",
    "wrong callbacks",
    "tracebacks",
    "servers not healed",
    "unclean exits",
    "processes left",
)


@frozen
class Attempt:
    """
    Describe one POST; times are seconds on the monotonic clock.

    Attributes:
        plan: The request.
        began: When it was sent.
        ended: When its response had come, or its client knew that there is none.
        status: The status of the response; 0 if there is none.
        code: The code of the failure; empty if there is none.
    """

    plan: Plan
    began: float
    ended: float
    status: int
    code: str = ""


@define
class Job:
    """
    Describe a job that a server has accepted.

    Attributes:
        plan: The request that created it.
        cancelled: Whether a server has said that it is cancelled.
        deleted: Whether it may have been deleted.
        seen: What servers have shown of it since it ended; the same each time.
    """

    plan: Plan
    cancelled: bool = False
    deleted: bool = False
    seen: Any = None


@define
class Ledger(Tally):
    """
    Collect what happens, from several threads.

    Attributes:
        attempts: The POSTs.
        jobs: The jobs by their ids.
        answers: The answers of live requests, by the names of their ideas.
        callbacks: The bodies that the receiver got, by the ids of the jobs.
        faults: What was done to the cluster.
        repeated: How many prompts were asked again because of each fault.
        lost: How many responses were lost because of each fault.
        latest: How long the slowest job took, in seconds, while there was a database.
        latest_job: When that was, and how often its prompt was asked.
    """

    forbidden: Sequence[str] = field(default=FORBIDDEN, init=False)
    attempts: list[Attempt] = field(factory=list)
    jobs: dict[str, Job] = field(factory=dict)
    answers: dict[str, bytes] = field(factory=dict)
    callbacks: dict[str, list[Any]] = field(factory=dict)
    faults: list[Fault] = field(factory=list)
    repeated: Counter[Fault] = field(factory=Counter)
    lost: Counter[Fault] = field(factory=Counter)
    latest: float = 0.0
    latest_job: str = "none"

    def note_attempt(self, plan: Plan, began: float, status: int, code: str = "") -> None:
        """
        Note a POST that has just ended.
        """
        outcome = f"{status} {code}".strip() if status else "no response"
        with self.lock:
            self.attempts.append(Attempt(plan, began, time.monotonic(), status, code))
            self.counts[f"{plan.kind}: {outcome}"] += 1

    def note_job(self, id: str, plan: Plan) -> Job:
        """
        Note that a server has accepted a job, perhaps once more; return the job.
        """
        with self.lock:
            return self.jobs.setdefault(id, Job(plan))

    def note_shown(self, job: Job, shown: Any) -> None:
        """
        Note what a server has shown of a job, and check that its end stays as it was.
        """
        if shown["state"] not in ("done", "failed", "cancelled"):
            if job.seen is not None:
                self.forbid("results that changed", f"{job.seen}, then {shown}")
            return
        if job.seen is None:
            job.seen = shown
        elif job.seen != shown:
            self.forbid("results that changed", f"{job.seen}, then {shown}")

    def keep(self, file: Path) -> None:
        """
        Write each POST to a file, a line each: when it began, its seconds, and its outcome.
        """
        offset = time.time() - time.monotonic()
        with file.open("w") as lines:
            for attempt in self.attempts:
                began = time.strftime("%H:%M:%S", time.gmtime(attempt.began + offset))
                took = f"{attempt.ended - attempt.began:.2f}"
                key = "key" if attempt.plan.keyed else "-"
                outcome = f"{attempt.status} {attempt.code}".rstrip()
                lines.write(f"{began} {took} {attempt.plan.name} {key} {outcome}\n")
