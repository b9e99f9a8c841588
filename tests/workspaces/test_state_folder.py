"""
Tests for `kiroworkers.workspaces.state_folder`.
"""

from __future__ import annotations

import stat
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.errors import CannotStart
from kiroworkers.workspaces.state_folder import StateFolder, deserted
from tests.programs import environment


class StateFolderTests(SynchronousTestCase):
    """
    Tests for `StateFolder`.
    """

    def setUp(self) -> None:
        self.top = Path(self.mktemp()).resolve()
        self.top.mkdir(parents=True)
        self.given = self.top / "state"

    def refused(self, given: Path) -> str:
        with self.assertRaises(CannotStart) as raised:
            StateFolder(given)
        return str(raised.exception)

    def test_given(self) -> None:
        """
        A given folder is made for the user's eyes only, and kept.
        """
        folder = StateFolder(self.given)
        self.assertEqual((folder.path, folder.temporary), (self.given, False))
        self.assertEqual(stat.S_IMODE(self.given.stat().st_mode), 0o700)
        folder.release()
        self.assertTrue(self.given.exists())

    def test_one_server(self) -> None:
        """
        A folder is one server's, until that is gone.
        """
        folder = StateFolder(self.given)
        self.assertIn("another server uses it", self.refused(self.given))
        folder.release()
        StateFolder(self.given).release()

    def test_somebody_elses(self) -> None:
        """
        A folder with other things in it is refused: it will be emptied.
        """
        (self.top / "precious").touch()
        self.assertIn("not empty", self.refused(self.top))
        self.assertTrue((self.top / "precious").exists())

    def test_leftovers(self) -> None:
        """
        What a server before left there can be removed.
        """
        StateFolder(self.given).release()
        (self.given / "work" / "worker1").mkdir(parents=True)
        folder = StateFolder(self.given)
        (self.given / "mine").mkdir()
        folder.empty()
        self.assertEqual([*(self.given / "work").iterdir()], [])
        self.assertTrue((self.given / "mine").exists())
        self.assertIn("another server", self.refused(self.given))
        folder.release()

    def test_nobody_may_write(self) -> None:
        """
        So can what an agent made so that nobody may write there.
        """
        script = (
            "import os, sys, tempfile; from pathlib import Path\n"
            "from kiroworkers.workspaces.state_folder import remove_tree\n"
            "if os.getuid() == 0: os.setuid(65534)\n"
            "top = Path(tempfile.mkdtemp()); (top / 'deep' / 'er').mkdir(parents=True)\n"
            "(top / 'deep' / 'er' / 'file').touch()\n"
            "for each in (top / 'deep' / 'er', top / 'deep', top): each.chmod(0o555)\n"
            "remove_tree(top); sys.exit(top.exists())\n"
        )
        done = subprocess.run([sys.executable, "-c", script], env=environment(), check=False)
        self.assertEqual(done.returncode, 0)

    def test_temporary(self) -> None:
        """
        Without one it is temporary, and those that dead servers left are removed;
        one of a server that lives is not, nor what was never a server's.
        """
        self.patch(tempfile, "tempdir", str(self.top))
        (self.top / "kiroworkers-other").mkdir()
        alive, dead = StateFolder(None), StateFolder(None)
        self.assertTrue(alive.temporary)
        dead.release()
        third = StateFolder(None)
        self.assertEqual(
            set(self.top.iterdir()), {alive.path, third.path, self.top / "kiroworkers-other"}
        )
        alive.release()
        third.release()


class DesertedTests(SynchronousTestCase):
    """
    Tests for `deserted`.
    """

    def test_deserted(self) -> None:
        """
        A folder is deserted when its server is gone, not when it lives, and not
        when it was no server's.
        """
        top = Path(self.mktemp()).resolve()
        top.mkdir(parents=True)
        folder = StateFolder(top / "state")
        for path, expected in [
            (folder.path, False),
            (top, False),
            # Another's temporary one may be where only that can see it.
            (top / "kiroworkers-of-a-container", False),
            (top / "elsewhere", False),
        ]:
            with deserted(path) as found:
                self.assertEqual(found, expected, path)
        folder.release()
        with deserted(folder.path) as found:
            self.assertTrue(found)
