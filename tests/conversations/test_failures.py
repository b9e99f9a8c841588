"""
Tests for `kiroworkers.conversations.failures`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations import load_dialect
from kiroworkers.conversations.failures import find_failure

#: What Kiro says, and the kind of failure that it means; None for a fault of its own.
_TEXTS = {
    "The request was throttled by the service (request_id: 0a3a)": "throttled",
    "Too many requests, please wait before trying again.": "throttled",
    "Rate limit exceeded. Please wait a moment before trying again.": "throttled",
    "ServiceQuotaExceededException": "throttled",
    "5-minute credit limit exceeded": "throttled",
    "The service is under unexpectedly high load": "throttled",
    "429: Due to suspicious activity, we are imposing temporary limits on": "suspended",
    "AccessDenied: Your User ID (d-1) temporarily is suspended.": "suspended",
    "You are not logged in, please log in with kiro-cli login": "login_required",
    "Authentication required": "login_required",
    "The bearer token included in the request is invalid": "login_expired",
    "AccessDeniedException: Invalid token": "login_expired",
    "Your session has expired": "login_expired",
    "[TokenExpiredError] x": "login_expired",
    "The monthly usage limit has been reached": "out_of_credits",
    "You've reached your weekly limit": "out_of_credits",
    "FreeTierLimitExceeded": "out_of_credits",
    "Context window overflowed": "context_full",
    "This message is too large to send": "context_full",
    "The model 'claude-opus-4.7' is not available": "model_gone",
    "The model you've selected is temporarily unavailable.": "model_gone",
    "Invalid model ID: x": "model_gone",
    "dispatch failure: io error: connection reset by peer": "network",
    "getaddrinfo ENOTFOUND": "network",
    "The stream timed out receiving the response after 300000ms": "stream_timeout",
    "The response stream repeatedly stalled": "stream_timeout",
    "Kiro failed to generate a response": None,
    "Improperly formed request": None,
    "Prompt already in progress": None,
    "UnrecognizedClientException: The security token is invalid": None,
}


class FindFailureTests(SynchronousTestCase):
    """
    Tests for `find_failure`.
    """

    def test_kiro(self) -> None:
        """
        A failure of Kiro over ACP has the same kind with both engines.
        """
        for dialect in ("kiro-acp", "kiro-acp-v3"):
            patterns = load_dialect(dialect).failures
            for text, kind in _TEXTS.items():
                failure = find_failure(patterns, text)
                self.assertEqual(None if failure is None else failure.kind, kind, text)

    def test_waiting_time(self) -> None:
        """
        The waiting time is the one that the text names, or the window of a limit.
        """
        for text, seconds in (
            ("Too many requests, try again in 20 seconds", 20),
            ("Too many requests: wait 2m", 120),
            ("5-minute credit limit exceeded", 300),
            ("The 1-hour limit: too many requests", 3600),
            ("Too many requests in the last 5-minute window", None),
        ):
            failure = find_failure(load_dialect("kiro-acp").failures, text)
            assert failure is not None, text
            self.assertEqual(failure.retry_after, seconds, text)
