"""
Tests for signing in and out, and for attacks on the session of a browser.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from attrs import evolve
from twisted.logger import capturedLogs, eventAsText
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.web.browser_sessions import LIFETIME, BrowserSessions
from kiroworkers.web.proxies import TrustedProxies
from kiroworkers.web.rate_limiter import RateLimiter
from kiroworkers.web.tokens import ApiToken
from tests.web.test_errors import STORY, TOKEN, MemoryServer, Response

_OWN = "http://localhost"
_WATCHER = "a token to watch with"


class SessionTestCase(SynchronousTestCase):
    """
    Base of tests with a server that has tokens, and a browser.
    """

    def setUp(self) -> None:
        self.server = MemoryServer(scopes="ask,operate")
        self.authorizer = self.server.authorizer
        digest = sha256(_WATCHER.encode()).digest()
        watcher = ApiToken("bob", frozenset({"watch"}), digest)
        self.authorizer.tokens = (*self.authorizer.tokens, watcher)
        self.authorizer.sessions = BrowserSessions(self.server.reactor.seconds)
        self.server.site.admit = self.authorizer.admit

    def sign_in(self, token: str = TOKEN, **headers: str) -> Response:
        return self.server.request(
            "POST", "/session", {"token": token}, **{"Origin": _OWN, **headers}
        )

    def cookie(self, token: str = TOKEN, **headers: str) -> str:
        """
        Sign in, and return the cookie as a browser sends it.
        """
        return _cookie_of(self.sign_in(token, **headers))

    def session(self, **headers: str) -> Any:
        return json.loads(self.server.request("GET", "/session", **headers).content)

    def pause(self, cookie: str, **headers: str) -> Response:
        return self.server.request("POST", "/operator/pause", {}, Cookie=cookie, **headers)


def _cookie_of(response: Response) -> str:
    assert response.status == 200, response
    assert response.cookie is not None
    return response.cookie.partition(";")[0]


class SignInTests(SessionTestCase):
    """
    Tests for ``/session``.
    """

    def test_signed_out(self) -> None:
        """
        Without a token, a request learns that it needs one.
        """
        self.assertEqual(
            self.session(),
            {"needsToken": True, "signedIn": False, "name": None, "scopes": [], "operator": False},
        )

    def test_signed_in(self) -> None:
        """
        Who signs in gets a cookie that has the rights of the token, and learns them.
        """
        expected = {
            "needsToken": True,
            "signedIn": True,
            "name": "ann",
            "scopes": ["ask", "operate"],
            "operator": True,
        }
        response = self.sign_in()
        self.assertEqual((response.status, json.loads(response.content)), (200, expected))
        cookie = _cookie_of(response)
        self.assertEqual(self.session(Cookie=cookie), expected)
        self.assertEqual(self.server.request("GET", "/jobs", Cookie=cookie).status, 200)
        self.assertEqual(self.server.story(Cookie=cookie, Origin=_OWN).status, 200)
        self.assertEqual(self.pause(cookie, Origin=_OWN).status, 200)

    def test_flags(self) -> None:
        """
        Pages cannot read the cookie, and other sites cannot have it sent.
        """
        flags = (self.sign_in().cookie or "").lower().split("; ")[1:]
        self.assertEqual({*flags}, {"httponly", "samesite=strict", "path=/", f"max-age={LIFETIME}"})

    def test_secure(self) -> None:
        """
        Over https, as a trusted proxy says, the cookie is sent over https only.
        """
        self.authorizer.proxies = TrustedProxies(("127.0.0.1/32",))
        headers = {"X_Forwarded_Proto": "https", "Origin": "https://localhost"}
        self.assertIn("Secure", self.sign_in(**headers).cookie)
        self.authorizer.proxies = TrustedProxies(("192.0.2.1/32",))
        self.assertNotIn("Secure", self.sign_in(X_Forwarded_Proto="https").cookie)

    def test_scopes(self) -> None:
        """
        A session allows no more than its token.
        """
        cookie = self.cookie(_WATCHER)
        self.assertEqual(self.session(Cookie=cookie)["scopes"], ["watch"])
        self.assertEqual(self.server.request("GET", "/health", Cookie=cookie).status, 200)
        response = self.pause(cookie, Origin=_OWN)
        self.assertEqual((response.status, response.error["code"]), (403, "wrong_scope"))
        self.assertEqual(self.server.story(Cookie=cookie, Origin=_OWN).status, 403)

    def test_wrong(self) -> None:
        """
        A wrong token gets no cookie, and an answer that does not quote it.
        """
        response = self.sign_in("a token that is wrong")
        self.assertEqual((response.status, response.error["code"]), (401, "wrong_token"))
        self.assertIsNone(response.cookie)
        self.assertNotIn(b"that is wrong", response.content)
        for token in (" ", "\ud800"):
            response = self.sign_in(token)
            self.assertEqual((response.status, response.error["code"]), (401, "wrong_token"))

    def test_malformed(self) -> None:
        """
        What is no token is refused, and so is a form of another site.
        """
        bodies: tuple[Any, ...] = ({}, {"token": 1}, {"token": ""}, {"token": "x" * 1001}, [], "x")
        for body in bodies:
            response = self.server.request("POST", "/session", body)
            self.assertEqual((response.status, response.cookie), (400, None), body)
        content = b'{"token": "%s"}' % TOKEN.encode()
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            response = self.server.request("POST", "/session", content, Content_Type=kind)
            self.assertEqual((response.status, response.cookie), (415, None), kind)

    def test_no_tokens(self) -> None:
        """
        Without tokens nobody needs to sign in, and a client of this machine is an operator.
        """
        self.authorizer.tokens = ()
        rights = {"needsToken": False, "signedIn": False, "name": None}
        local = {**rights, "scopes": ["ask", "watch", "operate"], "operator": True}
        self.assertEqual(self.session(), local)
        remote = {**rights, "scopes": ["ask", "watch"], "operator": False}
        self.assertEqual(self.session(peer="192.0.2.1"), remote)
        self.assertEqual(self.session(Via="1.1 proxy"), remote)
        response = self.sign_in()
        self.assertEqual((response.status, response.error["field"]), (400, "token"))

    def test_sign_out(self) -> None:
        """
        Who signs out loses the cookie, and the cookie its rights.
        """
        cookie = self.cookie()
        response = self.server.request("DELETE", "/session", Cookie=cookie, Origin=_OWN)
        self.assertEqual((response.status, response.content), (204, b""))
        self.assertRegex(
            response.cookie or "", r"^kiroworkers_session=; Path=/; Max-Age=0; HttpOnly;"
        )
        self.assertFalse(self.session(Cookie=cookie)["signedIn"])
        response = self.pause(cookie, Origin=_OWN)
        self.assertEqual((response.status, response.error["code"]), (401, "no_token"))
        self.assertIn("sign in again", response.error["error"])
        self.assertEqual(self.server.request("DELETE", "/session").status, 204)

    def test_secrets(self) -> None:
        """
        Neither the token nor the cookie stands in the log or in the response.
        """
        with capturedLogs() as events:
            response = self.sign_in()
            cookie = _cookie_of(response)
            self.pause(cookie, Origin=_OWN)
            self.sign_in("a token that is wrong")
            self.server.settle()
        secrets = (TOKEN, cookie.partition("=")[2], "that is wrong")
        for secret in secrets:
            self.assertNotIn(secret, str(events))
            self.assertNotIn(secret.encode(), response.content)

    def test_record(self) -> None:
        """
        The log names the token of a session, as it does for one that is sent.
        """
        cookie = self.cookie()
        with capturedLogs() as events:
            self.pause(cookie, Origin=_OWN)
        lines = [eventAsText(event) for event in events]
        self.assertTrue(any('"127.0.0.1" - ann [' in line for line in lines), lines)


class AttackTests(SessionTestCase):
    """
    Tests for attacks.
    """

    def check_refused(self, cookie: str, **headers: str) -> None:
        response = self.pause(cookie, **headers)
        self.assertEqual((response.status, response.error["code"]), (403, "wrong_origin"), headers)
        self.assertFalse(self.server.dispatcher.paused)

    def test_cross_site(self) -> None:
        """
        With a cookie, another page can change nothing, whatever its browser says or does not say.
        """
        cookie = self.cookie()
        for origin in (
            "http://evil.example",
            "null",
            "http://localhost:8001",
            "https://localhost",
            "http://localhost.evil.example",
        ):
            self.check_refused(cookie, Origin=origin)
            self.check_refused(cookie, Origin=origin, Sec_Fetch_Site="same-site")
        self.check_refused(cookie)
        self.check_refused(cookie, Sec_Fetch_Site="cross-site")
        self.check_refused(cookie, Sec_Fetch_Site="none")
        self.check_refused(cookie, Referer="http://localhost/")
        self.assertEqual(self.server.story(Cookie=cookie).status, 403)
        self.assertEqual(self.pause(cookie, Sec_Fetch_Site="same-origin").status, 200)

    def test_methods(self) -> None:
        """
        That holds for each method that may change something.
        """
        cookie = self.cookie()
        for method, path in (
            ("PUT", "/operator/workers"),
            ("POST", "/operator/workers/worker1/drain"),
            ("POST", "/operator/approvals/x"),
            ("DELETE", "/jobs/x"),
            ("POST", STORY),
            ("POST", "/v1/chat/completions"),
        ):
            response = self.server.request(method, path, {"workers": 1}, Cookie=cookie)
            self.assertEqual(response.status, 403, f"{method} {path}")

    def test_allowed_origin(self) -> None:
        """
        A page that may call the API with a token of its own may not use a user's session.
        """
        cookie = self.cookie()
        for origins in (("*",), ("http://app.example",)):
            self.server.site.limits = evolve(self.server.site.limits, cors_origins=origins)
            self.check_refused(cookie, Origin="http://app.example")
            response = self.server.request(
                "GET", "/health", Cookie=cookie, Origin="http://app.example"
            )
            # A browser gives a page no response that was sent with a cookie, without this.
            self.assertNotIn("access-control-allow-credentials", response.headers)

    def test_websocket(self) -> None:
        """
        A page of another origin cannot open a WebSocket with a cookie, although that is a GET.
        """
        cookie = self.cookie()
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Cookie": cookie}
        for origin in ("http://evil.example", "null", ""):
            response = self.server.request("GET", "/health", Origin=origin, **upgrade)
            self.assertEqual(response.status, 403, origin)
        response = self.server.request("GET", "/health", Origin=_OWN, **upgrade)
        self.assertEqual(response.status, 200)

    def test_bearer_wins(self) -> None:
        """
        A token in the request decides: with a valid one no origin is needed, and a wrong one is
        wrong although there is a session.
        """
        cookie = self.cookie(_WATCHER)
        self.assertEqual(self.pause(cookie, Authorization=f"Bearer {TOKEN}").status, 200)
        cookie = self.cookie()
        response = self.pause(cookie, Authorization="Bearer wrong", Origin=_OWN)
        self.assertEqual((response.status, response.error["code"]), (401, "wrong_token"))
        response = self.pause(cookie, Authorization="Basic eA==", Origin=_OWN)
        self.assertEqual(response.status, 200)

    def test_login_by_others(self) -> None:
        """
        Another page can neither sign a browser in nor out.
        """
        cookie = self.cookie()
        for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}):
            response = self.sign_in(**headers)
            self.assertEqual((response.status, response.cookie), (403, None))
        response = self.sign_in(Origin="", Sec_Fetch_Site="cross-site")
        self.assertEqual((response.status, response.cookie), (403, None))
        for headers in ({"Origin": "http://evil.example"}, {"Sec_Fetch_Site": "same-site"}):
            response = self.server.request("DELETE", "/session", Cookie=cookie, **headers)
            self.assertEqual((response.status, response.cookie), (403, None))
        self.assertTrue(self.session(Cookie=cookie)["signedIn"])

    def test_fixation(self) -> None:
        """
        An identifier that an attacker chose, or has, never becomes that of another user.
        """
        chosen = f"kiroworkers_session={'a' * 43}"
        cookie = self.cookie(Cookie=chosen)
        self.assertNotEqual(cookie, chosen)
        self.assertFalse(self.session(Cookie=chosen)["signedIn"])
        attackers = self.cookie(_WATCHER)
        victims = self.cookie(Cookie=attackers)
        self.assertNotEqual(victims, attackers)
        self.assertFalse(self.session(Cookie=attackers)["signedIn"])
        self.assertEqual(self.session(Cookie=victims)["name"], "ann")

    def test_two_cookies(self) -> None:
        """
        With a second cookie of the same name, neither counts.
        """
        mine, theirs = self.cookie(), self.cookie(_WATCHER)
        for pair in (f"{mine}; {theirs}", f"{theirs}; {mine}"):
            self.assertFalse(self.session(Cookie=pair)["signedIn"])
            self.assertEqual(self.pause(pair, Origin=_OWN).status, 401)

    def test_two_cookies_end(self) -> None:
        """
        Who signs out ends every session that its browser has a cookie of.
        """
        mine, theirs = self.cookie(), self.cookie(_WATCHER)
        response = self.server.request("DELETE", "/session", Cookie=f"{theirs}; {mine}")
        self.assertEqual(response.status, 204)
        for cookie in (mine, theirs):
            self.assertFalse(self.session(Cookie=cookie)["signedIn"])

    def test_replay(self) -> None:
        """
        A copied cookie is worth nothing after a reload without its token, nor after 12 hours.
        """
        cookie = self.cookie()
        tokens = self.authorizer.tokens
        self.authorizer.tokens = (evolve(tokens[0], digest=sha256(b"new").digest()), tokens[1])
        self.assertEqual(self.pause(cookie, Origin=_OWN).status, 401)
        self.authorizer.tokens = tokens
        self.assertEqual(self.pause(cookie, Origin=_OWN).status, 401)
        cookie = self.cookie()
        self.server.reactor.advance(LIFETIME)
        self.assertEqual(self.pause(cookie, Origin=_OWN).status, 401)

    def test_bomb(self) -> None:
        """
        Cookies without end are refused as any head that is too large, and many sign-ins with one
        token do not fill the memory.
        """
        response = self.server.request("GET", "/session", Cookie="a=b; " * 20_000)
        self.assertEqual(response.status, 431)
        for _ in range(120):
            self.authorizer.sessions.begin(self.authorizer.tokens[0])
        self.assertLessEqual(len(self.authorizer.sessions), 50)

    def test_injection(self) -> None:
        """
        Nothing in a request can add a header to a response.
        """
        for value in ("x\r\nSet-Cookie: a=b", "x; Domain=evil.example", "%0d%0aSet-Cookie:%20a=b"):
            response = self.server.request("POST", "/session", {"token": value})
            self.assertEqual((response.status, response.cookie), (401, None))
        data = b"GET /session HTTP/1.1\r\nHost: localhost\r\nCookie: a=b\x00\r\n\r\n"
        self.assertIn(self.server.send(data)().status, (200, 400))

    def test_guessing(self) -> None:
        """
        Wrong tokens are counted as requests without one, also those of a browser that is signed in.
        """
        cookie = self.cookie()
        self.authorizer._anonymous_limiter = RateLimiter(self.server.reactor, 1, 3)
        statuses = [self.sign_in("wrong" * 4).status for _ in range(4)]
        self.assertEqual(statuses, [401, 401, 401, 429])
        self.authorizer._anonymous_limiter = RateLimiter(self.server.reactor, 1, 3)
        statuses = [self.sign_in("wrong" * 4, Cookie=cookie).status for _ in range(4)]
        self.assertEqual(statuses, [401, 401, 401, 429])
        self.assertEqual(self.pause(cookie, Origin=_OWN).status, 200)

    def test_not_in_addresses(self) -> None:
        """
        A token in an address is none.
        """
        for path in (f"/health?token={TOKEN}", f"/health?access_token={TOKEN}"):
            self.assertEqual(self.server.request("GET", path).status, 401)
