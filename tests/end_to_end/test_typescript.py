"""
End-to-end tests: clients in TypeScript and JavaScript.

The types of the TypeScript client are made from a server's OpenAPI document, and judge it: the
compiler must accept the client and what it does, and find each mistake in
``deliberate-errors.ts``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import treq
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest

from tests.servers import ServerTestCase
from tests.snippets import read_page

_CLIENT = Path(__file__).parents[2] / "clients" / "typescript"
_NODE_MODULES = Path(os.environ.get("KIROWORKERS_NODE_MODULES", _CLIENT / "node_modules"))
_EXPRESS_PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "express.rst"
_TOKEN = "all-all-all-all-all"


class ClientTests(ServerTestCase):
    """
    Tests for the clients, which are skipped where their packages are not installed.
    """

    def setUp(self) -> None:
        if not _NODE_MODULES.is_dir():
            raise SkipTest("the packages are not installed: cd clients/typescript; npm install")
        super().setUp()

    async def start_with_token(self) -> None:
        """
        Start a server with the offline agent that requires the token.
        """
        tokens = self.folder / "tokens"
        tokens.write_text(f"all ask,watch,operate {_TOKEN}\n")
        tokens.chmod(0o600)
        await self.start("--agent", "offline", "--token-file", str(tokens))

    async def run_program(self, folder: Path, *command: str, **env: str) -> str:
        """
        Run a program in `folder`, and return its output; the test fails if the program does.
        """
        done = await deferToThread(
            subprocess.run,
            command,
            cwd=folder,
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=100,
        )
        output: str = done.stdout
        self.assertEqual(done.returncode, 0, output)
        return output

    async def test_client(self) -> None:
        """
        The client is made from the document of a server, the compiler finds the mistakes that it
        must find and no other, and the client gets answers, failures, events and jobs, and repeats
        requests when it may.
        """
        folder = self.folder / "client"
        ignore = shutil.ignore_patterns("node_modules", "dist", "schema.ts")
        shutil.copytree(_CLIENT, folder, ignore=ignore)
        (folder / "node_modules").symlink_to(_NODE_MODULES.resolve())
        await self.start_with_token()
        await self.run_program(folder, "npm", "run", "-s", "generate", KIROWORKERS_URL=self.base)
        await self.run_program(folder, "npm", "run", "-s", "build")
        output = await self.run_program(folder, "node", "dist/test/live.js", self.base, _TOKEN)
        parts = ("answers", "failures", "events", "jobs", "completions", "repetitions")
        self.assertEqual(output.splitlines(), [f"{part}: ok" for part in parts])

    async def test_express(self) -> None:
        """
        The application in the guide for Express passes on answers, events and failures, and says
        so when the server is down.
        """
        await self.start_with_token()
        [code] = [
            snippet.text
            for snippet in read_page(_EXPRESS_PAGE.name, _EXPRESS_PAGE.read_text("utf-8"))
            if snippet.argument("file") == "app.mjs"
        ]
        (self.folder / "app.mjs").write_text(code)
        (self.folder / "node_modules").symlink_to(_NODE_MODULES.resolve())
        own = {"KIROWORKERS_URL": self.base, "KIROWORKERS_TOKEN": _TOKEN, "PORT": "0"}
        app = subprocess.Popen(
            ["node", "app.mjs"],
            cwd=self.folder,
            env={**os.environ, **own},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.addCleanup(app.communicate)
        self.addCleanup(app.kill)
        assert app.stdout is not None, "it is a pipe"
        base = f"http://127.0.0.1:{(await deferToThread(app.stdout.readline)).split()[-1]}"
        story, events = f"{base}/stories", f"{base}/stories/stream"
        for body, status, text in (
            ({"idea": "Print labels"}, 200, '"title":"Print labels"'),
            ({"idea": " "}, 400, '"field":"idea"'),
        ):
            for address in (story, events):
                response = await treq.post(address, json=body, persistent=False)
                self.assertEqual(response.code, status)
                content = await response.text()
                self.assertIn(text, content)
                streamed = status == 200 and address == events
                self.assertEqual("event: answer" in content, streamed)
        await self.stop()
        down = await treq.post(story, json={"idea": "Print labels"}, persistent=False)
        self.assertEqual(down.code, 503)
        await down.content()
