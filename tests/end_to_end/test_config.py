"""
End-to-end tests for a server with a configuration file.
"""

from __future__ import annotations

import os
import signal

from tests.servers import ServerTestCase


class ConfigTests(ServerTestCase):
    """
    Tests for --config.
    """

    async def test_serves(self) -> None:
        """
        The server uses the file, with paths relative to it and defaults for the fields of tasks;
        flags take precedence.  It warns of a file that any user can change, of an unknown
        variable and, on SIGHUP, of changes of the file that it does not use.
        """
        etc = self.folder / "etc"
        etc.mkdir()
        config = etc / "kiroworkers.toml"
        config.write_text(
            """
            [server]
            port = 1
            state-dir = "state"

            [agents]
            agent = ["offline"]

            [pool]
            workers = 3

            [requests]
            max-body = 2000

            [tasks]
            strict-input = true

            [tasks.generate-story]
            components = ["Printer"]
            """
        )
        config.chmod(0o646)
        await self.start("--config", "etc/kiroworkers.toml", workers=1, KIROWORKERS_WROKERS="2")
        health = await self.health()
        self.assertEqual([*health["workers"]], ["worker1"])
        self.assertTrue((etc / "state").is_dir())
        response, story = await self.story("Print labels on the Printer")
        self.assertEqual((response.code, story["components"]), (200, ["Printer"]))
        for body, code in [({"idea": "x" * 2000}, 413), ({"idea": "x", "colour": "red"}, 400)]:
            response, _ = await self.ask("generate-story", body)
            self.assertEqual(response.code, code)
        with config.open("a") as stream:
            stream.write("# changed\n")
        os.kill(self.server.pid, signal.SIGHUP)
        await self.server.says(f"--config {config} has changed, and is read at the start only")
        await self.server.says(f"--config {config}: any user can write to it")
        await self.server.says("the variable KIROWORKERS_WROKERS is unknown; did you mean "
                               "KIROWORKERS_WORKERS")  # fmt: skip
