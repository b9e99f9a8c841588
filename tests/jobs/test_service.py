"""
Tests for `kiroworkers.jobs.service` and `place`.
"""

from __future__ import annotations

import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.errors import InvalidSetting
from kiroworkers.jobs.paths import default_folder, jobs_file
from kiroworkers.jobs.service import read_secret
from kiroworkers.workspaces.state_folder import StateFolder


class PlaceTests(SynchronousTestCase):
    """
    Tests for where jobs are kept.
    """

    def test_usual(self) -> None:
        """
        Each place to listen at has a folder of its own, for the user; one that
        the next server could not know has none.
        """
        for environ, expected in [
            ({"HOME": "/home/a"}, "/home/a/.local/state/kiroworkers/tcp-8080-interface=127.0.0.1"),
            ({"HOME": "/home/a", "XDG_STATE_HOME": "/s"},
             "/s/kiroworkers/tcp-8080-interface=127.0.0.1"),
            ({"HOME": "/home/a", "XDG_STATE_HOME": "s"},
             "/home/a/.local/state/kiroworkers/tcp-8080-interface=127.0.0.1"),
        ]:  # fmt: skip
            found = default_folder(environ, "tcp:8080:interface=127.0.0.1", 8080)
            self.assertEqual(found, Path(expected))
        self.assertIsNone(default_folder({"HOME": "/home/a"}, "tcp:0:interface=127.0.0.1", 0))
        self.assertIsNone(default_folder({}, "tcp:8080", 8080))
        self.assertEqual(
            default_folder({"HOME": "/h"}, "unix:/run/../k.sock", -1),
            Path("/h/.local/state/kiroworkers/unix-run-..-k.sock"),
        )

    def test_stays(self) -> None:
        """
        Jobs stay when a state folder is emptied, and are for the user's eyes only.
        """
        folder = StateFolder(Path(self.mktemp()))
        self.addCleanup(folder.release)
        file = jobs_file(folder.path)
        file.touch()
        (folder.path / "work" / "worker1").mkdir(parents=True)
        folder.empty()
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
        White space around the secret is no part of it; one that could be guessed
        is refused, and not told.
        """
        file = Path(self.mktemp())
        file.write_text("  a secret of the tests\n")
        self.assertEqual(read_secret(file), b"a secret of the tests")
        file.write_text("too short\n")
        with self.assertRaises(InvalidSetting) as raised:
            read_secret(file)
        self.assertNotIn("too short", str(raised.exception))
