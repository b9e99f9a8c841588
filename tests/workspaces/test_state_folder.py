"""
Tests for `kiroworkers.workspaces.state_folder`.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.errors import CannotStart
from kiroworkers.workspaces.state_folder import StateFolder, lock_if_abandoned
from tests.programs import environment


class StateFolderTests(SynchronousTestCase):
    """
    Tests for `StateFolder`.
    """

    def setUp(self) -> None:
        self.top = Path(self.mktemp()).resolve()
        self.top.mkdir(parents=True)
        self.configured = self.top / "state"

    def refusal(self, configured: Path) -> str:
        with self.assertRaises(CannotStart) as raised:
            StateFolder(configured)
        return str(raised.exception)

    def test_configured(self) -> None:
        """
        A configured directory is created for its user only, and kept.
        """
        folder = StateFolder(self.configured)
        self.assertEqual((folder.path, folder.temporary), (self.configured, False))
        self.assertEqual(stat.S_IMODE(self.configured.stat().st_mode), 0o700)
        folder.release()
        self.assertTrue(self.configured.exists())

    def test_one_server(self) -> None:
        """
        A directory cannot be used by a second server until the first is gone.
        """
        folder = StateFolder(self.configured)
        self.assertIn("another server uses it", self.refusal(self.configured))
        folder.release()
        StateFolder(self.configured).release()

    def test_not_empty(self) -> None:
        """
        A directory with other files in it is refused, because it would be cleared.
        """
        (self.top / "precious").touch()
        self.assertIn("not empty", self.refusal(self.top))
        self.assertTrue((self.top / "precious").exists())

    def test_proofs(self) -> None:
        """
        Reports about agents may be in the directory before it is used first.
        """
        self.configured.mkdir(mode=0o700)
        (self.configured / "proofs").mkdir()
        (self.configured / "proofs" / "llm-0.36.json").touch()
        folder = StateFolder(self.configured)
        folder.clear()
        folder.release()
        self.assertTrue((self.configured / "proofs" / "llm-0.36.json").exists())

    def test_others(self) -> None:
        """
        A directory that any user may write to, or that belongs to another user, is refused.
        """
        StateFolder(self.configured).release()
        self.configured.chmod(0o1777)
        self.assertIn("any user may write to it", self.refusal(self.configured))
        self.configured.chmod(0o755)
        StateFolder(self.configured).release()
        self.patch(os, "geteuid", lambda: self.configured.stat().st_uid + 1)
        self.assertIn("it belongs to the user", self.refusal(self.configured))

    def test_links(self) -> None:
        """
        A symbolic link in the directory is removed, and what it points to stays as it was.
        """
        victim = self.top / "victim"
        (victim / "precious").mkdir(parents=True)
        victim.chmod(0o755)
        StateFolder(self.configured).release()
        (self.configured / "work").symlink_to(victim)
        folder = StateFolder(self.configured)
        folder.clear()
        self.assertFalse((self.configured / "work").is_symlink())
        self.assertTrue((victim / "precious").exists())
        self.assertEqual(stat.S_IMODE(victim.stat().st_mode), 0o755)
        folder.release()

    def test_leftovers(self) -> None:
        """
        What an earlier server left behind is cleared, and other files are kept.
        """
        StateFolder(self.configured).release()
        (self.configured / "work" / "worker1").mkdir(parents=True)
        folder = StateFolder(self.configured)
        (self.configured / "mine").mkdir()
        folder.clear()
        self.assertEqual([*(self.configured / "work").iterdir()], [])
        self.assertTrue((self.configured / "mine").exists())
        self.assertIn("another server", self.refusal(self.configured))
        folder.release()

    def test_read_only(self) -> None:
        """
        A tree with read-only directories can be removed.
        """
        script = (
            "import os, sys, tempfile; from pathlib import Path\n"
            "from kiroworkers.workspaces.state_folder import remove_tree\n"
            "if os.getuid() == 0: os.setuid(65534)\n"
            "top = Path(tempfile.mkdtemp()); (top / 'deep' / 'er').mkdir(parents=True)\n"
            "(top / 'deep' / 'er' / 'file').touch()\n"
            "for folder in (top / 'deep' / 'er', top / 'deep', top): folder.chmod(0o555)\n"
            "remove_tree(top); sys.exit(top.exists())\n"
        )
        completed = subprocess.run([sys.executable, "-c", script], env=environment(), check=False)
        self.assertEqual(completed.returncode, 0)

    def test_temporary(self) -> None:
        """
        Without a configured directory it is temporary, and those that dead servers left
        are removed; those of living servers and of other programs are kept.
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


class LockIfAbandonedTests(SynchronousTestCase):
    """
    Tests for `lock_if_abandoned`.
    """

    def test_abandoned(self) -> None:
        """
        A directory is abandoned if its server is gone, not if that lives or if it
        never belonged to a server.
        """
        top = Path(self.mktemp()).resolve()
        top.mkdir(parents=True)
        folder = StateFolder(top / "state")
        for path, expected in [
            (folder.path, False),
            (top, False),
            # Another server's temporary directory may be visible to that server only.
            (top / "kiroworkers-of-a-container", False),
            (top / "elsewhere", False),
        ]:
            with lock_if_abandoned(path) as is_abandoned:
                self.assertEqual(is_abandoned, expected, path)
        folder.release()
        with lock_if_abandoned(folder.path) as is_abandoned:
            self.assertTrue(is_abandoned)
