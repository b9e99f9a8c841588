"""
Tests for `kiroworkers.errors`: the catalogue is complete, and everything follows it.

`tests.web.test_errors` provokes each failure.
"""

from __future__ import annotations

import gc
import runpy
from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.client import errors as client
from kiroworkers.conversations.failures import FAILURE_KINDS
from kiroworkers.errors import (
    CATALOGUE,
    AgentRefused,
    AgentUnavailable,
    ErrorCode,
    FailureKind,
    WorkError,
)
from tests.programs import ROOT


def leaves(kind: type[WorkError]) -> Iterator[type[WorkError]]:
    """
    Yield the errors that can be raised: those that no other derives from.
    """
    derived = kind.__subclasses__()
    if not derived:
        yield kind
    for subclass in derived:
        yield from leaves(subclass)


class CatalogueTests(SynchronousTestCase):
    """
    Tests for the catalogue.
    """

    def test_every_error(self) -> None:
        """
        Every error that can be raised has a code of its own in the catalogue; those that an
        agent reports have that of their kind.
        """
        # attrs makes each class anew, to give it slots, and the first one lives until then.
        gc.collect()
        by_kind = (AgentUnavailable, AgentRefused)
        codes = [error.code for error in leaves(WorkError) if not issubclass(error, by_kind)]
        self.assertEqual(len({*codes}), len(codes))
        self.assertLessEqual({*codes}, {*CATALOGUE})
        for kind in FailureKind:
            for error in (AgentUnavailable(kind, "No"), AgentRefused(kind, "No")):
                self.assertIs(error.code, kind)

    def test_unique(self) -> None:
        """
        No two failures have the same code.
        """
        codes = [*map(str, (*ErrorCode, *FailureKind))]
        self.assertEqual(len({*codes}), len(codes))

    def test_meanings(self) -> None:
        """
        Every meaning is a sentence.
        """
        for code in CATALOGUE:
            self.assertRegex(code.meaning, r"^[A-Z].*\.$", code)

    def test_statuses(self) -> None:
        """
        Statuses agree with whether asking again helps: it does after 429 and 503, and after 502
        if the agent could not answer.
        """
        turns = {FailureKind.NETWORK, FailureKind.MODEL_GONE, FailureKind.STREAM_TIMEOUT}
        for code in (*ErrorCode, *FailureKind):
            self.assertEqual(code.retryable, code.status in (429, 503) or code in turns, code)

    def test_prompted(self) -> None:
        """
        No failure is 503 after a prompt; all other statuses are the same before and after it.
        """
        for code in (*ErrorCode, *FailureKind):
            before, after = (code.status_for(prompted=prompted) for prompted in (False, True))
            self.assertEqual((before, after), (code.status, {503: 502}.get(before, before)), code)
            self.assertEqual({*code.statuses}, {before, *([after] if code.ends_turns else [])})

    def test_protocol(self) -> None:
        """
        The catalogue has every code but the one that no client meets.
        """
        self.assertEqual({*ErrorCode, *FailureKind} - {*CATALOGUE}, {FailureKind.PROTOCOL})

    def test_scopes(self) -> None:
        """
        A failure that affects every session is recognized by its words, and is one after
        which it helps to ask again.
        """
        for kind in FailureKind:
            if kind.affects_all_sessions:
                self.assertIn(kind, FAILURE_KINDS)
                self.assertTrue(kind.retryable, kind)

    def test_representation(self) -> None:
        """
        The log shows a code as a word.
        """
        self.assertEqual(f"{FailureKind.THROTTLED!r}", "'throttled'")


class ReaderTests(SynchronousTestCase):
    """
    Tests for those that cannot import the catalogue.
    """

    def test_client(self) -> None:
        """
        The client takes those failures for temporary after which it helps to ask again.
        """
        kinds = {408: client.TimedOut, 504: client.TimedOut}
        for code in CATALOGUE:
            default = client.BadRequest if code.status < 500 else client.Failed
            expected = client.Unavailable if code.retryable else kinds.get(code.status, default)
            body = {"code": str(code), **({"retryAfter": 5} if code.retryable else {})}
            for status in code.statuses:
                error = client.error_from_response(status, body, None)
                self.assertIs(type(error), expected, code)
                self.assertEqual(error.code, code)

    def test_proxy(self) -> None:
        """
        The client does not take the 502 of a proxy for temporary: the request may have been run.
        """
        error = client.error_from_response(502, {}, "5")
        self.assertIs(type(error), client.Failed)

    def test_page(self) -> None:
        """
        The page of the documentation is that of the catalogue; if not, print it again:
        ``python docs/failures.py > docs/failures.rst``.
        """
        docs = ROOT / "docs"
        page = runpy.run_path(str(docs / "failures.py"))["page"]()
        self.assertEqual((docs / "failures.rst").read_text(encoding="utf-8"), page)
