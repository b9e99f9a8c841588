"""
Drive agents on terminals directly, without a server.
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

#: A function that waits until the descriptor is readable.
Wait = Callable[[int], None]


def block(terminal: int) -> None:
    """
    Wait until there is output, as a read loop does.
    """
    select.select([terminal], [], [])


def poll(seconds: float) -> Wait:
    """
    Return a wait that looks every `seconds`, as a program that polls the screen does.
    """

    def look(terminal: int) -> None:
        while True:
            time.sleep(seconds)
            if select.select([terminal], [], [], 0)[0]:
                return

    return look


class Reader:
    """
    Send prompts, and read until the next prompt.
    """

    def __init__(self, terminal: int, wait: Wait) -> None:
        self._terminal = terminal
        self._wait = wait
        self._until(PROMPT, wait)

    def ask(self, idea: str) -> None:
        """
        Request a story and return at the next prompt.
        """
        self._type(payload(idea), PROMPT, self._wait)

    def first_byte(self, idea: str, mark: bytes) -> None:
        """
        Request a story and return at `mark`, with which answers begin.
        """
        self._type(payload(idea), mark, self._wait)

    def clear(self) -> None:
        """
        Clear the conversation.
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
    Run `command` on a terminal of its own, and yield its reader at the prompt.
    """
    terminal, its_own = pty.openpty()
    # No os.fork(), since this process may have threads.
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
