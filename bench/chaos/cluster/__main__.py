"""
Run three servers as one while everything around them fails, and count what must not happen.

The exit status is 1 if something of it happened; standard error then says what.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Thread

from bench.chaos.cluster import audit
from bench.chaos.cluster.clients import Clients
from bench.chaos.cluster.injector import Injector
from bench.chaos.cluster.ledger import Ledger
from bench.chaos.cluster.plan import LONGEST, Plan, draw
from bench.chaos.receivers import receiving
from bench.cluster.world import World, cluster

#: How many clients send at a time; those of a stopped server wait for it.
_THREADS = 200


def main() -> int:
    """
    Run as the arguments say, print what happened, and return the exit status.
    """
    parser = argparse.ArgumentParser("python -m bench.chaos.cluster", description=__doc__)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--live", type=int, default=2000, help="how many live requests")
    parser.add_argument("--lease", type=int, default=15, help="seconds; outages last 1 to 2 leases")
    parser.add_argument("--workers", type=int, default=6, help="of each server")
    parser.add_argument("--replace", type=int, default=3, help="how many servers")
    parser.add_argument("--think", type=float, default=0.3, help="seconds that most turns take")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--margin", type=float, default=3.0, help="seconds that a busy machine adds to a job's time"
    )
    parser.add_argument("--steady", action="store_true", help="nothing goes wrong")
    parser.add_argument("--keep", type=Path, help="folder for all logs and what clients saw")
    options = parser.parse_args()
    # What was started ends as well, although clients may wait for it.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    began = time.monotonic()
    ledger = Ledger()
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        lease = ("--lease", str(options.lease))
        with cluster(Path(name), 3, options.workers, *lease, cuttable=True) as world:
            print(f"{options.jobs} jobs, {options.live} live requests, seed {options.seed}")
            try:
                _run(world, ledger, options)
            finally:
                if options.keep is not None:
                    world.keep_logs(options.keep)
                    ledger.keep(options.keep / "attempts")
        _report(ledger)
    for line in ledger.offences():
        print(line, file=sys.stderr)
    print(f"in {time.monotonic() - began:.0f} s")
    return int(ledger.failed)


def _run(world: World, ledger: Ledger, options: argparse.Namespace) -> None:
    """
    Run everything.
    """
    limits = audit.Limits(options.lease, LONGEST * options.think, options.margin)
    injector = Injector(world, ledger, options.lease, options.replace)
    with receiving(ledger) as receivers:
        clients = Clients(world.port, ledger, receivers.url("healthy"))
        thread = Thread(target=injector.run)
        if not options.steady:
            thread.start()
        try:
            _send(clients, options, injector)
        finally:
            injector.over.set()
            if thread.ident is not None:
                thread.join()
        audit.finish_jobs(world.port, ledger)
        audit.check_healed(world, ledger)
        ports = [server.port for server in world.servers]
        audit.check_jobs(ports, ledger, limits)
        audit.check_callbacks(ledger)
        audit.replay(clients, ports)
    turns = world.turns()
    ledger.repeated = audit.check_turns(ledger, turns)
    ledger.lost = audit.check_attempts(ledger, turns)
    for server in world.servers:
        server.signal(signal.SIGTERM)
    for server in world.servers:
        if status := server.wait():
            ledger.forbid("unclean exits", f"{server.name}: status {status}")
    audit.check_ends(world, ledger)


def _send(clients: Clients, options: argparse.Namespace, injector: Injector) -> None:
    """
    Send all requests while the faults last; the arguments are those of `_run`.
    """
    plans = list(_plans(options))
    pause = (2.0 if options.steady else injector.duration) / len(plans)
    began = time.monotonic()
    with ThreadPoolExecutor(_THREADS) as executor:
        futures: list[Future[None]] = []
        try:
            for number, plan in enumerate(plans):
                time.sleep(max(0.0, began + number * pause - time.monotonic()))
                futures.append(executor.submit(clients.run, plan))
            for future in futures:
                future.result()
            if not options.steady:
                injector.finished.wait()
        finally:
            clients.over.set()


def _plans(options: argparse.Namespace) -> Iterator[Plan]:
    """
    Yield what all requests do, jobs and live requests in turn.
    """
    for number in range(max(options.jobs, options.live)):
        if number < options.jobs:
            yield draw(options.seed, "job", number, options.think)
        if number < options.live:
            yield draw(options.seed, "live", number, options.think)


def _report(ledger: Ledger) -> None:
    """
    Print a table of the faults, and how often everything has happened.
    """
    print(f"{'seconds':>9} {'lost':>6} {'asked again':>12}  fault")
    for fault in ledger.faults:
        lost, again = ledger.lost[fault], ledger.repeated[fault]
        name = f"{fault.kind} {fault.server}".rstrip()
        print(f"{fault.ended - fault.began:>9.1f} {lost:>6} {again:>12}  {name}")
    print(f"slowest job: {ledger.latest:.1f} s while there was a database, {ledger.latest_job}")
    for name, count in sorted(
        ledger.counts.items(), key=lambda item: (item[0] in ledger.forbidden, item[0])
    ):
        print(f"{count:>7}  {name}")


if __name__ == "__main__":
    sys.exit(main())
