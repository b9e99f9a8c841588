"""
Tests for `kiroworkers.web.browser_sessions`.
"""

from __future__ import annotations

from hashlib import sha256
from itertools import count

from attrs import evolve
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.test.requesthelper import DummyRequest

from kiroworkers.web.browser_sessions import LIFETIME, MAX_PER_TOKEN, BrowserSessions, session_id
from kiroworkers.web.tokens import ApiToken

_ANN = ApiToken("ann", frozenset({"watch"}), sha256(b"a token of ann").digest())
_BOB = ApiToken("bob", frozenset({"ask"}), sha256(b"a token of bob").digest())

_ID = "a" * 43


class BrowserSessionsTests(SynchronousTestCase):
    """
    Tests for `BrowserSessions`.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        numbers = count()
        self.sessions = BrowserSessions(self.clock.seconds, lambda: f"{next(numbers):043}")

    def test_found(self) -> None:
        """
        A session stands for its token, and nothing else is a session.
        """
        ann, bob = self.sessions.begin(_ANN), self.sessions.begin(_BOB)
        self.assertEqual(self.sessions.find(ann, (_ANN, _BOB)), _ANN)
        self.assertEqual(self.sessions.find(bob, (_ANN, _BOB)), _BOB)
        self.assertIsNone(self.sessions.find(_ID, (_ANN, _BOB)))

    def test_lifetime(self) -> None:
        """
        A session ends 12 hours after it began, although it is used.
        """
        id = self.sessions.begin(_ANN)
        self.clock.advance(LIFETIME - 1)
        self.assertEqual(self.sessions.find(id, (_ANN,)), _ANN)
        self.clock.advance(1)
        self.assertIsNone(self.sessions.find(id, (_ANN,)))
        self.assertEqual(len(self.sessions), 0)

    def test_expired(self) -> None:
        """
        Sessions that have ended and are not used any more are forgotten.
        """
        self.sessions.begin(_ANN)
        self.clock.advance(LIFETIME)
        self.sessions.begin(_BOB)
        self.assertEqual(len(self.sessions), 1)

    def test_ended(self) -> None:
        """
        A session that was ended is gone for good; ending it again does nothing.
        """
        id = self.sessions.begin(_ANN)
        self.sessions.end(id)
        self.sessions.end(id)
        self.assertIsNone(self.sessions.find(id, (_ANN,)))

    def test_token_gone(self) -> None:
        """
        A session ends when its token is gone or another one, also if the token comes back.
        """
        changed = evolve(_ANN, digest=sha256(b"another token").digest())
        for tokens in ((_BOB,), (changed,), ()):
            id = self.sessions.begin(_ANN)
            self.assertIsNone(self.sessions.find(id, tokens))
            self.assertIsNone(self.sessions.find(id, (_ANN,)))

    def test_scopes(self) -> None:
        """
        A reload that changes the scopes of the token changes what the session allows.
        """
        id = self.sessions.begin(_ANN)
        operator = evolve(_ANN, scopes=frozenset({"operate"}))
        self.assertEqual(self.sessions.find(id, (operator,)), operator)

    def test_bounded(self) -> None:
        """
        A token has a limited number of sessions: the oldest ends, and none of another token.
        """
        other = self.sessions.begin(_BOB)
        ids = [self.sessions.begin(_ANN) for _ in range(MAX_PER_TOKEN + 1)]
        self.assertEqual(len(self.sessions), MAX_PER_TOKEN + 1)
        found = [self.sessions.find(id, (_ANN, _BOB)) for id in (other, *ids[:2])]
        self.assertEqual(found, [_BOB, None, _ANN])

    def test_unguessable(self) -> None:
        """
        Identifiers are random, and have the form that a cookie must have.
        """
        sessions = BrowserSessions(self.clock.seconds)
        ids = {sessions.begin(_ANN) for _ in range(10)}
        self.assertEqual(len(ids), 10)
        for id in ids:
            self.assertEqual(_read(f"kiroworkers_session={id}"), id)


def _read(*cookies: str) -> str | None:
    """
    Return the identifier in a request with these Cookie headers.
    """
    request = DummyRequest([b""])
    request.requestHeaders.setRawHeaders(b"cookie", [cookie.encode() for cookie in cookies])
    return session_id(request)  # type: ignore[arg-type]


class SessionIdTests(SynchronousTestCase):
    """
    Tests for `session_id`.
    """

    def test_found(self) -> None:
        """
        The cookie is found among others, and in any of several headers.
        """
        self.assertEqual(_read(f"kiroworkers_session={_ID}"), _ID)
        self.assertEqual(_read(f"a=b; kiroworkers_session={_ID} ;c=d"), _ID)
        self.assertEqual(_read("a=b", f"kiroworkers_session={_ID}"), _ID)

    def test_none(self) -> None:
        """
        Other cookies are none, and neither is a value that the server never made.
        """
        values = ("", "short", _ID + "a", "ä" * 43, f'"{_ID}"', _ID[:-1] + "=")
        for cookie in ("", "x", f"kiroworkers_sessions={_ID}", f"KIROWORKERS_SESSION={_ID}"):
            self.assertIsNone(_read(cookie), cookie)
        for value in values:
            self.assertIsNone(_read(f"kiroworkers_session={value}"), value)
        self.assertIsNone(_read())

    def test_two(self) -> None:
        """
        Two cookies of the name count as none, in whatever order, unless they are the same.
        """
        other = "b" * 43
        for pair in ((_ID, other), (other, _ID), (_ID, "x")):
            first, second = (f"kiroworkers_session={value}" for value in pair)
            self.assertIsNone(_read(f"{first}; {second}"))
            self.assertIsNone(_read(first, second))
        self.assertEqual(_read(f"kiroworkers_session={_ID}; kiroworkers_session={_ID}"), _ID)

    def test_many(self) -> None:
        """
        A header full of cookies is read.
        """
        cookies = "; ".join(f"c{number}=x" for number in range(5000))
        self.assertEqual(_read(f"{cookies}; kiroworkers_session={_ID}"), _ID)
