"""
Measure what many turns cost: their time, the agent's memory, and its files.

These checks have no level: a slow agent, or one that grows, answers no less exactly.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from attrs import frozen
from twisted.internet.threads import deferToThreadPool

from kiroworkers.process.memory import memory_by_tree
from kiroworkers.proof.checks.asking import all_of, require_right
from kiroworkers.proof.checks.check import Check, Finding, failed, passed
from kiroworkers.proof.run import ProofRun

#: How many turns are timed.
_TIMED = 10

#: Memory that has grown by this factor and by this many bytes in a session is called growing.
_GROWTH, _MIN_GROWTH = 1.5, 32 * 1024**2

#: How often memory is measured.
_SAMPLES = 10

#: How many files the evidence names, and how many the details.
_NAMED, _LISTED = 2, 10

_MIB = 1024**2

_Result = TypeVar("_Result")


async def turnaround(proof: ProofRun) -> Finding:
    """
    Time turns as a client sees them, one at a time.
    """
    seconds = []
    for number in range(_TIMED):
        case = proof.new_case(f"a text to time, number {number}")
        response = await proof.ask(case)
        require_right(proof, case, response)
        seconds.append(response.seconds)
    return passed(
        f"median {median(seconds):.2f} s of {_TIMED} turns, {min(seconds):.2f} to "
        f"{max(seconds):.2f} s",
        median=round(median(seconds), 3),
        seconds=[round(second, 3) for second in seconds],
    )


@frozen
class Sample:
    """
    Hold what the sessions used at one time.

    Attributes:
        turns: How many turns were done.
        memory: The bytes of memory of each session, by its process.
    """

    turns: int
    memory: Mapping[int, int]


async def endurance(proof: ProofRun) -> Finding:
    """
    Take many turns, and compare the memory and the files before and after.
    """
    turns = proof.options.turns
    before = await _files(proof)
    samples = [await _sample(proof, 0)]
    size = max(1, turns // _SAMPLES)
    done = 0
    while done < turns:
        numbers = iter(range(done, min(turns, done + size)))
        await all_of(_ask_all(proof, numbers) for _ in proof.server.workers)
        done = min(turns, done + size)
        samples.append(await _sample(proof, done))
    grown = growth(before, await _files(proof))
    per_turn = sum(grown.values()) / turns
    largest = sorted(grown.items(), key=lambda item: -item[1])
    early, late = memory_early_and_late(samples)
    names = ", ".join(f"{path} {bytes_ // 1024} KiB" for path, bytes_ in largest[:_NAMED])
    evidence = (
        f"{turns} turns: {early / _MIB:.0f} MiB a session at first, {late / _MIB:.0f} MiB at "
        f"last; files grew by {per_turn:,.0f} bytes a turn{f' ({names})' if names else ''}"
    )
    details: dict[str, Any] = {
        "turns": turns,
        "memory": {
            "early": early,
            "late": late,
            "ratio": round(late / early, 2) if early else None,
        },
        "processes": len({pid for sample in samples for pid in sample.memory}),
        "samples": [
            {"turns": sample.turns, "bytes": sorted(sample.memory.values())} for sample in samples
        ],
        "bytesPerTurn": round(per_turn),
        "files": [{"path": path, "growth": bytes_} for path, bytes_ in largest[:_LISTED]],
    }
    if late > early * _GROWTH and late - early > _MIN_GROWTH:
        return failed(f"memory grows: {evidence}", **details)
    return passed(evidence, **details)


def memory_early_and_late(samples: list[Sample]) -> tuple[float, float]:
    """
    Return the memory of a session in the first and in the last third of `samples`, in bytes.

    It is the median over the sessions and the samples.  The first sample does not count if there
    are others: some agents load a part of themselves in their first turn.
    """
    samples = [sample for sample in samples if sample.memory]
    samples = samples[1:] or samples
    if not samples:
        return 0.0, 0.0
    third = max(1, len(samples) // 3)

    def middle(some: Iterable[Sample]) -> float:
        return float(median(size for sample in some for size in sample.memory.values()))

    return middle(samples[:third]), middle(samples[-third:])


def growth(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """
    Return by how many bytes each file has grown, without those that have not.
    """
    grown = {path: size - before.get(path, 0) for path, size in after.items()}
    return {path: bytes_ for path, bytes_ in grown.items() if bytes_ > 0}


async def _ask_all(proof: ProofRun, numbers: Iterator[int]) -> None:
    """
    Ask a case for each of `numbers`, which may be shared.
    """
    for number in numbers:
        case = proof.new_case(f"a text of an ordinary length, number {number}")
        require_right(proof, case, await proof.ask(case))


async def _sample(proof: ProofRun, turns: int) -> Sample:
    workers = (await proof.server.health())["workers"].values()
    pids = [worker["pid"] for worker in workers if worker["pid"] is not None]
    measured = await _in_thread(proof, memory_by_tree, pids)
    # A session that is about to be replaced has no process any more.
    return Sample(turns, {pid: size for pid, size in measured.items() if size})


async def _files(proof: ProofRun) -> dict[str, int]:
    """
    Return the sizes of the files in the agent's home and in the folder of the sessions.
    """
    folders = [folder for folder in (proof.setup.home, proof.setup.folder) if folder is not None]
    return await _in_thread(proof, sizes, proof.setup.root, folders)


def sizes(root: Path, folders: Iterable[Path]) -> dict[str, int]:
    """
    Return the sizes of all files below `folders` by their paths relative to `root`.

    Blocks.
    """
    found = {}
    for folder in folders:
        for parent, _, names in os.walk(folder):
            for name in names:
                path = Path(parent, name)
                try:
                    found[str(path.relative_to(root))] = path.lstat().st_size
                except OSError:
                    continue  # The agent has removed it.
    return found


async def _in_thread(proof: ProofRun, function: Callable[..., _Result], *arguments: Any) -> _Result:
    pool = proof.reactor.getThreadPool()
    result: _Result = await deferToThreadPool(proof.reactor, pool, function, *arguments)
    return result


CHECKS = (
    Check("turnaround", None, turnaround),
    Check("endurance", None, endurance, time_limit=1800.0),
)
