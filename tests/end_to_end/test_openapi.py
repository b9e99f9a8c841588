"""
End-to-end tests: a server does what its OpenAPI description says.

Schemathesis generates valid and invalid requests from the description, and checks each
response against it.
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

#: How many requests each operation gets in each phase.
_EXAMPLES = 8


class DescriptionTests(ServerTestCase):
    """
    Tests for a server with the offline agent and tokens.
    """

    async def run_schemathesis(self, *options: str) -> None:
        """
        Send generated requests to the operations that the `options` choose.
        """
        if find_spec("schemathesis") is None:
            raise SkipTest("schemathesis is not installed: pip install '.[clients]'")
        tokens = self.folder / "tokens"
        tokens.write_text(f"all ask,watch,operate {_TOKEN}\n")
        unlimited = ("--rate", "0", "--anonymous-rate", "0")
        await self.start("--agent", "offline", "--token-file", str(tokens), *unlimited)
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

    async def test_public_operations(self) -> None:
        """
        All operations except the operators' answer as described.  Those are left out that do not
        end by themselves.
        """
        await self.run_schemathesis("--exclude-path-regex", "^/(operator|watch|terminal)")

    async def test_operator(self) -> None:
        """
        The operators' operations answer as described.  The one that sets the number of
        workers is left out, because it could start hundreds of them.
        """
        await self.run_schemathesis(
            *("--include-path-regex", "^/operator", "--exclude-operation-id", "set_workers"),
            *("--phases", "examples,coverage,fuzzing"),
        )
