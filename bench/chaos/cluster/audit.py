"""
Compare, when everything is over, what is with what must be.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from bench.chaos.cluster.clients import Clients, get
from bench.chaos.cluster.faults import (
    Fault,
    breaking,
    explanation,
    time_without_database,
)
from bench.chaos.cluster.ledger import Job, Ledger
from bench.chaos.processes import command
from bench.chaos.world import OPERATOR
from bench.cluster.servers import Server
from bench.cluster.turns import Turn
from bench.cluster.world import World

#: Seconds in which all jobs must end, and in which callbacks must arrive.
_JOBS_TIMEOUT = 180
_TIMEOUT = 60

_PAUSE = 0.5

#: How many of the answers under idempotency keys are asked for again, of each server.
_REPLAYS = 10

#: Seconds after which every server has noticed that the database is back.
RECOVERY = 6.0

_UNFINISHED = ("queued", "running")


@frozen
class Limits:
    """
    Hold what the lateness of a job is compared with, in seconds.

    Attributes:
        lease: The servers' --lease.
        turn: How long a turn takes at most.
        margin: What a busy machine may add.
    """

    lease: float
    turn: float
    margin: float

    @property
    def most(self) -> float:
        """
        Return the time that a job may take: a lease, a sweep and a turn.
        """
        return self.lease + self.lease / 5 + self.turn + self.margin


def finish_jobs(port: int, ledger: Ledger) -> None:
    """
    Wait until no job is unfinished, and check that there are no others than the clients'.
    """
    until = time.monotonic() + _JOBS_TIMEOUT
    jobs = _jobs(port)
    while unfinished := [job for job in jobs if job["state"] in _UNFINISHED]:
        if time.monotonic() > until:
            for job in unfinished:
                detail = f"{job} of {ledger.jobs.get(job['id'])}"
                ledger.forbid("jobs without a result", detail)
            break
        time.sleep(_PAUSE)
        jobs = _jobs(port)
    for job in jobs:
        if job["id"] not in ledger.jobs:
            ledger.forbid("jobs doubled under one key", f"no client knows {job}")
    names = Counter(job.plan.name for job in ledger.jobs.values())
    for name, count in names.items():
        if count > 1:
            ledger.forbid("jobs doubled under one key", f"{name} has {count} jobs")


def _jobs(port: int) -> list[Any]:
    """
    Return all jobs, as the operator sees them.
    """
    jobs = []
    path: str | None = "/jobs?limit=200"
    while path is not None:
        try:
            page = get(port, path, OPERATOR)
        except (OSError, ValueError):
            time.sleep(_PAUSE)
            continue
        jobs += page["jobs"]
        path = page["next"]
    return jobs


def check_jobs(ports: Sequence[int], ledger: Ledger, limits: Limits) -> None:
    """
    Check that every accepted job is there, with its own result, in time; note the latest.

    Args:
        ports: The ports of the servers, which show the jobs in turn.
        ledger: What was accepted.
        limits: How late a job may be.
    """
    for (id, job), port in zip(ledger.jobs.items(), itertools.cycle(ports), strict=False):
        if job.deleted:
            continue
        try:
            shown = get(port, f"/jobs/{id}", OPERATOR)
        except (OSError, ValueError) as error:
            ledger.forbid("jobs lost", f"{id} of {job}: {error}")
            continue
        ledger.note_shown(job, shown)
        ledger.count(f"jobs {shown['state']}")
        if shown["state"] in _UNFINISHED:
            continue
        _check_result(ledger, job, shown)
        _check_time(ledger, shown, limits)


def _check_result(ledger: Ledger, job: Job, shown: Any) -> None:
    asked_to_cancel = job.plan.afterwards == "cancel"
    match shown["state"]:
        case "done" if not job.cancelled and shown["result"].get("title") == job.plan.idea:
            return
        case "cancelled" if asked_to_cancel:
            return
    ledger.forbid("wrong results of jobs", f"{job} is {shown}")


def _check_time(ledger: Ledger, shown: Any, limits: Limits) -> None:
    """
    Check how long a job took without the times in which there was no database.
    """
    offset = time.time() - time.monotonic()
    created, ended = (float(shown[name]) / 1000 - offset for name in ("created", "ended"))
    took = ended - created - time_without_database(created, ended, ledger.faults, RECOVERY)
    if took > limits.most:
        ledger.forbid("jobs too late", f"{took:.1f} s, at most {limits.most:.1f} s: {shown}")
    if took > ledger.latest:
        ledger.latest = took
        clock = time.strftime("%H:%M:%S", time.gmtime(created + offset))
        ledger.latest_job = f"accepted at {clock}, asked {shown['attempts']} times"


def check_turns(ledger: Ledger, turns: Mapping[str, Sequence[Turn]]) -> Counter[Fault]:
    """
    Check that prompts were asked again only because of a fault; count them by the fault.
    """
    keyed = {attempt.plan.name: attempt.plan.keyed for attempt in ledger.attempts}
    repeated: Counter[Fault] = Counter()
    for name, asked in turns.items():
        for turn, again in itertools.pairwise(asked):
            fault = explanation(turn, again.asked, ledger.faults)
            if fault is None or not keyed.get(name, False):
                ledger.forbid(
                    "repeated prompts without an explanation",
                    f"{name}: {asked}, attempts {_attempts(ledger, name)}",
                )
            else:
                repeated[fault] += 1
    ended = (job for job in ledger.jobs.values() if job.seen and job.seen["state"] == "done")
    for name in (*(job.plan.name for job in ended), *ledger.answers):
        if not turns.get(name):
            ledger.forbid("wrong answers", f"{name} was answered and never asked")
    return repeated


def check_attempts(ledger: Ledger, turns: Mapping[str, Sequence[Turn]]) -> Counter[Fault]:
    """
    Check each POST by itself; count the lost responses by the fault.
    """
    lost: Counter[Fault] = Counter()
    for attempt in ledger.attempts:
        detail = f"{attempt}, turns {turns.get(attempt.plan.name)}"
        asked = [
            turn
            for turn in turns.get(attempt.plan.name, ())
            if attempt.plan.kind == "live" and attempt.began <= turn.asked <= attempt.ended
        ]
        if len(asked) > 1:
            ledger.forbid("POSTs asked twice", detail)
        match attempt.status:
            case 503 if asked:
                ledger.forbid("503 after a turn had begun", detail)
            case 503 if attempt.code == "storage_unavailable" and not attempt.plan.keyed:
                ledger.forbid("live requests refused without the database", detail)
            case 0 | 502 | 504:
                fault = breaking(attempt.began, attempt.ended, ledger.faults)
                if fault is None:
                    ledger.forbid("answers lost without an explanation", detail)
                else:
                    lost[fault] += 1
    return lost


def replay(clients: Clients, ports: Sequence[int]) -> None:
    """
    Ask each server again for answers under idempotency keys; `check_turns` finds new turns.
    """
    ledger = clients.ledger
    plans = {attempt.plan.name: attempt.plan for attempt in ledger.attempts}
    for number, port in enumerate(ports):
        names = [name for name in ledger.answers if plans[name].keyed]
        for name in names[number :: len(ports)][:: max(1, len(names) // len(ports) // _REPLAYS)]:
            response = clients.ask(plans[name], port)
            if response is None or response.status != 200:
                ledger.forbid("answers that changed under one key", f"{name}: {response}")
            else:
                clients.check_answer(plans[name], response)
                ledger.count("answers replayed by a server")


def check_callbacks(ledger: Ledger) -> None:
    """
    Check that the receiver was told how each job that named it has ended.
    """
    expected = {
        id: job
        for id, job in ledger.jobs.items()
        if job.plan.called_back and job.seen is not None and not job.deleted
    }
    until = time.monotonic() + _TIMEOUT
    while time.monotonic() < until and not expected.keys() <= ledger.callbacks.keys():
        time.sleep(_PAUSE)
    for id, job in expected.items():
        bodies = ledger.callbacks.get(id, [])
        if not bodies:
            ledger.forbid("callbacks missing", f"{id} of {job}")
        ledger.count("callbacks repeated", max(0, len(bodies) - 1))
        for body in bodies:
            if body != job.seen:
                ledger.forbid("wrong callbacks", f"{job} got {body}")


def check_healed(world: World, ledger: Ledger) -> None:
    """
    Check that every server has its storage again, and sees all others.
    """
    names = {server.name for server in world.servers}
    for server in world.servers:
        until = time.monotonic() + _TIMEOUT
        while (trouble := _trouble(server, names)) and time.monotonic() < until:
            time.sleep(_PAUSE)
        if trouble:
            ledger.forbid("servers not healed", f"{server.name}: {trouble}")


def _trouble(server: Server, names: set[str]) -> str:
    """
    Return what is not as it must be at a server; empty if there is nothing.
    """
    try:
        storage = get(server.port, "/health", OPERATOR)["storage"]
        seen = get(server.port, "/cluster", OPERATOR)["servers"]
    except (OSError, ValueError) as error:
        return repr(error)
    if storage["state"] != "ok":
        return f"storage {storage}"
    if {other["name"] for other in seen} != names:
        return f"it sees {seen}"
    return ""


def check_ends(world: World, ledger: Ledger) -> None:
    """
    Check the logs of the servers, which have ended, and that they left no processes.
    """
    for server in world.servers:
        for name in ("Traceback (most recent call last)", "Unhandled"):
            if place := server.log.find(name) + 1:
                ledger.forbid("tracebacks", f"{server.name}: {server.log[place - 200 :][:1500]}")
        until = time.monotonic() + _TIMEOUT
        while server.left() and time.monotonic() < until:
            time.sleep(_PAUSE)
        if left := server.left():
            ledger.forbid("processes left", f"{server.name}: {[command(pid) for pid in left]}")


def _attempts(ledger: Ledger, name: str) -> list[tuple[float, float, int, str]]:
    return [
        (attempt.began, attempt.ended, attempt.status, attempt.code)
        for attempt in ledger.attempts
        if attempt.plan.name == name
    ]
