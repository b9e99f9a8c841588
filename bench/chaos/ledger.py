"""
Write down what was sent and what came back, and count what must not happen.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from bench.chaos.plan import Plan
from bench.chaos.tally import Tally
from tests.fakekiro import repaired_prompt

#: What must not happen, however often anything else does.
FORBIDDEN = (
    "wrong answers",
    "answers of an earlier turn",
    "conversations not cleared",
    "lost requests",
    "wrong statuses",
    "results under a wrong key",
    "jobs shown to others",
    "jobs lost",
    "jobs stuck",
    "wrong results of jobs",
    "callbacks missing",
    "wrong callbacks",
    "log lines missing",
    "log lines doubled",
    "log lines of another client",
    "log lines dropped",
    "tracebacks",
    "callbacks over the limit",
    "workers stuck",
    "zombies",
    "descriptors left",
    "processes left",
    "unclean exits",
    "memory grown",
)


@frozen
class Sent:
    """
    Describe one request of a client.

    Attributes:
        client: The name of its token; None if it had none.
        began: When it was sent, on the monotonic clock.
        ended: When its response had come; None if its client did not wait for it.
        optional: Whether the server may never have seen it.
    """

    client: str | None
    began: float
    ended: float | None
    optional: bool


@define
class Job:
    """
    Describe a job that the server has accepted.

    Attributes:
        plan: The request that created it.
        began: When it was sent, on the monotonic clock.
        receiver: The receiver of its callback; empty if it has none.
        cancelled: Whether its client has cancelled it.
        deleted: Whether its client has deleted it.
        state: Its state at the end.
    """

    plan: Plan
    began: float
    receiver: str = ""
    cancelled: bool = False
    deleted: bool = False
    state: str = ""


@define
class Ledger(Tally):
    """
    Collect what happens, from several threads.

    Attributes:
        turns: The folder in which the agents count the turns.
        durations: How long each answered request took, in seconds.
        kills: When the server was killed, on the monotonic clock.
        jobs: The jobs by their ids.
        keyed: What was answered under an idempotency key, by its request.
        worst_callback: The milliseconds of CPU time and the name of the event loop's longest
            callback, of those that the server reports.
        callbacks: The bodies that the healthy receiver got, by the ids of the jobs.
        sent: The requests that have ended, by the names in their User-Agent.
        failures: What clients saw of each failure, and when (in seconds since the epoch).
    """

    forbidden: Sequence[str] = field(default=FORBIDDEN, init=False)
    turns: Path
    durations: list[float] = field(factory=list)
    kills: list[float] = field(factory=list)
    jobs: dict[str, Job] = field(factory=dict)
    keyed: dict[int, tuple[Plan, bytes]] = field(factory=dict)
    worst_callback: tuple[int, str] = (0, "none that the server reports")
    callbacks: dict[str, list[Any]] = field(factory=dict)
    sent: dict[str, Sent] = field(factory=dict)
    failures: list[dict[str, Any]] = field(factory=list)

    def note_sent(
        self, name: str, client: str | None, began: float, *, answered: bool, optional: bool
    ) -> None:
        """
        Note a request whose response has come, if it is `answered`, or will not be received.

        Args:
            name: The name in its User-Agent.
            client: The name of its token; None if it had none.
            began: When it was sent, on the monotonic clock.
            answered: Whether its response has come.
            optional: Whether the server may never have seen it.
        """
        with self.lock:
            ended = time.monotonic() if answered else None
            self.sent[name] = Sent(client, began, ended, optional)

    def note_failure(self, name: str, client: str | None, **facts: Any) -> None:
        """
        Note what a client saw of a failure.

        Args:
            name: The name in its User-Agent.
            client: The name of its token; None if it had none.
            **facts: What it saw.
        """
        at = round(time.time(), 3)
        with self.lock:
            self.failures.append({"at": at, "name": name, "client": client, **facts})

    def was_killed(self, since: float) -> bool:
        """
        Return whether the server was killed after that time.
        """
        return any(kill >= since for kill in self.kills)

    def check_story(
        self,
        plan: Plan,
        idea: str,
        story: Any,
        repaired: bool = False,
        outcome: str = "wrong answers",
    ) -> None:
        """
        Check that `story` answers `idea`, in its latest turn, in a conversation of its own.

        Args:
            plan: The request.
            idea: Its idea.
            story: What the server answered.
            repaired: Whether the agent was asked to correct its answer.
            outcome: What to count if it is another request's answer.
        """
        name = f"{plan.number} {plan.kind} {plan.agent} {idea!r}"
        # The stand-ins drop such a fault from the prompt when they are asked to repair.
        titles = {idea, repaired_prompt(idea)}
        if not isinstance(story, dict) or story.get("title") not in titles:
            self.forbid(outcome, f"{name} got {story}")
            return
        if repaired or plan.repaired:
            return  # The turns and the conversation are those of the first attempt as well.
        turns = (self.turns / f"turns-{idea.split()[1]}").stat().st_size
        if story["iWant"] != f"turn {turns}":
            self.forbid("answers of an earlier turn", f"{name}: {turns} turns, and got {story}")
        if story["acceptanceCriteria"] != ["0 earlier prompts remembered"]:
            self.forbid("conversations not cleared", f"{name} got {story}")

    def check_log(self, lines: Counter[str], clients: dict[str, str]) -> None:
        """
        Check that the access log has one line for each request.

        Args:
            lines: The number of lines by the name in the User-Agent.
            clients: The name of the client in the last of these lines.
        """
        last_logged = {kill: self._last_logged(kill, lines) for kill in self.kills}
        for name, sent in self.sent.items():
            cut = any(
                sent.began <= kill and (sent.ended is None or sent.ended > last)
                for kill, last in last_logged.items()
            )
            if lines[name] > 1:
                self.forbid("log lines doubled", f"{name} has {lines[name]}")
            elif lines[name] == 0 and not sent.optional and not cut:
                self.forbid("log lines missing", f"{name} of {sent}")
            elif lines[name] and sent.client not in (None, clients[name]):
                self.forbid("log lines of another client", f"{name}: {clients[name]}, not {sent}")

    def _last_logged(self, kill: float, lines: Counter[str]) -> float:
        """
        Return when the last request began that has a line and was answered before `kill`.

        Lines are written in the order in which requests end, so whatever was answered before
        that time must have a line.  What was answered later may have been killed with the
        server: how long a busy machine takes to write a line is not known.
        """
        return max(
            (
                sent.began
                for name, sent in self.sent.items()
                if lines[name] and sent.ended is not None and sent.ended <= kill
            ),
            default=0.0,
        )
