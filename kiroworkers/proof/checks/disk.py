"""
Measure what an agent keeps of prompts on disk.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from attrs import frozen
from twisted.internet.threads import deferToThreadPool

from kiroworkers.proof.case import CASE_ID
from kiroworkers.proof.checks.check import Check, Finding, passed
from kiroworkers.proof.run import ProofRun

#: The beginning of every identifier of a case, as bytes.
_MARK = b"case-"

#: The largest file that is searched, in bytes.
_MAX_SIZE = 256 * 1024**2

#: How many files the evidence names, and how many the details.
_NAMED, _LISTED = 2, 50

#: How long a name in the evidence may be, in characters.
_NAME_LENGTH = 60

_CASE_ID = re.compile(CASE_ID.pattern.encode())


@frozen
class Kept:
    """
    Hold what one file keeps.

    Attributes:
        path: Its path below the folder of the proof.
        size: Its size in bytes.
        cases: How many cases it has text of.
    """

    path: str
    size: int
    cases: int


def files_with_cases(root: Path, folders: Iterable[Path]) -> list[Kept]:
    """
    Return the files below `folders` that hold identifiers of cases, the largest first.

    Blocks.

    Args:
        root: Paths in the result are relative to it.
        folders: The folders to search.
    """
    kept = []
    for folder in folders:
        for parent, _, names in os.walk(folder):
            for name in names:
                path = Path(parent, name)
                try:
                    if path.is_symlink() or not path.is_file():
                        continue
                    size = path.stat().st_size
                    content = path.read_bytes() if size <= _MAX_SIZE else b""
                except OSError:
                    continue  # The agent has removed it.
                cases = set(_CASE_ID.findall(content)) if _MARK in content else set()
                if cases:
                    kept.append(Kept(str(path.relative_to(root)), size, len(cases)))
    return sorted(kept, key=lambda file: -file.size)


def _end(path: str) -> str:
    return path if len(path) <= _NAME_LENGTH else "…" + path[1 - _NAME_LENGTH :]


async def kept_on_disk(proof: ProofRun) -> Finding:
    """
    Search the agent's home, the folder of the sessions and their own folders.
    """
    setup = proof.setup
    folders = [folder for folder in (setup.home, setup.folder, setup.state_dir) if folder]
    kept = await deferToThreadPool(
        proof.reactor, proof.reactor.getThreadPool(), files_with_cases, setup.root, folders
    )
    if not kept:
        return passed("no file holds a prompt", files=[])
    size = sum(file.size for file in kept)
    names = ", ".join(_end(file.path) for file in kept[:_NAMED])
    names += " …" if len(kept) > _NAMED else ""
    return passed(
        f"{len(kept)} files with prompts, {size / 1024:.0f} KiB: {names}",
        files=[
            {"path": file.path, "bytes": file.size, "cases": file.cases} for file in kept[:_LISTED]
        ],
    )


CHECKS = (Check("kept on disk", None, kept_on_disk),)
