"""
Answers per second of two workers whose turns take 500 ms, with one, two and
three clients that ask without a pause, against what the turns alone allow.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from bench.server import agent, client, serving, story

_WORKERS = 2
_TURN = 0.5


def main() -> None:
    """
    Measure, and print a table.
    """
    parser = argparse.ArgumentParser("python -m bench.throughput", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each row [10]")
    seconds = parser.parse_args().seconds
    print(f"{_WORKERS} workers, turns of {_TURN * 1000:.0f} ms, {seconds:g} s for each row")
    print(f"{'clients':>8}{'answers/s':>12}{'possible':>10}{'ratio':>8}{'wrong':>7}")
    with agent() as stopwatch, serving(stopwatch, _WORKERS) as server:
        for clients in (1, 2, 3):
            with ThreadPoolExecutor(clients) as together:
                rows = list(together.map(partial(_ask_on, server.port, seconds), range(clients)))
            answers = sum(right + wrong for right, wrong, _ in rows)
            rate = answers / max(took for *_, took in rows)
            possible = min(clients, _WORKERS) / _TURN
            wrong = sum(each for _, each, _ in rows)
            print(f"{clients:>8}{rate:>12.2f}{possible:>10.2f}{rate / possible:>8.3f}{wrong:>7}")


def _ask_on(port: int, seconds: float, name: int) -> tuple[int, int, float]:
    """
    Ask for `seconds`; right answers, wrong ones, and how long it took.
    """
    began = time.monotonic()
    counts = [0, 0]
    with client(port) as connection:
        while time.monotonic() - began < seconds:
            idea = f"idea {sum(counts)} of client {name} [[think={_TURN}]]"
            counts[story(connection, idea)["title"] != idea] += 1
    return counts[0], counts[1], time.monotonic() - began


if __name__ == "__main__":
    main()
