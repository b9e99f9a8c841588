"""
End-to-end tests: the official clients of MCP judge ``/mcp`` and ``kiroworkers mcp``.

They are skipped where a client is not installed.  The line 1.x of the Python client is searched for
in the folder that MCP1_PACKAGES names, as the two lines have the same name::

    pip install '.[clients]'
    pip install --target FOLDER --no-deps 'mcp<2' httpx-sse pydantic-settings python-dotenv
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.programs import ROOT, Program, environment
from tests.servers import ServerTestCase, real

_CLIENT = ROOT / "clients" / "typescript"
_NODE_MODULES = Path(os.environ.get("KIROWORKERS_NODE_MODULES", _CLIENT / "node_modules"))

_TOKEN = "all-all-all-all-all"

#: The checks of each connection.
_CHECKS = ("list", "call", "progress", "cancel", "error")


class McpClientTestCase(ServerTestCase):
    """
    Start a server with one worker that requires a token, and run a client.
    """

    async def start_with_token(self) -> None:
        """
        Start the server.
        """
        tokens = self.folder / "tokens"
        tokens.write_text(f"all ask {_TOKEN}\n")
        tokens.chmod(0o600)
        await self.start("--token-file", str(tokens), workers=1)

    async def judge(self, program: str, *arguments: str, **env: str) -> list[str]:
        """
        Run a client, and return the checks that have passed; the test fails if one did not.
        """
        given = {
            "url": f"{self.base}/mcp",
            "token": _TOKEN,
            "command": [sys.executable, "-m", "kiroworkers", "mcp", "--url", self.base],
            "env": {"PYTHONPATH": str(ROOT)},
        }
        client = Program()
        command = [program, *arguments, json.dumps(given)]
        variables = environment(**env)
        real.spawnProcess(client, program, command, env=variables, path=str(self.folder))
        status = await client.ended
        self.assertEqual(status, 0, client.output)
        lines = client.output.splitlines()
        return [line.removesuffix(": ok") for line in lines if line.endswith(": ok")]

    def all_checks(self, *connections: str) -> list[str]:
        """
        Return the names of the checks of these connections.
        """
        return [f"{connection} {check}" for connection in connections for check in _CHECKS]


class PythonClientTests(McpClientTestCase):
    """
    Tests with the Python client.
    """

    async def judge_line(self, line: int, *folders: str) -> list[str]:
        """
        Run the checks with the client of a line, whose packages may be in other folders.
        """
        await self.start_with_token()
        path = os.pathsep.join([*filter(None, folders), str(ROOT)])
        module = f"tests.mcp_judges.line{line}"
        return await self.judge(sys.executable, "-m", module, PYTHONPATH=path)

    async def test_line1(self) -> None:
        """
        The line 1.x lists, calls, sees progress, cancels and is refused, over HTTP and stdio.
        """
        folder = os.environ.get("MCP1_PACKAGES", "")
        if not (folder and (Path(folder) / "mcp").is_dir()):
            raise SkipTest("mcp 1.x is not installed in the folder that MCP1_PACKAGES names")
        passed = await self.judge_line(1, folder)
        expected = [*self.all_checks("http"), "http auth", *self.all_checks("stdio"), "stdio auth"]
        self.assertEqual(passed, expected)

    async def test_line2(self) -> None:
        """
        The line 2.x does the same in both eras of the protocol.
        """
        folder = os.environ.get("MCP2_PACKAGES", "")
        if not folder and not _has_line2():
            raise SkipTest("mcp 2.x is not installed: pip install '.[clients]'")
        passed = await self.judge_line(2, folder)
        connections = self.all_checks("http auto", "stdio auto", "http legacy", "stdio legacy")
        self.assertEqual(passed, [*connections, "http auth", "http auth", "stdio auth"])


class TypeScriptClientTests(McpClientTestCase):
    """
    Tests with the TypeScript client.
    """

    async def test_client(self) -> None:
        """
        It does the same, and also gets the result of a task and cancels one.
        """
        node = shutil.which("node")
        if node is None or not (_NODE_MODULES / "@modelcontextprotocol" / "client").is_dir():
            raise SkipTest("the packages are not installed: cd clients/typescript; npm install")
        shutil.copy(ROOT / "tests" / "mcp_judges" / "client.mjs", self.folder)
        (self.folder / "node_modules").symlink_to(_NODE_MODULES.resolve())
        await self.start_with_token()
        passed = await self.judge(node, str(self.folder / "client.mjs"))
        expected = self.all_checks("http auto", "http legacy", "stdio auto")
        self.assertEqual(passed, [*expected, "http auth", "task result", "task cancel"])


def _has_line2() -> bool:
    try:
        return int(version("mcp").split(".")[0]) >= 2
    except PackageNotFoundError:
        return False
