"""
End-to-end tests for ``kiroworkers serve``: a real server, started by ``python -m kiroworkers``.
"""

from __future__ import annotations

import socket

from tests.servers import ServerTestCase


class ServeTests(ServerTestCase):
    """
    Tests for a server in the foreground.
    """

    forked = False
    foreground = ("-m", "kiroworkers", "serve")

    async def test_serves(self) -> None:
        """
        The server answers, stops at SIGTERM with status 0, and leaves no pid file.
        """
        await self.start("--agent", "offline", workers=1)
        response, story = await self.story("Export the list")
        self.assertEqual((response.code, story["storyPoint"] > 0), (200, True))
        self.assertEqual(await self.server.signal("TERM"), 0)
        self.assertIn("Server Shut Down", self.server.output)
        self.assertFalse((self.folder / "twistd.pid").exists())


class ExitStatusTests(ServerTestCase):
    """
    Tests for a server that cannot start.
    """

    foreground = ("-m", "kiroworkers", "serve")

    async def test_cannot_start(self) -> None:
        """
        An invalid option, a port that is taken, and a file that cannot be used end the
        server with statuses of their own and the reason in the last line.
        """
        taken = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(taken.close)
        port = str(taken.getsockname()[1])
        secret = self.folder / "secret"
        secret.write_text("short")
        for status, options, reason in [
            (64, ("--workers", "0"), "kiroworkers: --workers 0: must be at least 1"),
            (78, ("--port", port), f"kiroworkers: cannot listen on tcp:{port}"),
            (
                78,
                ("--port", "0", "--callback-secret-file", str(secret)),
                f"kiroworkers: --callback-secret-file {secret}: must have at least 16",
            ),
        ]:
            program = self.run_twistd("--agent", "offline", *options)
            self.assertEqual(await program.ended, status, program.output)
            self.assertIn(reason, program.output.splitlines()[-1])
            self.assertNotIn("Traceback", program.output)
