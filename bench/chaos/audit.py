"""
Compare, when everything is over, what is with what must be.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from typing import Any

from bench.chaos.injector import Injector
from bench.chaos.ledger import Job, Ledger
from bench.chaos.processes import (
    children,
    command,
    descriptors,
    is_stopped,
    marked,
    zombies,
)
from bench.chaos.world import World, read_log
from kiroworkers.telemetry.loop_monitor import CPU_LIMIT

#: Seconds in which all jobs must end, and seconds in which workers must become idle,
#: descriptors be closed, processes end and callbacks arrive.
_JOBS_TIMEOUT = 240
_TIMEOUT = 60
#: Seconds until all workers are idle: a session whose supervisor was stopped while it
#: started is killed after the time-out of the start, and another 20 seconds.
_SETTLE_TIMEOUT = 150

_PAUSE = 0.2

#: Descriptors of connections and files that come and go.
_TRANSIENT = 2

_JOB_LINE = re.compile(r'"JOB /jobs/(\S+) -"|"path":"/jobs/([^"]+)","protocol":"-"')
_DROPPED = re.compile(r"\d+ lines? .*dropped|log: dropped")


def finish_jobs(world: World, ledger: Ledger) -> None:
    """
    Wait until no job is unfinished.
    """
    until = time.monotonic() + _JOBS_TIMEOUT
    while unfinished := [job for job in _jobs(world) if job["state"] in ("queued", "running")]:
        if time.monotonic() > until:
            for job in unfinished:
                ledger.forbid("jobs stuck", f"{job} of {ledger.jobs.get(job['id'])}")
            return
        time.sleep(1)


def _jobs(world: World) -> list[Any]:
    """
    Return all jobs, as the operator sees them.
    """
    jobs = []
    path: str | None = "/jobs?limit=200"
    while path is not None:
        response = world.get(path)
        if response.status == 503:
            time.sleep(_PAUSE)
            continue
        page = response.json()
        jobs += page["jobs"]
        path = page["next"]
    return jobs


def check_jobs(world: World, ledger: Ledger) -> None:
    """
    Check that every job that was accepted is there, and has its own result.
    """
    for id, job in ledger.jobs.items():
        response = world.get(f"/jobs/{id}")
        if job.deleted:
            continue
        if response.status == 404 and job.plan.steady:
            ledger.count("job expired")
            continue
        if response.status != 200:
            ledger.forbid("jobs lost", f"{id} of {job}: {response}")
            continue
        body = response.json()
        job.state = body["state"]
        ledger.count(f"job {body['state']} {body.get('error', {}).get('code', '')}".strip())
        _check_result(ledger, job, body)


def _check_result(ledger: Ledger, job: Job, body: Any) -> None:
    plan = job.plan
    if job.cancelled:
        if body["state"] != "cancelled":
            ledger.forbid("wrong results of jobs", f"{job} was cancelled, and is {body}")
    elif body["state"] == "cancelled":
        ledger.forbid("wrong results of jobs", f"{job} was not cancelled, and is {body}")
    elif body["state"] == "done":
        ledger.check_story(plan, plan.idea(), body["result"], outcome="wrong results of jobs")
    elif body["state"] == "failed" and body["error"]["status"] not in (502, 503, 504):
        ledger.forbid("wrong results of jobs", f"{job} is {body}")


def check_callbacks(ledger: Ledger) -> None:
    """
    Check that the healthy receiver was told about each job that named it.
    """
    awaited = {
        id: job for id, job in ledger.jobs.items() if job.receiver == "healthy" and not job.deleted
    }
    until = time.monotonic() + _TIMEOUT
    while not ledger.callbacks.keys() >= awaited.keys() and time.monotonic() < until:
        time.sleep(_PAUSE)
    for id, job in awaited.items():
        bodies = ledger.callbacks.get(id, [])
        ledger.count("callbacks", len(bodies))
        if not bodies:
            ledger.forbid("callbacks missing", f"{id} of {job}")
        for body in bodies:
            if body["state"] == "done":
                idea, story = job.plan.idea(), body["result"]
                ledger.check_story(job.plan, idea, story, outcome="wrong callbacks")
    # The server was killed before it could say that it had accepted the job.
    unknown = len(ledger.callbacks.keys() - ledger.jobs.keys())
    ledger.count("callbacks of jobs that were cut", unknown)


def settle(world: World, ledger: Ledger) -> None:
    """
    Wait until all workers are idle and the storage works.
    """

    def settled(health: Any) -> bool:
        idle = all(worker["status"] == "idle" for worker in health["workers"].values())
        return idle and health["storage"]["state"] == "ok"

    if not world.await_health(settled, _SETTLE_TIMEOUT):
        health = world.health() or {"workers": {}, "storage": "unknown: /health is silent"}
        states = {
            name: (worker["state"], worker["lastError"])
            for name, worker in health["workers"].items()
            if worker["status"] != "idle"
        }
        ledger.forbid("workers stuck", f"{states}, storage {health['storage']}")


def check_processes(world: World, ledger: Ledger, before: Counter[str]) -> None:
    """
    Check that the server has no zombies, and no descriptors that it had not at first.
    """
    until = time.monotonic() + _TIMEOUT
    while time.monotonic() < until:
        left = descriptors(world.pid) - before
        if left.total() <= _TRANSIENT:
            break
        time.sleep(_PAUSE)
    else:
        ledger.forbid("descriptors left", f"{dict(left)}; before {dict(before)}")
    # Agents may leave zombies, and a stopped process cannot reap them.
    parents = {pid for pid in (world.pid, *children(world.pid)) if not is_stopped(pid)}
    unreaped = zombies(parents)
    while unreaped and time.monotonic() < until:
        time.sleep(_PAUSE)
        unreaped &= zombies(parents)
    for pid in unreaped:
        ledger.forbid("zombies", f"{pid}")


def check_ends(world: World, ledger: Ledger, injector: Injector) -> None:
    """
    Check that the servers, which have ended, left no processes behind.
    """
    for generation in range(world.generation + 1):
        for pid in marked(world.mark(generation)):
            if injector.is_excused(pid):
                ledger.count("helpers of supervisors that were killed")
                injector.end(pid)
            elif injector.ends_when_resumed(pid):
                ledger.count("supervisors that were stopped as they started")
            else:
                ledger.forbid("processes left", f"{pid} of server {generation}: {command(pid)}")


def check_log(world: World, ledger: Ledger) -> None:
    """
    Check that the log has a line for each request and each job, and no fault of the server.
    """
    text = world.log.read_text(errors="replace")
    lines, clients, slow = read_log(text)
    ledger.check_log(lines, clients)
    for milliseconds, name in slow:
        if milliseconds > 1000 * CPU_LIMIT:
            ledger.forbid("callbacks over the limit", f"{milliseconds} ms of CPU in {name}")
    ledger.worst_callback = max(slow, default=ledger.worst_callback)
    ended = Counter(match[1] or match[2] for match in _JOB_LINE.finditer(text))
    for id, job in ledger.jobs.items():
        killed = any(kill >= job.began for kill in ledger.kills)
        if ended[id] > 1 and not killed:
            ledger.forbid("log lines doubled", f"job {id} of {job} has {ended[id]}")
        if not ended[id] and not killed and job.state in ("done", "failed"):
            ledger.forbid("log lines missing", f"job {id} of {job}")
    ledger.count("callbacks that waited", text.count("event loop: waited"))
    for match in re.finditer(r"^.*(Unhandled|Traceback).*(?:\n.*){0,30}", text, re.MULTILINE):
        ledger.forbid("tracebacks", match[0][:2000])
    for line in text.splitlines():
        if _DROPPED.search(line):
            ledger.forbid("log lines dropped", line)
