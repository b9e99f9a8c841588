"""
List failures of Kiro's service, in the words and the envelope in which Kiro reports them.

They come from captures and from the sources of programs that drive Kiro; where only a name of
an exception is known, the words around it are made up.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from attrs import frozen

from kiroworkers.errors import FailureKind

_STREAM = "Encountered an error in the response stream: "
_REQUEST_ID = "0a3a0ba4-cad0-4202-9432-d70d7b5abfd0"


@frozen
class Failure:
    """
    Represent a failure.

    Attributes:
        kind: What the server must call it.
        error: The error of the response to session/prompt.
        wait: The seconds after which to ask again that the words name; None if they do not.
    """

    kind: FailureKind
    error: Mapping[str, Any]
    wait: int | None = None

    @property
    def words(self) -> str:
        """
        Return the words that say what is wrong.
        """
        match self.error:
            case {"data": str(words)}:
                return words.removeprefix(_STREAM)
        words = self.error["message"]
        assert isinstance(words, str)
        return words


def _v2(kind: FailureKind, words: str, wait: int | None = None) -> Failure:
    return Failure(kind, {"code": -32603, "message": "Internal error", "data": words}, wait)


def _v3(kind: FailureKind, words: str, **data: Any) -> Failure:
    return Failure(kind, {"code": -32000, "message": words, **({"data": data} if data else {})})


#: The failures of engine v2, by a name without blanks.
V2: Mapping[str, Failure] = MappingProxyType(
    {
        "throttled": _v2(
            FailureKind.THROTTLED,
            f"{_STREAM}The request was throttled by the service (request_id: {_REQUEST_ID})",
        ),
        "too-many": _v2(
            FailureKind.THROTTLED,
            "Too many requests, please wait before trying again. (Request ID: 75c1a0b2)",
        ),
        "rate-limit": _v2(
            FailureKind.THROTTLED,
            "Rate limit exceeded. Please wait a moment before trying again.",
        ),
        "throttling-exception": _v2(
            FailureKind.THROTTLED, f"{_STREAM}ThrottlingException: Rate exceeded"
        ),
        "too-many-exception": _v2(
            FailureKind.THROTTLED, f"{_STREAM}TooManyRequestsException: slow down"
        ),
        "quota-exception": _v2(
            FailureKind.THROTTLED, "ServiceQuotaExceededException: the quota is used"
        ),
        "credit-limit": _v2(FailureKind.THROTTLED, "5-minute credit limit exceeded", 300),
        "high-load": _v2(
            FailureKind.THROTTLED,
            "The service is under unexpectedly high load, please try again",
        ),
        "suspicious": _v2(
            FailureKind.SUSPENDED,
            "Due to suspicious activity, we are imposing temporary limits on how frequently your "
            "account (d-0000000000) can send a request to Kiro while we investigate.",
        ),
        "suspended": _v2(
            FailureKind.SUSPENDED,
            "AccessDeniedException: Your User ID (d-0000000000) temporarily is suspended",
        ),
        "not-logged-in": _v2(
            FailureKind.LOGIN_REQUIRED, "You are not logged in, please log in with kiro-cli login"
        ),
        "authentication": _v2(FailureKind.LOGIN_REQUIRED, "Authentication required"),
        "bearer-token": _v2(
            FailureKind.LOGIN_EXPIRED,
            f"{_STREAM}The bearer token included in the request is invalid",
        ),
        "invalid-token": _v2(FailureKind.LOGIN_EXPIRED, "AccessDeniedException: Invalid token"),
        "expired-token": _v2(
            FailureKind.LOGIN_EXPIRED, "ExpiredToken: the token is no longer valid"
        ),
        "session-expired": _v2(
            FailureKind.LOGIN_EXPIRED, "Your session has expired. Please log in again."
        ),
        "monthly": _v2(
            FailureKind.OUT_OF_CREDITS,
            f"{_STREAM}The monthly usage limit has been reached (request_id: 75c1a0b2)",
        ),
        "weekly": _v2(FailureKind.OUT_OF_CREDITS, "You have reached your weekly usage limit"),
        "monthly-error": _v2(FailureKind.OUT_OF_CREDITS, "MonthlyLimitError: no credits left"),
        "free-tier": _v2(FailureKind.OUT_OF_CREDITS, "FreeTierLimitExceeded: no credits left"),
        "overflowed": _v2(FailureKind.CONTEXT_FULL, f"{_STREAM}Context window overflowed"),
        "too-large": _v2(
            FailureKind.CONTEXT_FULL,
            "This message is too large to send, and it contains no text that can be shortened. "
            "Remove or reduce the attached content and try again.",
        ),
        "continue": _v2(FailureKind.CONTEXT_FULL, "Your conversation is too large to continue."),
        "model-unavailable": _v2(
            FailureKind.MODEL_GONE, "The model 'claude-opus-4.7' is not available"
        ),
        "model-selected": _v2(
            FailureKind.MODEL_GONE,
            f"{_STREAM}The model you've selected is temporarily unavailable. Please use '/model' "
            "to select a different model and try again.",
        ),
        "model-invalid": _v2(FailureKind.MODEL_GONE, "Invalid model ID: claude-nobody-1"),
        "reset": _v2(FailureKind.NETWORK, "dispatch failure: io error: connection reset by peer"),
        "sending": _v2(
            FailureKind.NETWORK, "error sending request for url (https://q.example.com/)"
        ),
        "refused": _v2(FailureKind.NETWORK, "connect ECONNREFUSED 192.0.2.1:443"),
        "timed-out": _v2(
            FailureKind.STREAM_TIMEOUT,
            f"{_STREAM}The stream timed out receiving the response after 300000ms",
        ),
        "stalled": _v2(
            FailureKind.STREAM_TIMEOUT, f"{_STREAM}The response stream repeatedly stalled"
        ),
        "failed": _v2(FailureKind.AGENT_ERROR, "Kiro failed to generate a response"),
        "improper": _v2(FailureKind.AGENT_ERROR, f"{_STREAM}Improperly formed request"),
        "in-progress": _v2(FailureKind.AGENT_ERROR, "Prompt already in progress"),
    }
)

#: Those of engine v3.
V3: Mapping[str, Failure] = MappingProxyType(
    {
        "usage-limit": _v3(
            FailureKind.OUT_OF_CREDITS,
            "You have reached your usage limit.",
            message="You have reached your usage limit.",
            actions=["viewUsage", "enableOverages"],
        ),
        "model-unavailable": _v3(
            FailureKind.MODEL_GONE,
            "Model temporarily unavailable",
            retryErrorType="MODEL_TEMPORARILY_UNAVAILABLE",
        ),
        "no-session": _v3(FailureKind.AGENT_ERROR, "Session 'sess_1' not found"),
        "token": _v3(
            FailureKind.LOGIN_EXPIRED,
            "[TokenInvalidError] Authentication token is invalid: Host refresh callback returned "
            "token already inside 180000ms refresh buffer",
            errorType="TokenInvalidError",
        ),
        "reset": Failure(
            FailureKind.NETWORK,
            {
                "code": -32603,
                "message": "Internal error",
                "data": {"details": "dispatch failure: io error: connection reset by peer"},
            },
        ),
        "authentication": _v3(FailureKind.LOGIN_REQUIRED, "Authentication required"),
        "stalled": _v3(
            FailureKind.STREAM_TIMEOUT,
            "The model response stalled and timed out. Please try again. (Request ID: "
            f"{_REQUEST_ID})",
            errorType="StreamIdleTimeoutError",
            retryErrorType="TRANSIENT",
            requestId=_REQUEST_ID,
        ),
        "overflow": _v3(
            FailureKind.CONTEXT_FULL,
            "Context window exceeded",
            errorType="ContextWindowExceededError",
        ),
        "throttled": _v3(
            FailureKind.THROTTLED, "Too many requests, please wait before trying again."
        ),
        "suspended": _v3(
            FailureKind.SUSPENDED,
            "Your User ID (d-0000000000) temporarily is suspended",
        ),
    }
)
