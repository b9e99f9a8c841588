"""
Tests for `kiroworkers.proof.checks.disk`.
"""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.proof.checks.disk import Kept, files_with_cases

ONE, TWO = "case-0000000000000001", "case-0000000000000002"


class FilesTests(SynchronousTestCase):
    """
    Tests for `files_with_cases`.
    """

    def test_found(self) -> None:
        """
        Files that hold identifiers are found, the largest first, whatever else they hold; links
        and files without one are not.
        """
        root = Path(self.mktemp())
        home, folder = root / "home", root / "folder"
        (home / "sessions").mkdir(parents=True)
        folder.mkdir()
        (home / "sessions" / "1.jsonl").write_bytes(b"\xff\0" + f"{ONE} {TWO} {ONE}".encode())
        (folder / "memory.md").write_text(ONE)
        (folder / "other").write_text("case-1 in point")
        (folder / "link").symlink_to("memory.md")
        (folder / "broken").symlink_to("nothing")
        self.assertEqual(
            files_with_cases(root, [home, folder, root / "none"]),
            [Kept("home/sessions/1.jsonl", 67, 2), Kept("folder/memory.md", 21, 1)],
        )
