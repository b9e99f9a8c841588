"""
Tests for `kiroworkers_client.retries`.
"""

from __future__ import annotations

from typing import Any
from unittest import TestCase

from kiroworkers_client import KiroError, RetryPolicy, errors
from kiroworkers_client.responses import error_from


def delay(failure: KiroError, policy: RetryPolicy = RetryPolicy(), **changes: Any) -> float | None:  # noqa: B008
    """
    Return the delay before a request that failed is sent again.
    """
    usual = {"retries": 0, "repeatable": True, "left": 100.0, "random": lambda: 0.0}
    return policy.delay(failure, **{**usual, **changes})


BUSY = errors.AllWorkersBusyError("busy", retry_after=6.0)
UNREACHABLE = errors.UnreachableError("refused")
CUT_OFF = errors.CutOffError("reset")


class RetryPolicyTests(TestCase):
    """
    Tests for `RetryPolicy`.
    """

    def test_retry_after(self) -> None:
        """
        A request is never sent again before the time that the server names, and at most a quarter
        later.
        """
        self.assertEqual(delay(BUSY), 6.0)
        self.assertEqual(delay(BUSY, random=lambda: 1.0), 7.5)

    def test_after_a_prompt(self) -> None:
        """
        A request that an agent was asked and could not answer is sent again like one that was
        refused before, also if this client does not know the code; one that a proxy has lost is
        sent again only if it is repeatable.
        """
        for code in ("throttled", "raining"):
            for status in (502, 503):
                body = {"error": "No", "code": code, "retryAfter": 6}
                self.assertEqual(delay(error_from(status, body), repeatable=False), 6.0)
        lost = error_from(502, {"error": "Lost", "code": "unknown"}, {"retry-after": "6"})
        self.assertIsNone(delay(lost, repeatable=False))
        self.assertIsNotNone(delay(lost))

    def test_retry_after_zero(self) -> None:
        """
        A server that names no time, or none at all, is not asked at once.
        """
        self.assertEqual(delay(errors.NoSessionError("none", retry_after=0.0)), 0.5)

    def test_backoff(self) -> None:
        """
        While the server cannot be reached, the delay doubles, up to the longest one.
        """
        policy = RetryPolicy(max_retries=9, max_delay=3.0)
        delays = [delay(UNREACHABLE, policy, retries=retries) for retries in range(5)]
        self.assertEqual(delays, [0.5, 1.0, 2.0, 3.0, 3.0])

    def test_huge_count(self) -> None:
        """
        No number of retries makes the delay longer than the longest one.
        """
        policy = RetryPolicy(max_retries=1_000, max_delay=3.0)
        self.assertEqual(delay(UNREACHABLE, policy, retries=900), 3.0)

    def test_count(self) -> None:
        """
        A request is sent again only so often.
        """
        self.assertIsNotNone(delay(BUSY, retries=2))
        self.assertIsNone(delay(BUSY, retries=3))

    def test_too_long(self) -> None:
        """
        If the server asks for a longer wait than the longest one, the request fails.
        """
        suspended = errors.SuspendedError("suspended", retry_after=600.0)
        self.assertIsNone(delay(suspended, left=None))
        self.assertEqual(delay(suspended, RetryPolicy(max_delay=600.0), left=None), 600.0)

    def test_deadline(self) -> None:
        """
        A request is not sent again at or after its deadline.
        """
        self.assertIsNone(delay(BUSY, left=6.0))
        self.assertEqual(delay(BUSY, left=6.1), 6.0)
        self.assertEqual(delay(BUSY, left=None), 6.0)

    def test_lost(self) -> None:
        """
        If the server may have run a request, it is sent again only if it is repeatable.
        """
        gateway = error_from(502, {"error": "Bad Gateway"})
        for failure in (CUT_OFF, gateway):
            with self.subTest(failure=failure):
                self.assertEqual(delay(failure), 0.5)
                self.assertIsNone(delay(failure, repeatable=False))

    def test_without_effect(self) -> None:
        """
        If the server has not run a request, it is sent again in any case.
        """
        for failure in (BUSY, UNREACHABLE, errors.RateLimitedError("slow", retry_after=1.0)):
            with self.subTest(failure=failure):
                self.assertIsNotNone(delay(failure, repeatable=False))

    def test_newer_server(self) -> None:
        """
        An unknown failure of a newer server is retried if the server says when.
        """
        newer = {"error": "It rains", "code": "raining", "retryAfter": 2}
        self.assertEqual(delay(error_from(503, newer)), 2.0)
        self.assertIsNone(delay(error_from(503, {"error": "It rains", "code": "raining"})))

    def test_final(self) -> None:
        """
        No other failure is retried: the answer would be the same, or costs another turn.
        """
        for kind in errors.BY_CODE.values():
            if not issubclass(kind, errors.Unavailable):
                with self.subTest(kind=kind):
                    self.assertIsNone(delay(kind("no", retry_after=1.0)))
