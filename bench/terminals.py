"""
Clients on the terminal itself, without any server.
"""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.exchange import CLEAR, CONFIRM, PROMPT, payload
from bench.server import Started

#: Waits until there is something to read on the descriptor.
Wait = Callable[[int], None]


def block(terminal: int) -> None:
    """
    Wait, as a read loop does.
    """
    select.select([terminal], [], [])


def poll(seconds: float) -> Wait:
    """
    Look every `seconds`, as a program does that polls the screen.
    """

    def look(terminal: int) -> None:
        while True:
            time.sleep(seconds)
            if select.select([terminal], [], [], 0)[0]:
                return

    return look


class Reader:
    """
    Asks, and reads until the prompt is there.
    """

    def __init__(self, terminal: int, wait: Wait) -> None:
        self._terminal = terminal
        self._wait = wait
        self._until(PROMPT, wait)

    def ask(self, idea: str) -> None:
        """
        Ask for a story; returns when the next prompt was seen.
        """
        self._type(payload(idea), PROMPT, self._wait)

    def first_byte(self, idea: str, mark: bytes) -> None:
        """
        Ask for a story; returns when `mark`, with which answers begin, was seen.
        """
        self._type(payload(idea), mark, self._wait)

    def clear(self) -> None:
        """
        Make it forget.
        """
        self._type(CLEAR, PROMPT, block)
        self._type(CONFIRM, PROMPT, block)

    def _type(self, keys: bytes, mark: bytes, wait: Wait) -> None:
        os.write(self._terminal, keys)
        self._until(mark, wait)

    def _until(self, mark: bytes, wait: Wait) -> None:
        seen = b""
        while mark not in seen:
            wait(self._terminal)
            seen += os.read(self._terminal, 65536)


@contextmanager
def on_pty(agent: Started, *command: str, wait: Wait = block) -> Iterator[Reader]:
    """
    A reader of an agent of its own, which is `command` in the agent's environment,
    at its prompt.
    """
    terminal, its_own = pty.openpty()
    # Not by a fork of ours: this process may have threads.
    with subprocess.Popen(
        command,
        stdin=its_own,
        stdout=its_own,
        stderr=its_own,
        cwd=agent.folder,
        env=agent.environment,
        start_new_session=True,
    ) as process:
        os.close(its_own)
        try:
            yield Reader(terminal, wait)
        finally:
            process.kill()
            os.close(terminal)
