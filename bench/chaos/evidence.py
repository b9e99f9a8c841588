"""
Keep what an operator has to explain failures with: logs, history, jobs and metrics.

What clients saw is kept beside it; what was done to the server is not.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.chaos.ledger import Ledger
from bench.chaos.world import World


def keep_answers(world: World, folder: Path) -> None:
    """
    Write to `folder` what the server says about itself while it still runs.

    ``requests.jsonl`` and ``jobs.jsonl`` have one object a line, newest first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "requests.jsonl").open("w") as file:
        for summary in _all(world, "/requests?limit=200", "requests"):
            events = world.get(f"/requests/{summary['id']}").json()
            # The newest one of an identifier is shown; the summary is that of this one.
            while events["received"] != summary["received"] and events.get("older"):
                events = world.get(events["older"]).json()
            file.write(json.dumps(events) + "\n")
    with (folder / "jobs.jsonl").open("w") as file:
        for job in _all(world, "/jobs?limit=200", "jobs"):
            file.write(json.dumps(world.get(f"/jobs/{job['id']}").json()) + "\n")
    for name in ("health", "metrics", "requests"):
        (folder / name).write_bytes(world.get(f"/{name}").body)


def keep_files(world: World, ledger: Ledger, folder: Path) -> None:
    """
    Write the logs, and what clients saw, to `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if world.log.exists():
        shutil.copy(world.log, folder / "main.log")
    if (world.state / "logs").exists():
        shutil.copytree(world.state / "logs", folder / "logs", dirs_exist_ok=True)
    with (folder / "clients.jsonl").open("w") as file:
        file.writelines(json.dumps(failure) + "\n" for failure in ledger.failures)


def _all(world: World, path: str | None, name: str) -> Iterator[Any]:
    while path is not None:
        page = world.get(path).json()
        yield from page[name]
        path = page["next"]
