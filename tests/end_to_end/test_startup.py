"""
End-to-end tests for what a server checks, refuses and warns about at its start.
"""

from __future__ import annotations

import stat
import subprocess
import sys

from twisted.trial.unittest import SkipTest

from tests.servers import ServerTestCase


class StartupTestCase(ServerTestCase):
    """
    A test of a server that cannot start.
    """

    async def assert_refused(self, reason: str, *options: str) -> None:
        """
        Run a server that cannot start; it exits with status 78 before its port opens, and
        its last line is the reason.
        """
        program = self.run_twistd("--agent", "offline", "--port", "0", *options)
        self.assertEqual(await program.ended, 78, program.output)
        self.assertNotIn("Traceback", program.output)
        self.assertNotIn("listening", program.output)
        self.assertIn(reason, program.output.splitlines()[-1])


class StartupTests(StartupTestCase):
    """
    Tests for the start of a server.
    """

    async def test_state_dir(self) -> None:
        """
        A state folder that cannot be used is found before the port opens.
        """
        await self.assert_refused("kiroworkers: --state-dir: ", "--state-dir", "/proc/nowhere")
        shared = self.folder / "shared"
        shared.mkdir()
        shared.chmod(0o777)
        reason = f"kiroworkers: --state-dir {shared}: any user may write to it"
        await self.assert_refused(reason, "--state-dir", str(shared))

    async def test_log_file(self) -> None:
        """
        A log file that cannot be opened is the reason.
        """
        self.foreground = (*self.foreground[:2], "-n", "--logfile=/proc/nowhere", "kiroworkers")
        await self.assert_refused("kiroworkers: --logfile: ")

    async def test_reason_in_the_log(self) -> None:
        """
        A server that logs to a file has the reason there as well.
        """
        log = self.folder / "log"
        self.foreground = (*self.foreground[:2], "-n", "--pidfile=", f"-l{log}", "kiroworkers")
        await self.assert_refused("kiroworkers: --state-dir: ", "--state-dir", "/proc/nowhere")
        self.assertIn("#critical] kiroworkers: --state-dir: ", log.read_text().splitlines()[-1])

    async def test_warnings(self) -> None:
        """
        A variable whose name is misspelt and secrets that any user can read are warnings;
        a Unix socket is closed to other users.
        """
        tokens, secret, socket = (self.folder / name for name in ("tokens", "secret", "socket"))
        tokens.write_text("me ask 0123456789abcdef\n")
        secret.write_text("0123456789abcdef")
        for file in (tokens, secret):
            file.chmod(0o644)
        self.server = self.run_twistd(
            *("--agent", "offline", "--token-file", str(tokens), "--listen", f"unix:{socket}"),
            *("--callback-secret-file", str(secret)),
            KIROWORKERS_WROKERS="3",
            KIROWORKERS_OFFLINE_DELAY="0",
        )
        self.addCleanup(self.stop)
        await self.server.says("worker1: ready")
        self.assertIn(
            "KIROWORKERS_WROKERS is unknown; did you mean KIROWORKERS_WORKERS?", self.server.output
        )
        self.assertNotIn("KIROWORKERS_OFFLINE_DELAY", self.server.output)
        self.assertIn(f"--token-file {tokens}: any user can read it", self.server.output)
        self.assertIn(f"--callback-secret-file {secret}: any user can read", self.server.output)
        self.assertEqual(stat.S_IMODE(socket.stat().st_mode), 0o660)


#: A Python whose file systems are all read-only.
_READ_ONLY = f"""#!/bin/sh
exec unshare -rm sh -ec '
    for folder in /tmp /var/tmp; do mount -t tmpfs -o ro none $folder; done
    mount -o remount,ro,bind /
    cd /
    exec {sys.executable} "$@"
' sh "$@"
"""


class ReadOnlyTests(StartupTestCase):
    """
    Tests for a server that may write nowhere, not even to /tmp.
    """

    forked = False

    async def test_no_temporary_folder(self) -> None:
        """
        A server that needs a folder for its sessions, and can make none, says so.
        """
        python = self.folder / "python"
        python.write_text(_READ_ONLY)
        python.chmod(0o755)
        if subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode:
            raise SkipTest("this machine allows no mounts in a namespace")
        self.patch(sys, "executable", str(python))
        await self.assert_refused("No usable temporary directory", "--workdir", "per-worker")
