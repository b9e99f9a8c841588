"""
What the tests of this room share: sessions and pools in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred

from kiroworkers.sessions.pool import Pool
from kiroworkers.sessions.process import Command, TerminalProcess, start
from kiroworkers.sessions.session import Limits, Session
from kiroworkers.terminal import load_dialect, new_conversation
from kiroworkers.testing import MemoryKiro, MemoryReactor

LIMITS = Limits(startup=60, cancel=10, stop=5)

COMMAND = Command("/bin/kiro", ("chat",), {}, Path("/"), 50, 1000)


class MemoryLine(MemoryKiro):
    """
    A program that prints a prompt and reads a line, and no more.
    """

    def begin(self) -> None:
        self.print("Hello\n> ")

    def receive(self, data: bytes) -> None:
        self.typed.append(data.decode().removesuffix("\r"))

    def say(self, text: str) -> None:
        self.print(f"{text}\n> ")


@frozen
class MemoryJournal:
    """
    A journal that says one thing, or nothing.
    """

    text: str | None

    def marked(self, prompt: str) -> str:
        return f"{prompt} #1"

    def answer(self, prompt: str, since: float) -> str | None:
        return self.text


def new_session_in(
    reactor: MemoryReactor,
    max_output: int = 100_000,
    dialect: str = "kiro-classic",
    **changes: Any,
) -> Callable[[str, Callable[[], None], Callable[[str], None]], Session]:
    """
    Makes sessions of `dialect` whose programs run in `reactor`, with the usual
    settings but for `changes`.
    """

    def launch(process: TerminalProcess) -> None:
        start(reactor, process, COMMAND)

    def new_session(
        name: str, on_idle: Callable[[], None], on_gone: Callable[[str], None]
    ) -> Session:
        conversation = new_conversation(load_dialect(dialect), max_output)
        return Session(
            name, reactor, conversation, launch, reactor, LIMITS, on_idle, on_gone, **changes
        )

    return new_session


def pool_in(reactor: MemoryReactor, **changes: Any) -> Pool:
    """
    A pool of two whose programs run in `reactor`, with the usual knobs but for
    `changes`.
    """
    knobs: dict[str, Any] = {
        "workers": 2,
        "restart_delay": 5.0,
        "backlog": 32,
        "queue_timeout": 30.0,
        "request_timeout": 120.0,
        **changes,
    }
    return Pool(reactor, new_session_in(reactor), **knobs)


def watched(deferred: Deferred[Any]) -> list[Any]:
    """
    A list that gets what `deferred` fires with, an exception for a failure.
    """
    results: list[Any] = []
    deferred.addCallbacks(results.append, lambda failure: results.append(failure.value))
    return results
