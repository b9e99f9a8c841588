"""
Tests for the failures that Claude Code reports.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations import AgentFailure
from kiroworkers.errors import FailureKind
from tests.conversations.acp.agent import Agent


class FailureTests(SynchronousTestCase):
    """
    Tests for the errors of its adapter, most as the real program reported them.
    """

    def test_kinds(self) -> None:
        """
        The kind of a failure is in the error's data, or in its text.
        """
        for message, kind, expected in (
            ("Invalid API key · Fix external API key", "authentication_failed", "login_expired"),
            (
                "Failed to authenticate. API Error: 403 Your account does not have access",
                "authentication_failed",
                "login_expired",
            ),
            (
                "There's an issue with the selected model (claude-opus-4-8[1m]). It may not exist "
                "or you may not have access to it.",
                "model_not_found",
                "model_gone",
            ),
            ("Prompt is too long", "invalid_request", "context_full"),
            (
                "API Error: Request rejected (429) · This request would exceed your account's "
                "rate limit. Please try again later.",
                "rate_limit",
                "throttled",
            ),
            ("API Error: 529 Overloaded.", "server_error", "throttled"),
            ("API Error: 500 Internal server error.", "server_error", "agent_error"),
            ("Credit balance is too low", "billing_error", "out_of_credits"),
            ("You've hit your session limit · resets 3pm", "rate_limit", "out_of_credits"),
            ("API Error: Unable to connect to API (ConnectionRefused)", "unknown", "network"),
        ):
            agent = Agent(dialect="claude").started()
            agent.ask()
            agent.chunk(message)
            [event] = agent.error(-32603, f"Internal error: {message}", {"errorKind": kind})
            assert isinstance(event, AgentFailure), event
            self.assertEqual(event.kind, expected, message)

    def test_login(self) -> None:
        """
        A prompt without a login fails with the protocol's own error.
        """
        agent = Agent(dialect="claude").started()
        agent.ask()
        [event] = agent.error(-32000, "Authentication required")
        assert isinstance(event, AgentFailure), event
        self.assertEqual(event.kind, FailureKind.LOGIN_REQUIRED)
