"""
Tests for what a real server with a real database shows of other servers, in headless Chromium.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import SkipTest

from tests import postgres
from tests.browser import Browser, find_chromium
from tests.servers import ServerTestCase

if postgres.SKIP is None:
    import psycopg

real: Any = reactor

#: Adds a server that is lost, and one that serves.
_OTHERS = """
    INSERT INTO kiroworkers.servers
        (name, version, address, account, agents, state, started, seen, lease_until)
    SELECT name, '1.2', name || ':8080', '', %s, 'serving', now() - interval '1 h',
        now() - silence, now() - silence + interval '1 min'
    FROM (VALUES ('blue', interval '2 min'), ('green', interval '0 s')) AS other (name, silence)
"""

_AGENTS = {"kiro": {"state": "paused", "workers": 30, "ready": 30, "idle": 12, "queue": 0}}


class ServersTests(ServerTestCase):
    """
    Tests for the list of servers, which are skipped where Chromium is not installed.
    """

    skip = postgres.SKIP

    async def test_servers(self) -> None:
        """
        The page lists the servers with their states and agents, and says so while the database
        fails; so does ``GET /cluster``.  It fits narrow windows.
        """
        chromium = find_chromium()
        if chromium is None:
            raise SkipTest("Chromium is not installed: apt-get install chromium")
        server = postgres.postgres()
        name = server.create_database()
        self.addCleanup(server.drop_database, name)
        cutter = postgres.Cutter(server.port)
        self.addCleanup(cutter.close)
        file = self.folder / "database"
        file.write_text(f"{server.address(name, port=cutter.port)}\n")
        file.chmod(0o600)
        with psycopg.connect(server.address(name)) as connection:
            connection.execute(_OTHERS, (json.dumps(_AGENTS),))
        shared = ("--database-file", str(file), "--server-name", "red", "--lease", "6")
        await self.start(*shared, workers=1)
        browser = Browser()
        browser.start(real, chromium, self.folder / "profile")
        self.addCleanup(browser.stop)
        page = await browser.open_page(f"{self.base}/")
        await page.wait_for_text("[data-server=red]", "this one")
        await page.wait_for_text("[data-server=red]", "kiro: 1 of 1 idle")
        await page.wait_for_text("[data-server=blue]", "Lost")
        await page.wait_for_text("[data-server=green]", "kiro: 12 of 30 idle, paused")
        await page.show(390, 800, "light")
        overflow = "document.documentElement.scrollWidth - window.innerWidth"
        self.assertLessEqual(await page.evaluate(overflow), 0)
        cutter.cut()
        await page.wait_for_text(".servers .notice", "The shared database fails.")
        await page.wait_for_text(".servers", "as they were known last")
        self.assertEqual(page.complaints, [])
        _, cluster = await self.fetch("GET", "/cluster")
        self.assertEqual((cluster["server"], cluster["database"]["state"]), ("red", "failing"))
        names = [listed["name"] for listed in cluster["servers"]]
        self.assertEqual(names, ["blue", "green", "red"])
        cutter.heal()
        await page.wait_for("!document.querySelector('.servers .notice')")
