"""
Tests for `kiroworkers.telemetry.rotated_file`.
"""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.telemetry.rotated_file import RotatedFile


class RotatedFileTests(SynchronousTestCase):
    """
    Tests for `RotatedFile`.
    """

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.path = self.folder / "a.log"
        self.file = self.new_file()

    def new_file(self) -> RotatedFile:
        file = RotatedFile(self.path, max_size=10, kept=2)
        self.addCleanup(file.close)
        return file

    def contents(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in self.folder.iterdir()}

    def test_rotation(self) -> None:
        """
        A file that has reached its size becomes an earlier one, and the oldest is lost.
        """
        for text in ("one", "two", "three", "four", "fives", "sixsix", "long" * 5, "end"):
            self.file.write(text.encode())
        expected = {"a.log": "end", "a.log.1": "long" * 5, "a.log.2": "sixsix"}
        self.assertEqual(self.contents(), expected)

    def test_next_server(self) -> None:
        """
        A file is continued by the next server, and begun anew if it is full.
        """
        self.file.write(b"123456")
        self.new_file().write(b"789")
        self.assertEqual(self.contents(), {"a.log": "123456789"})
        self.new_file().write(b"abc")
        self.assertEqual(self.contents(), {"a.log": "abc", "a.log.1": "123456789"})

    def test_closed(self) -> None:
        """
        A file that was closed is opened again.
        """
        self.file.write(b"a")
        self.file.close()
        self.file.close()
        self.file.write(b"b")
        self.assertEqual(self.contents(), {"a.log": "ab"})

    def test_private(self) -> None:
        """
        Only the owner can read the files, and no link is followed.
        """
        self.addCleanup(os.umask, os.umask(0))
        self.file.write(b"a")
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        self.path.rename(self.folder / "target")
        self.path.symlink_to("target")
        with self.assertRaises(OSError):
            self.new_file().write(b"b")
