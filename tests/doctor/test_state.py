"""
Tests for `kiroworkers.doctor.state`.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.doctor.finding import Outcome
from kiroworkers.doctor.state import (
    check_disk,
    check_file_system,
    check_state_folder,
    file_system,
)
from kiroworkers.workspaces.state_folder import StateFolder
from tests.programs import folder_outside

_MIB = 1024**2

_MOUNTS = """\
/dev/sda1 / ext4 rw,relatime 0 0
tmpfs /tmp tmpfs rw 0 0
server:/home /home nfs4 rw 0 0
/dev/sdb1 /home/with\\040space xfs rw 0 0
"""


def _free(space: int, path: Path) -> int:
    """
    Return `space`, the number of free bytes at any path.
    """
    return space


class StateFolderTests(SynchronousTestCase):
    """
    Tests for `check_state_folder`.
    """

    def setUp(self) -> None:
        self.folder = folder_outside(self) / "state"

    def assert_finding(self, outcome: Outcome, part: str, configured: bool = True) -> None:
        finding = check_state_folder(self.folder, configured)
        self.assertIs(finding.outcome, outcome, finding)
        self.assertIn(part, finding.detail)

    def test_new(self) -> None:
        """
        A folder that does not exist is created by the server, if its parent is writable; a
        check creates nothing.
        """
        self.assert_finding(Outcome.OK, "will be created")
        self.assertFalse(self.folder.exists())
        finding = check_state_folder(self.folder, True, lambda path: False)
        self.assertIs(finding.outcome, Outcome.FAILURE)
        self.assertIn(f"-o {os.geteuid()} {self.folder}", finding.advice)
        self.assertIs(check_state_folder(self.folder / "a" / "b", True).outcome, Outcome.FAILURE)

    def test_none(self) -> None:
        """
        Without any folder jobs are lost, which is a warning.
        """
        self.assertIs(check_state_folder(None, False).outcome, Outcome.WARNING)

    def test_in_use(self) -> None:
        """
        A folder that a server holds is reported as such, and is left to that server.
        """
        held = StateFolder(self.folder)
        self.assert_finding(Outcome.WARNING, "in use by a running server")
        held.release()
        self.assert_finding(Outcome.OK, str(self.folder))
        StateFolder(self.folder).release()

    def test_unusable(self) -> None:
        """
        A folder that cannot be written to, that anybody can write to, or that has other files
        in it is a failure; that of a server without --state-dir is a warning.
        """
        self.folder.mkdir()
        finding = check_state_folder(self.folder, True, lambda path: False)
        self.assertIn("cannot be written to", finding.detail)
        self.folder.chmod(0o777)
        self.assert_finding(Outcome.FAILURE, "chmod o-w")
        self.assert_finding(Outcome.WARNING, "chmod o-w", configured=False)
        self.folder.chmod(0o700)
        (self.folder / "thesis.txt").write_text("x")
        self.assert_finding(Outcome.FAILURE, "was not created by kiroworkers")


class DiskTests(SynchronousTestCase):
    """
    Tests for `check_disk` and `check_file_system`.
    """

    def test_disk(self) -> None:
        """
        A full disk is a failure, and too little space for all jobs is a warning.
        """
        folder = folder_outside(self) / "not" / "there"
        for free, outcome in [
            (2000 * _MIB, Outcome.OK),
            (500 * _MIB, Outcome.WARNING),
            (_MIB, Outcome.FAILURE),
        ]:
            finding = check_disk(folder, 1024 * _MIB, partial(_free, free))
            self.assertIs(finding.outcome, outcome, finding)
        self.assertIs(check_disk(None, 1, lambda path: 0).outcome, Outcome.OK)

    def test_file_system(self) -> None:
        """
        The type is that of the innermost mount.
        """
        for path, kind in [
            ("/", "ext4"),
            ("/tmp", "tmpfs"),
            ("/home/kiro", "nfs4"),
            ("/home/with space/kiro", "xfs"),
            ("/homes", "ext4"),
        ]:
            self.assertEqual(file_system(Path(path), _MOUNTS), kind)
        self.assertIsNone(file_system(Path("/"), "nonsense"))

    def test_unsuitable(self) -> None:
        """
        A file system that is not kept, or whose locks are not reliable, is a warning.
        """
        folder = folder_outside(self)
        for kind, outcome in [
            ("ext4", Outcome.OK),
            ("tmpfs", Outcome.WARNING),
            ("nfs4", Outcome.WARNING),
        ]:
            finding = check_file_system(folder / "new", f"x / {kind} rw 0 0\n")
            self.assertIs(finding.outcome, outcome, finding)
        self.assertIs(check_file_system(None, "x / tmpfs rw 0 0\n").outcome, Outcome.OK)
