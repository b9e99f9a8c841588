"""
From "turn over" in the terminal to the answer in the client's hand.

Three clients of the same agent, a turn of each in turn: a bare reader that
blocks on the PTY and looks for the prompt's bytes (the floor: no server, no
HTTP, nothing is parsed); kiroworkers, over HTTP; and a reader that looks at the
terminal every 100 ms, as programs that poll the screen do.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import random
import select
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from bench.server import Agent, agent, client, serving, story

_PROMPT_OPENS = b"\x1b[?2004h"
_POLL = 0.1


class Reader:
    """
    A client on the PTY itself.

    @param wait: what to do between two looks at the terminal.
    """

    def __init__(self, terminal: int, wait: Callable[[int], object]) -> None:
        self._terminal = terminal
        self._wait = wait
        self._prompt()

    def ask(self, idea: str) -> None:
        """
        Ask for a story; returns when the next prompt was seen.
        """
        task = f"Task: generate-story\nRequest: {json.dumps({'idea': idea})}"
        os.write(self._terminal, f"\x1b[200~{task}\x1b[201~\r".encode())
        self._prompt()

    def _prompt(self) -> None:
        seen = b""
        while _PROMPT_OPENS not in seen:
            self._wait(self._terminal)
            seen += os.read(self._terminal, 65536)


def _block(terminal: int) -> None:
    select.select([terminal], [], [])


def _poll(terminal: int) -> None:
    while True:
        time.sleep(_POLL)
        if select.select([terminal], [], [], 0)[0]:
            return


@contextmanager
def on_pty(agent: Agent, wait: Callable[[int], object]) -> Iterator[Reader]:
    """
    A reader of an agent of its own.
    """
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe("kiro-cli", ["kiro-cli", "chat"], agent.environment)
    try:
        yield Reader(terminal, wait)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def main() -> None:
    """
    Measure, and print a table.
    """
    parser = argparse.ArgumentParser("python -m bench.latency", description=__doc__)
    parser.add_argument("--turns", type=int, default=100, help="of each client [100]")
    turns = parser.parse_args().turns
    # Turns of uneven length, so that a poll can meet their ends at any phase.
    chance = random.Random(1)
    with ExitStack() as stack:
        stopwatch = stack.enter_context(agent())
        bare = stack.enter_context(on_pty(stopwatch, _block))
        polling = stack.enter_context(on_pty(stopwatch, _poll))
        connection = stack.enter_context(client(stack.enter_context(serving(stopwatch, 1)).port))
        asking: dict[str, Callable[[str], object]] = {
            "bare reader on the PTY": bare.ask,
            "kiroworkers over HTTP": lambda idea: story(connection, idea),
            "a look every 100 ms": polling.ask,
        }
        found: dict[str, list[float]] = {name: [] for name in asking}
        for number in range(turns + 1):
            for name, ask in asking.items():
                ask(f"turn {number} [[think={chance.uniform(0.01, 0.11):.4f}]]")
                took = (time.monotonic_ns() - stopwatch.turns()[-1]) / 1e6
                if number:  # the first is for warming up
                    found[name].append(took)
    print(f"turn over in the terminal -> answer at the client, {turns} turns each, in turn")
    print(f"{'':24}{'median':>10}{'p95':>10}{'ratio':>8}")
    floor = statistics.median(found["bare reader on the PTY"])
    for name, each in found.items():
        median, p95 = statistics.median(each), statistics.quantiles(each, n=20)[-1]
        print(f"{name:24}{median:>7.2f} ms{p95:>7.2f} ms{median / floor:>7.1f}x")


if __name__ == "__main__":
    main()
