"""
Run a server while everything goes wrong at once, and count what must not happen.

The exit status is 1 if something of it happened; standard error then says what.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Semaphore, Thread
from typing import Any

from bench.chaos import audit, evidence
from bench.chaos import world as worlds
from bench.chaos.clients import Clients
from bench.chaos.injector import Injector
from bench.chaos.ledger import FORBIDDEN, Ledger
from bench.chaos.plan import AGENTS, draw
from bench.chaos.processes import descriptors
from bench.chaos.receivers import receiving
from bench.chaos.world import World
from bench.figures import percentile, resident

_OPTIONS = (
    *("--backlog", "64", "--queue-timeout", "30", "--request-timeout", "30"),
    *("--cancel-timeout", "1", "--stop-timeout", "0.5", "--max-output", "4m"),
    *("--startup-timeout", "30"),
    *("--restart-delay", "0.1", "--restart-max-delay", "0.5", "--start-limit-burst", "1000"),
    *("--receive-timeout", str(worlds.RECEIVE_TIMEOUT)),
    *("--job-ttl", "24h", "--max-jobs", "5000"),
    *("--check-interval", "2", "--graceful-timeout", "10"),
)
_AGENTS = ",".join(f"{name}={workers}" for name, (workers, _) in AGENTS.items())
_CHAOS = ("--agent", _AGENTS, "--max-requests", "30")
_STEADY = ("--agent", "kiro-classic=4", "--max-requests", "500", "--job-ttl", "30")

#: How much larger the memory of a steady server may be at the end than after a tenth of its
#: requests, as a factor and in MB.
_GROWTH = (1.15, 8.0)

#: How many of the answers under idempotency keys are asked for again at the end.
_REPLAYS = 40

#: The shares of the requests after which the memory is read, in percent.
_MEMORY_AT = (10, 25, 49, 60, 75, 90)


def main() -> int:
    """
    Run as the arguments say, print what happened, and return the exit status.
    """
    parser = argparse.ArgumentParser("python -m bench.chaos", description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clients", type=int, default=12, help="how many send at a time")
    parser.add_argument("--steady", action="store_true", help="nothing goes wrong")
    parser.add_argument("--log", type=Path, help="file to which the server's log is copied")
    parser.add_argument(
        "--keep", type=Path, help="folder for all logs, the history and what clients saw"
    )
    parser.add_argument("flags", nargs="*", help="flags of the server, after --")
    options = parser.parse_args()
    if not options.steady:
        worlds.enter_namespace("bench.chaos", sys.argv[1:])
    began = time.monotonic()
    flags = (*_OPTIONS, *(_STEADY if options.steady else _CHAOS), *options.flags)
    with (
        tempfile.TemporaryDirectory(prefix="chaos-") as name,
        worlds.world(Path(name), flags) as world,
    ):
        ledger = Ledger(world.folder)
        what = "nothing goes wrong" if options.steady else _disk(world)
        print(f"{options.requests} requests, seed {options.seed}, {what}", flush=True)
        memory: dict[int, float] = {}
        try:
            _run(world, ledger, options, memory)
        finally:
            if options.keep is not None:
                evidence.keep_files(world, ledger, options.keep)
            if options.log is not None and world.log.exists():
                options.log.write_bytes(world.log.read_bytes())
            _report(ledger, memory)
    print(f"in {time.monotonic() - began:.0f} s")
    return int(ledger.failed)


def _disk(world: World) -> str:
    if world.mounted:
        return "jobs on a file system of their own, which can be full"
    return "no file system can be mounted, so only writes fail (RLIMIT_FSIZE)"


def _run(
    world: World, ledger: Ledger, options: argparse.Namespace, memory: dict[int, float]
) -> None:
    """
    Run everything.

    Args:
        world: The server.
        ledger: Where everything is written down.
        options: What to do.
        memory: Filled with the memory of the server in MB, by the share of the requests.
    """
    world.start()
    world.up.set()
    with receiving(ledger) as receivers:
        clients = Clients(world, ledger, receivers)
        for number in range(-1, -13, -1):
            clients.run(draw(options.seed, number, steady=True))
        audit.finish_jobs(world, ledger)
        before = descriptors(world.pid)
        injector = Injector(world, ledger, random.Random(options.seed))
        thread = Thread(target=injector.run)
        if not options.steady:
            thread.start()
        try:
            _send(clients, injector, options, memory)
        finally:
            injector.over.set()
            if thread.ident is not None:
                thread.join()
        audit.finish_jobs(world, ledger)
        audit.settle(world, ledger)
        if not options.steady:
            audit.check_callbacks(ledger)
            plans = list(ledger.keyed.values())
            for plan, answer in injector.rng.sample(plans, min(_REPLAYS, len(plans))):
                clients.replay(plan, answer)
        audit.check_jobs(world, ledger)
    memory[100] = resident(world.pid) / 1e6
    audit.settle(world, ledger)
    if options.keep is not None:
        evidence.keep_answers(world, options.keep)
    audit.check_processes(world, ledger, before)
    status = world.stop()
    if status != 0:
        ledger.forbid("unclean exits", f"exit status {status}")
    audit.check_ends(world, ledger, injector)
    audit.check_log(world, ledger)
    if options.steady and memory[100] > max(memory[10] * _GROWTH[0], memory[10] + _GROWTH[1]):
        ledger.forbid("memory grown", f"{memory}")


def _send(
    clients: Clients, injector: Injector, options: argparse.Namespace, memory: dict[int, float]
) -> None:
    """
    Send all requests; the arguments are those of `_run`.
    """
    places = Semaphore(2 * options.clients)
    marks = {options.requests * share // 100: share for share in _MEMORY_AT}

    def release(future: Future[Any]) -> None:
        places.release()

    with ThreadPoolExecutor(options.clients) as executor:
        futures = []
        for number in range(options.requests):
            places.acquire()
            futures.append(executor.submit(clients.run, draw(options.seed, number, options.steady)))
            futures[-1].add_done_callback(release)
            if number in marks:
                clients.world.up.wait()
                memory[marks[number]] = resident(clients.world.pid) / 1e6
                print(f"{number:>7} requests, {memory[marks[number]]:.0f} MB", flush=True)
            if number == options.requests // 2 and not options.steady:
                injector.kill_server.set()
            if len(futures) > 1000:
                for future in futures[:500]:
                    future.result()
                del futures[:500]
        for future in futures:
            future.result()


def _report(ledger: Ledger, memory: dict[int, float]) -> None:
    for name, count in sorted(
        ledger.counts.items(), key=lambda item: (item[0] in FORBIDDEN, item[0])
    ):
        print(f"{count:>7}  {name}")
    print(
        "memory of the server: "
        + ", ".join(f"{mb:.0f} MB at {share} %" for share, mb in sorted(memory.items()))
    )
    milliseconds, name = ledger.worst_callback
    print(f"longest callback of the event loop: {milliseconds} ms of CPU, {name}")
    if ledger.durations:
        times = [1000 * duration for duration in ledger.durations]
        p50, p99 = (percentile(times, rank) for rank in (50, 99))
        print(f"answers took {p50:.0f} ms (p50), {p99:.0f} ms (p99)")
    for line in ledger.offences():
        print(line, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
