"""
Remember, also for the next server, which versions of agents have passed their canary.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from attrs import asdict, frozen
from cattrs import BaseValidationError, Converter
from twisted.internet.defer import Deferred
from twisted.logger import Logger

_FILE = "accepted-versions.json"

#: The version of the form of the file.
_FORM = 1

#: The maximum number of versions that are remembered; the oldest are forgotten first.
_MAX_VERSIONS = 200

#: The maximum size of the file, in bytes.
_MAX_SIZE = 1024**2

_converter = Converter()


@frozen
class ProgramVersion:
    """
    Represent one version of an agent's program.

    The file's size and time are part of it, because a build may keep the number of the one
    before, and some programs do not say a number.

    Attributes:
        agent: The agent's name.
        dialect: The label of the dialect that it is driven with.
        line: The line in which the program says its version; empty if it says none.
        size: The size of the program's file, in bytes.
        modified: When that file was modified, in nanoseconds since 1970.
    """

    agent: str
    dialect: str
    line: str
    size: int
    modified: int


class AcceptedVersions:
    """
    Hold the versions that passed, and write them to a file.

    Without a file, they are kept as long as the server runs.

    Args:
        in_thread: Calls a function where it may wait for the disk.
    """

    _log = Logger()

    def __init__(self, in_thread: Callable[[Callable[[], None]], Deferred[None]]) -> None:
        self._in_thread = in_thread
        self._versions: dict[ProgramVersion, None] = {}
        self._file: Path | None = None
        # Writes follow each other, so that the last one wins.
        self._writing: Deferred[None] | None = None
        self._unwritten = False

    def __contains__(self, version: ProgramVersion) -> bool:
        return version in self._versions

    def open(self, folder: Path | None) -> None:
        """
        Read what an earlier server has left.  Blocks.

        A file that cannot be used is logged, and replaced by the next version.

        Args:
            folder: The folder that is kept for the next server; None for none.
        """
        if folder is None:
            return
        self._file = folder / _FILE
        try:
            for version in _read(self._file):
                self._versions[version] = None
        except FileNotFoundError:
            pass
        except (OSError, ValueError, RecursionError, BaseValidationError) as error:
            self._log.warn(
                "{file} cannot be used ({error}): which versions passed their canary is unknown",
                file=self._file,
                error=type(error).__name__ if isinstance(error, ValueError) else error,
            )

    def add(self, version: ProgramVersion) -> None:
        """
        Remember `version`.
        """
        self._versions.pop(version, None)
        self._versions[version] = None
        while len(self._versions) > _MAX_VERSIONS:
            del self._versions[next(iter(self._versions))]
        self._unwritten = True
        if self._writing is None and self._file is not None:
            self._write(self._file)

    def _write(self, file: Path) -> None:
        self._unwritten = False
        self._writing = self._in_thread(partial(_replace, file, tuple(self._versions)))
        self._writing.addErrback(
            lambda failure: self._log.warn(
                "{file} cannot be written ({error}): the next server asks for another canary",
                file=file,
                error=failure.getErrorMessage(),
            )
        ).addCallback(self._written, file)

    def _written(self, _: None, file: Path) -> None:
        self._writing = None
        if self._unwritten:
            self._write(file)


def _read(file: Path) -> Sequence[ProgramVersion]:
    with open(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as opened:
        data = json.loads(opened.read(_MAX_SIZE))
    if not isinstance(data, dict) or data.get("form") != _FORM:
        raise ValueError("another form")
    entries = data.get("versions")
    if not isinstance(entries, list):
        raise ValueError("no list of versions")
    versions: Sequence[ProgramVersion] = _converter.structure(entries, tuple[ProgramVersion, ...])
    return versions[-_MAX_VERSIONS:]


def _replace(file: Path, versions: Sequence[ProgramVersion]) -> None:
    """
    Replace `file` at once, so that it is complete at any time.
    """
    new_file = file.with_name(f"{_FILE}.new")
    data = {"form": _FORM, "versions": [asdict(version) for version in versions]}
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    with open(os.open(new_file, flags, 0o600), "w", encoding="utf-8") as opened:
        json.dump(data, opened, ensure_ascii=False, indent=1)
    os.rename(new_file, file)
