"""
End to end: a server does what its description says.  Schemathesis makes requests of
the description, right ones and wrong ones, and judges each response by it.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.programs import Program, environment
from tests.servers import ServerTestCase, real

_TOKEN = "all-all-all-all-all"
_SETTINGS = Path(__file__).with_name("schemathesis.toml")
_RUN = "from schemathesis.cli import schemathesis; schemathesis()"

#: Of each operation and phase.
_EXAMPLES = 15


class DescriptionTests(ServerTestCase):
    """
    Tests with the offline agent, and tokens.
    """

    timeout = 300

    async def try_all(self, *options: str) -> None:
        """
        Have requests made of the description, as the `options` choose.
        """
        if find_spec("schemathesis") is None:
            raise SkipTest("schemathesis is not installed: pip install '.[clients]'")
        tokens = self.folder / "tokens"
        tokens.write_text(f"all ask,watch,operate {_TOKEN}\n")
        await self.start("--agent", "offline", "--token-file", str(tokens), "--rate", "0")
        program = Program()
        arguments = [
            *("-c", _RUN, "--config-file", str(_SETTINGS), "run", f"{self.base}/openapi.json"),
            *("--header", f"Authorization: Bearer {_TOKEN}", "--no-color"),
            *("--max-examples", str(_EXAMPLES), "--seed", "6", *options),
        ]
        program.start(real, arguments, environment(), self.folder)
        status = await program.ended
        self.assertEqual(status, 0, program.output[-5000:])
        self.assertIn("No issues found", program.output)
        self.assertNotIn("Traceback", self.server.output)

    async def test_all(self) -> None:
        """
        No path answers otherwise than it is described.
        """
        await self.try_all("--exclude-path-regex", "^/operator")

    async def test_operator(self) -> None:
        """
        Nor do those of operators, but that no number of workers is tried: it may be
        hundreds.
        """
        await self.try_all(
            *("--include-path-regex", "^/operator", "--exclude-operation-id", "set_workers"),
            *("--phases", "examples,coverage,fuzzing"),
        )
