"""
End-to-end tests: a browser shows the page at /docs.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest

from tests.servers import ServerTestCase

_OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--enable-logging=stderr", "--virtual-time-budget=20000", "--dump-dom"),
    # No other host exists.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)

#: A task whose description is an attack on its reader.
_TASK = r"""
name = "sum-up"
title = "Sum up <script>document.title = 'attacked'</script>"
description = "<img src=x onerror=\"document.title = 'attacked'\"> Sums up."
prompt = "{{ request }} {{ schema }} {{ example }}"

[input]
type = "object"

[answer]
type = "object"

[example.input]
text = "One and two."

[example.answer]
summary = "Numbers."
"""


class BrowserTests(ServerTestCase):
    """
    Tests for the page in Chromium, which is skipped where it is not installed.
    """

    async def test_page(self) -> None:
        """
        The page shows each task, complies with its own policy, and shows what a task says of
        itself as text.
        """
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        if chromium is None:
            raise SkipTest("Chromium is not installed: apt-get install chromium")
        tasks = Path(self.mktemp())
        tasks.mkdir()
        (tasks / "sum-up.toml").write_text(_TASK)
        await self.start("--agent", "offline", "--tasks", str(tasks.absolute()))
        command = [chromium, *_OPTIONS, f"--user-data-dir={self.mktemp()}", f"{self.base}/docs"]
        done = await deferToThread(
            subprocess.run, command, capture_output=True, text=True, timeout=100, check=True
        )
        for text in ("operations-Tasks-ask-sum-up", "operations-Tasks-ask-generate-story"):
            self.assertIn(text, done.stdout)
        self.assertIn("<title>kiroworkers API</title>", done.stdout)
        # Chromium logs failures of its own as well, such as the lack of a network.
        console = "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
        for complaint in ("Content Security Policy", "Uncaught", "net::ERR"):
            self.assertNotIn(complaint, console)
