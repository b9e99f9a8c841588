"""
Tests for `kiroworkers.pool.accepted_versions`.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.pool.accepted_versions import AcceptedVersions, ProgramVersion

_VERSION = ProgramVersion("kiro", "Kiro CLI", "kiro-cli 2.11.0", 1000, 1_764_441_000_000_000_001)


class AcceptedVersionsTests(SynchronousTestCase):
    """
    Tests for `AcceptedVersions`, whose thread works when the test says so.
    """

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.file = self.folder / "accepted-versions.json"
        self.writes: list[tuple[Callable[[], None], Deferred[None]]] = []
        self.versions = self.open()

    def open(self) -> AcceptedVersions:
        versions = AcceptedVersions(self.in_thread)
        versions.open(self.folder)
        return versions

    def in_thread(self, write: Callable[[], None]) -> Deferred[None]:
        self.writes.append((write, Deferred()))
        return self.writes[-1][1]

    def write(self) -> None:
        """
        Let the thread do its work.
        """
        write, written = self.writes.pop(0)
        try:
            write()
        except OSError:
            written.errback()
        else:
            written.callback(None)

    def test_kept(self) -> None:
        """
        The next server knows the version, and no version that differs in anything.
        """
        self.assertNotIn(_VERSION, self.versions)
        self.versions.add(_VERSION)
        self.write()
        self.assertEqual(stat.S_IMODE(self.file.stat().st_mode), 0o600)
        versions = self.open()
        self.assertIn(_VERSION, versions)
        for changes in ({"agent": "q"}, {"dialect": "TUI"}, {"line": "2"}, {"size": 1}):
            self.assertNotIn(evolve(_VERSION, **changes), versions)
        self.assertNotIn(evolve(_VERSION, modified=_VERSION.modified + 1), versions)

    def test_one_write_at_a_time(self) -> None:
        """
        A version that is added during a write is written after it.
        """
        second = evolve(_VERSION, agent="q")
        self.versions.add(_VERSION)
        self.versions.add(second)
        self.assertEqual(len(self.writes), 1)
        self.write()
        self.write()
        self.assertEqual(self.writes, [])
        self.assertIn(second, self.open())

    def test_bounded(self) -> None:
        """
        The oldest of more than 200 versions are forgotten.
        """
        for number in range(201):
            self.versions.add(evolve(_VERSION, size=number))
        while self.writes:
            self.write()
        versions = self.open()
        self.assertNotIn(evolve(_VERSION, size=0), versions)
        self.assertIn(evolve(_VERSION, size=1), versions)

    def test_broken(self) -> None:
        """
        A file that cannot be used leaves one line in the log, and is replaced.
        """
        lists = [f'{{"form": 1, "versions": {value}}}' for value in ("[{}]", "null", "1", '"a"')]
        for text in ("{", "[]", '{"form": 2}', *lists, "[" * 100_000):
            self.file.write_text(text)
            with capturedLogs() as logs:
                versions = self.open()
            self.assertEqual(len(logs), 1, text[:20])
            versions.add(_VERSION)
            self.write()
            self.assertIn(_VERSION, self.open())

    def test_not_written(self) -> None:
        """
        A disk that fails leaves a line in the log, and the version is still known here.
        """
        self.folder.rename(self.folder.with_suffix(".away"))
        with capturedLogs() as logs:
            self.versions.add(_VERSION)
            self.write()
        self.assertEqual(len(logs), 1)
        self.assertIn(_VERSION, self.versions)

    def test_without_folder(self) -> None:
        """
        Without a folder, versions are known as long as the server runs.
        """
        versions = AcceptedVersions(self.in_thread)
        versions.open(None)
        versions.add(_VERSION)
        self.assertIn(_VERSION, versions)
        self.assertEqual(self.writes, [])
