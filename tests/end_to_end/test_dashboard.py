"""
End-to-end tests: the page of a real server in headless Chromium.

The browser is driven by `tests.browser`, which needs no package: that costs less than a driver
from npm, and the tests run wherever Chromium is.  Only the test of accessibility needs a package,
axe-core, which ``nox -s typescript`` installs.
"""

from __future__ import annotations

import json
import os
from itertools import cycle
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import SkipTest

from tests.browser import Browser, Page, find_chromium
from tests.servers import ServerTestCase

real: Any = reactor

_CLIENT = Path(__file__).parents[2] / "clients" / "typescript"
_NODE_MODULES = Path(os.environ.get("KIROWORKERS_NODE_MODULES", _CLIENT / "node_modules"))
_AXE = _NODE_MODULES / "axe-core" / "axe.min.js"

_TOKEN = "open-sesame-open-sesame"

#: The views that need no argument of their own.
_ROUTES = ("", "tasks", "requests", "workers/worker1", "recordings")

#: Finds faults of accessibility; returns what each is and the elements that have it.
_FIND_FAULTS = """
axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) =>
  violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html }) => html)}`))
"""

#: What the console reports about the wrong token, which is how browsers treat a status of 401.
_WRONG_TOKEN = "status of 401"


class DashboardTests(ServerTestCase):
    """
    Tests for the page, which are skipped where Chromium is not installed.
    """

    maxDiff = None

    def setUp(self) -> None:
        super().setUp()
        self._schemes = cycle(("dark", "light"))

    async def open_browser(self) -> Browser:
        """
        Start a browser, which the test stops in the end.
        """
        chromium = find_chromium()
        if chromium is None:
            raise SkipTest("Chromium is not installed: apt-get install chromium")
        browser = Browser()
        browser.start(real, chromium, self.folder / "profile")
        self.addCleanup(browser.stop)
        return browser

    async def check_accessibility(self, page: Page) -> None:
        """
        Fail if axe finds a fault in what the page shows; it shows the colour schemes in turn.
        """
        await page.show(1280, 800, next(self._schemes))
        self.assertEqual(await page.evaluate(_FIND_FAULTS), [])

    def check_console(self, page: Page) -> None:
        """
        Fail if the browser has reported an error, or a breach of the page's policy.
        """
        complaints = [text for text in page.complaints if _WRONG_TOKEN not in text]
        self.assertEqual(complaints, [])

    async def sign_in(self, page: Page, token: str) -> None:
        """
        Fill in the form that exchanges a token for a session.
        """
        await page.fill("#token", token)
        await page.click("[data-action=sign-in]")

    async def start_with_token(self) -> None:
        """
        Start a server that needs a token, asks operators about tools, and records.
        """
        tokens, state = self.folder / "tokens", self.folder / "state"
        tokens.write_text(f"alice ask,watch,operate {_TOKEN}\n")
        tokens.chmod(0o600)
        options = ("--tools", "ask", "--token-file", str(tokens))
        await self.start(*options, "--record", "--state-dir", str(state))

    async def test_page(self) -> None:
        """
        An operator signs in, asks for a story through the form and allows a tool; sees the worker
        become busy, its terminal, the text and the answer; follows the request; and pauses, drains,
        restarts and scales the pool.  The page keeps to its own policy and fits narrow windows.
        """
        browser = await self.open_browser()
        await self.start_with_token()
        page = await browser.open_page(f"{self.base}/")
        await self.sign_in(page, "not the token")
        await page.wait_for_text("#token-error", "token")
        await page.evaluate("void (document.querySelector('#token').value = '')")
        await self.sign_in(page, _TOKEN)
        await page.wait_for_text("[data-worker=worker1][data-state=idle]", "Waiting for a request")
        await page.wait_for_text(".account", "alice")
        await self.ask_for_story(page)
        await self.follow_request(page)
        await self.operate(page)
        await page.show(390, 800, "light")
        for route in _ROUTES:
            await self.show_view(page, route)
            overflow = "document.documentElement.scrollWidth - window.innerWidth"
            self.assertLessEqual(await page.evaluate(overflow), 0, route)
        await page.click_and_load("[data-action=sign-out]")
        await page.wait_for("document.querySelector('#token')")
        self.check_console(page)

    async def test_accessibility(self) -> None:
        """
        No view has a fault of accessibility that axe finds, whether a request runs or has ended.
        """
        if not _AXE.is_file():
            raise SkipTest("axe-core is not installed: cd clients/typescript; npm install")
        browser = await self.open_browser()
        await self.start_with_token()
        page = await browser.open_page(f"{self.base}/")
        await page.wait_for("document.querySelector('#token')")
        await page.evaluate(f"void (() => {{ {_AXE.read_text('utf-8')} }})()")
        await self.check_accessibility(page)
        await self.sign_in(page, _TOKEN)
        await page.wait_for("document.querySelector('[data-worker]')")
        await self.start_story(page)
        await self.check_accessibility(page)
        await self.show_view(page, "")
        await page.wait_for_text(".approvals .question", "tool")
        await self.check_accessibility(page)
        await self.allow_tool(page)
        for route in _ROUTES:
            await self.show_view(page, route)
            await self.check_accessibility(page)
        await self.show_view(page, "tasks")
        await self.follow_request(page)
        await self.check_accessibility(page)
        self.check_console(page)

    async def show_view(self, page: Page, route: str) -> None:
        """
        Follow a link to a view, and wait until it is shown.
        """
        await page.evaluate(f"void (location.hash = {json.dumps(f'#/{route}')})")
        name = route.partition("/")[0]
        await page.wait_for(f"document.querySelector('[data-view=\"{name}\"] .panel')")

    async def start_story(self, page: Page) -> None:
        """
        Send the form of a task whose agent asks for a tool, and wait for that.
        """
        await self.show_view(page, "tasks")
        await page.fill("#field-idea", "<b>Print labels</b> [[approve]]")
        await page.click("[data-action=ask]")
        await page.wait_for_text(".screen .screen-text", "Print labels")
        await page.wait_for_text(".progress .chip", "Busy")

    async def allow_tool(self, page: Page) -> None:
        """
        Allow the tool on the overview, and wait for the answer.
        """
        await page.click("[data-action$=allow]")
        await page.wait_for("!document.querySelector('.approvals')")
        await self.show_view(page, "tasks")
        await page.wait_for_text("[data-part=answer]", "<b>Print labels</b>")

    async def ask_for_story(self, page: Page) -> None:
        """
        Run a task with the form, after a mistake in it.
        """
        await self.show_view(page, "tasks")
        await page.fill("#field-idea", " ")
        await page.click("[data-action=ask]")
        await page.wait_for_text("#field-idea-error", "required")
        await self.start_story(page)
        await self.show_view(page, "")
        await page.wait_for("document.querySelector('[data-state=busy] .activity .clock')")
        await page.wait_for_text(".approvals .question", "tool")
        await self.allow_tool(page)
        await page.wait_for_text("[data-part=stream]", "storyPoint")

    async def follow_request(self, page: Page) -> None:
        """
        See what happened to the request, with the recording of the terminal.
        """
        await page.click(".more a[href^='#/requests/']")
        await page.wait_for_text(".events", "Tool decided")
        await page.wait_for_text(".events", "Answered")
        await page.wait_for_text(".player .screen-text", "Print labels")
        await page.wait_for_text(".markers .mine", "Asked")

    async def operate(self, page: Page) -> None:
        """
        Press the buttons for operators.
        """
        await self.show_view(page, "")
        await page.click("[data-action='pool kiro pause']")
        await page.wait_for_text(".pool .chip", "Paused")
        await page.click("[data-action='pool kiro resume']")
        await page.wait_for_text(".pool .chip", "Serving")
        await page.click("[data-action='worker worker1 drain']")
        await page.wait_for("document.querySelector('[data-worker=worker1][data-state=drained]')")
        await page.click("[data-action='worker worker1 start']")
        await page.wait_for("document.querySelector('[data-worker=worker1][data-state=idle]')")
        await page.click("[data-action='worker worker2 restart']")
        restarted = "[data-worker=worker2][data-state=idle][data-starts='2']"
        await page.wait_for(f'document.querySelector("{restarted}")')
        await page.click("[data-action='pool kiro more']")
        await page.wait_for("document.querySelector('[data-worker=worker3][data-state=idle]')")
