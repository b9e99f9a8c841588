"""
End-to-end tests for what the page needs: its files, a session, and the stream that it follows.

`tests.end_to_end.test_dashboard` shows the page in a browser.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import treq
from twisted.internet.defer import Deferred
from twisted.web.http_headers import Headers

from tests.servers import ServerTestCase
from tests.web.dashboard.test_feed import named, parse


class Stream:
    """
    Collect the events of a stream.
    """

    def __init__(self, response: Any) -> None:
        self.content = b""
        self.ended: Deferred[Any] = treq.collect(response, self._received)
        self._awaited: tuple[Callable[[], Any], Deferred[Any]] | None = None

    def data_of(self, name: str) -> list[Any]:
        """
        Return the data of the events called `name`.
        """
        return named(parse(self.content), name)

    def until(self, condition: Callable[[], Any]) -> Deferred[Any]:
        """
        Return a Deferred that fires with what `condition` returns, as soon as that is true.
        """
        waiting: Deferred[Any] = Deferred()
        self._awaited = condition, waiting
        self._check()
        return waiting

    def _received(self, data: bytes) -> None:
        self.content += data
        self._check()

    def _check(self) -> None:
        if self._awaited is not None:
            condition, waiting = self._awaited
            result = condition()
            if result:
                self._awaited = None
                waiting.callback(result)


def _headers(headers: dict[str, str]) -> Headers:
    return Headers({name: [value] for name, value in headers.items()})


class WatchTests(ServerTestCase):
    """
    Tests for a server with tokens, and a browser that signs in.
    """

    async def test_watch(self) -> None:
        """
        A browser gets the page, signs in, follows a request, operates the server, and is signed out
        by a reload that removes its token.
        """
        tokens = self.folder / "tokens"
        tokens.write_text("admin ask,operate 0123456789abcdef-admin\n", encoding="utf-8")
        await self.start("--token-file", "tokens", workers=1)
        page = await treq.get(
            f"{self.base}/", headers=_headers({"Accept": "text/html"}), persistent=False
        )
        self.assertEqual(page.code, 200)
        self.assertIn("<script", await page.text())

        own = {"Origin": self.base, "Sec-Fetch-Site": "same-origin"}
        response, rights = await self.fetch(
            "POST", "/session", json={"token": "0123456789abcdef-admin"}, headers=own
        )
        self.assertEqual((response.code, rights["operator"]), (200, True))
        cookie = {"Cookie": self.header(response, "set-cookie").partition(";")[0]}

        response = await treq.get(
            f"{self.base}/watch", headers=_headers(cookie), persistent=False, unbuffered=True
        )
        self.assertEqual(response.code, 200)
        stream = Stream(response)
        response, body = await self.story("x", headers={**cookie, **own, "X-Request-ID": "mine"})
        self.assertEqual((response.code, body["title"]), (200, "x"))
        request = await stream.until(
            lambda: [
                data
                for data in stream.data_of("request")
                if data["id"] == "mine" and data["outcome"] == "answered"
            ]
        )
        names = [event["name"] for event in request[-1]["events"]]
        self.assertEqual(names[0], "received")
        self.assertLessEqual({"started", "answered", "ended"}, {*names})

        response, _ = await self.fetch("POST", "/operator/pause", headers=cookie)
        self.assertEqual(response.code, 403)
        response, _ = await self.fetch("POST", "/operator/pause", headers={**cookie, **own})
        self.assertEqual(response.code, 200)
        await stream.until(
            lambda: any(
                state["agents"]["kiro"]["pool"]["state"] == "paused"
                for state in stream.data_of("state")
            )
        )
        await stream.until(
            lambda: any(
                (state["workers"]["worker1"]["memory"] or 0) > 1_000_000
                for state in stream.data_of("state")
            )
        )

        tokens.write_text("other watch 0123456789abcdef-other\n", encoding="utf-8")
        os.kill(self.server.pid, signal.SIGHUP)
        await stream.ended
        response, _ = await self.fetch("GET", "/health", headers=cookie)
        self.assertEqual(response.code, 401)
        self.assertNotIn("0123456789abcdef", self.server.output)
        self.assertNotIn(cookie["Cookie"].partition("=")[2], self.server.output)
