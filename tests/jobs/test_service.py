"""
Tests for `kiroworkers.jobs.service` and `paths`.
"""

from __future__ import annotations

import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.errors import InvalidSetting
from kiroworkers.jobs.paths import default_state_dir, jobs_file
from kiroworkers.jobs.service import read_secret
from kiroworkers.settings import Settings
from kiroworkers.workspaces.state_folder import StateFolder


class PathTests(SynchronousTestCase):
    """
    Tests for where jobs are kept.
    """

    def test_default(self) -> None:
        """
        Each endpoint has a folder of its own, below the user's; one that the next server
        could not find again has none.
        """
        for environ, expected in [
            ({"HOME": "/home/a"}, "/home/a/.local/state/kiroworkers/tcp-8080-interface=127.0.0.1"),
            ({"HOME": "/home/a", "XDG_STATE_HOME": "/s"},
             "/s/kiroworkers/tcp-8080-interface=127.0.0.1"),
            ({"HOME": "/home/a", "XDG_STATE_HOME": "s"},
             "/home/a/.local/state/kiroworkers/tcp-8080-interface=127.0.0.1"),
        ]:  # fmt: skip
            folder = default_state_dir(environ, "tcp:8080:interface=127.0.0.1", 8080)
            self.assertEqual(folder, Path(expected))
        self.assertIsNone(default_state_dir({"HOME": "/home/a"}, "tcp:0:interface=127.0.0.1", 0))
        self.assertIsNone(default_state_dir({}, "tcp:8080", 8080))
        self.assertEqual(
            default_state_dir({"HOME": "/h"}, "unix:/run/../k.sock", -1),
            Path("/h/.local/state/kiroworkers/unix-run-..-k.sock"),
        )

    def test_more_connections(self) -> None:
        """
        A server keeps its folder when its --max-connections changes.
        """
        folders = {
            default_state_dir({"HOME": "/h"}, Settings.read(flags, {}).endpoint, 8080)
            for flags in ({}, {"max-connections": "5"}, {"interface": "127.0.0.1"})
        }
        self.assertEqual(
            folders, {Path("/h/.local/state/kiroworkers/tcp-8080-interface=127.0.0.1")}
        )

    def test_survives_clearing(self) -> None:
        """
        Jobs stay when a state folder is cleared, and only the user can read them.
        """
        folder = StateFolder(Path(self.mktemp()))
        self.addCleanup(folder.release)
        file = jobs_file(folder.path)
        file.touch()
        (folder.path / "work" / "worker1").mkdir(parents=True)
        folder.clear()
        self.assertEqual(jobs_file(folder.path), file)
        self.assertTrue(file.exists())
        self.assertEqual([*(folder.path / "work").iterdir()], [])
        self.assertEqual(stat.S_IMODE(file.parent.stat().st_mode), 0o700)


class SecretTests(SynchronousTestCase):
    """
    Tests for `read_secret`.
    """

    def test_read(self) -> None:
        """
        White space around the secret is ignored; a secret that could be guessed is
        rejected, and the error does not show it.
        """
        file = Path(self.mktemp())
        file.write_text("  a secret of the tests\n")
        self.assertEqual(read_secret(file), b"a secret of the tests")
        file.write_text("too short\n")
        with self.assertRaises(InvalidSetting) as raised:
            read_secret(file)
        self.assertNotIn("too short", str(raised.exception))
