"""
Define the errors that a request may raise: one class for each failure that a server reports.

Each is a subclass of `BadRequest`, `Unavailable`, `TimedOut` or `Failed`, and all of these are
subclasses of `KiroError`.

``generate_errors.py`` writes this module from the server's catalogue.  Do not edit it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from kiroworkers_client.base_errors import (
    BadRequest,
    CutOffError,
    Failed,
    InvalidResponseError,
    JobCancelledError,
    KiroError,
    TimedOut,
    Unavailable,
    UnknownError,
    UnreachableError,
)

__all__ = [
    "BY_CODE",
    "AgentError",
    "AllWorkersBusyError",
    "AnswerUnfitError",
    "ApprovalDeniedError",
    "BadHostError",
    "BadPathError",
    "BadRequest",
    "BadRequestError",
    "CancelledError",
    "ContextFullError",
    "CutOffError",
    "ExpectationFailedError",
    "Failed",
    "FaultError",
    "HeadersTooLargeError",
    "IdempotencyMismatchError",
    "InvalidInputError",
    "InvalidJsonError",
    "InvalidMessageError",
    "InvalidResponseError",
    "JobCancelledError",
    "JobsTooLargeError",
    "KiroError",
    "LoginExpiredError",
    "LoginRequiredError",
    "MaxTokensError",
    "MaxTurnRequestsError",
    "ModelGoneError",
    "ModelNotFoundError",
    "NetworkError",
    "NoSessionError",
    "NoTimeLeftError",
    "NoTokenError",
    "NotAcceptableError",
    "NotFoundError",
    "NotJsonError",
    "OperatorsOnlyError",
    "OutOfCreditsError",
    "OutputTooLongError",
    "PathTooLongError",
    "PromptTooLongError",
    "RateLimitedError",
    "RecordingInUseError",
    "RefusalError",
    "SessionLostError",
    "ShuttingDownError",
    "StorageUnavailableError",
    "StreamTimeoutError",
    "SuspendedError",
    "TakenBackError",
    "ThrottledError",
    "TimedOut",
    "TimedOutError",
    "TooLargeError",
    "TooManyConnectionsError",
    "TooManyJobsError",
    "TooSlowError",
    "ToolInterruptedError",
    "ToolNotPermittedError",
    "Unavailable",
    "UnknownApprovalError",
    "UnknownError",
    "UnknownJobError",
    "UnknownMethodError",
    "UnknownModelError",
    "UnknownRecordingError",
    "UnknownRequestError",
    "UnknownSessionError",
    "UnknownTaskError",
    "UnknownWorkerError",
    "UnreachableError",
    "UnreadableError",
    "UnsupportedEncodingError",
    "UnsupportedRevisionError",
    "UpgradeRequiredError",
    "WrongHostError",
    "WrongMethodError",
    "WrongOriginError",
    "WrongScopeError",
    "WrongTokenError",
]


class InvalidJsonError(BadRequest):
    """
    The body is not JSON.
    """

    code = "invalid_json"
    status: int | None = 400


class InvalidMessageError(BadRequest):
    """
    The body is not one message of MCP, or its headers are missing or contradict it.
    """

    code = "invalid_message"
    status: int | None = 400


class UnsupportedRevisionError(BadRequest):
    """
    The server does not speak the revision of MCP; `supported` lists those that it speaks.
    """

    code = "unsupported_revision"
    status: int | None = 400


class InvalidInputError(BadRequest):
    """
    A field, header or parameter has an invalid value; `field` names it.
    """

    code = "invalid_input"
    status: int | None = 400

    @property
    def field(self) -> str | None:
        """
        Return the field, header or parameter that is invalid; None if the whole body is.
        """
        return self._text("field")


class UnknownModelError(BadRequest):
    """
    The agent does not offer the model, or clients may not choose it.
    """

    code = "unknown_model"
    status: int | None = 400

    @property
    def field(self) -> str | None:
        """
        Return the field, header or parameter that is invalid; None if the whole body is.
        """
        return self._text("field")


class BadRequestError(BadRequest):
    """
    The request is not valid HTTP.
    """

    code = "bad_request"
    status: int | None = 400


class BadHostError(BadRequest):
    """
    The `Host` header is missing, repeated or not ASCII.
    """

    code = "bad_host"
    status: int | None = 400


class BadPathError(BadRequest):
    """
    The path is not UTF-8 or does not begin with a slash.
    """

    code = "bad_path"
    status: int | None = 400


class NoTokenError(BadRequest):
    """
    The request has no token.
    """

    code = "no_token"
    status: int | None = 401


class WrongTokenError(BadRequest):
    """
    The server does not know the token.
    """

    code = "wrong_token"
    status: int | None = 401


class WrongScopeError(BadRequest):
    """
    The token lacks the scope that the request needs.
    """

    code = "wrong_scope"
    status: int | None = 403


class OperatorsOnlyError(BadRequest):
    """
    Without a token, only requests that come directly from the server's machine may do this.
    """

    code = "operators_only"
    status: int | None = 403


class WrongHostError(BadRequest):
    """
    The server does not serve the host in the `Host` header.
    """

    code = "wrong_host"
    status: int | None = 403


class WrongOriginError(BadRequest):
    """
    Pages of the origin in the `Origin` header may not do this.
    """

    code = "wrong_origin"
    status: int | None = 403


class NotFoundError(BadRequest):
    """
    The path does not exist.
    """

    code = "not_found"
    status: int | None = 404


class UnknownTaskError(BadRequest):
    """
    The task does not exist.
    """

    code = "unknown_task"
    status: int | None = 404


class UnknownJobError(BadRequest):
    """
    The job does not exist, or it is another client's.
    """

    code = "unknown_job"
    status: int | None = 404


class UnknownRequestError(BadRequest):
    """
    The request is not in the history (any more), or it is another client's.
    """

    code = "unknown_request"
    status: int | None = 404


class UnknownWorkerError(BadRequest):
    """
    The worker does not exist.
    """

    code = "unknown_worker"
    status: int | None = 404


class UnknownApprovalError(BadRequest):
    """
    The approval does not exist, was decided already, or its turn is over.
    """

    code = "unknown_approval"
    status: int | None = 404


class UnknownRecordingError(BadRequest):
    """
    The recording does not exist.
    """

    code = "unknown_recording"
    status: int | None = 404


class ModelNotFoundError(BadRequest):
    """
    The model does not exist.
    """

    code = "model_not_found"
    status: int | None = 404


class UnknownMethodError(BadRequest):
    """
    The revision of MCP, or the server, does not have the method of the message.
    """

    code = "unknown_method"
    status: int | None = 404


class UnknownSessionError(BadRequest):
    """
    The session of MCP does not exist (any more), or it is another client's: initialize anew.
    """

    code = "unknown_session"
    status: int | None = 404


class WrongMethodError(BadRequest):
    """
    The path does not support the method; the `Allow` header lists those that it supports.
    """

    code = "wrong_method"
    status: int | None = 405


class NotAcceptableError(BadRequest):
    """
    The `Accept` header allows none of the media types in which the server can respond.
    """

    code = "not_acceptable"
    status: int | None = 406


class TooSlowError(TimedOut):
    """
    The request was not received in time.
    """

    code = "too_slow"
    status: int | None = 408


class IdempotencyMismatchError(BadRequest):
    """
    The `Idempotency-Key` was used for a different request.
    """

    code = "idempotency_mismatch"
    status: int | None = 409


class RecordingInUseError(BadRequest):
    """
    The recording is being written, so it cannot be deleted.
    """

    code = "recording_in_use"
    status: int | None = 409


class TooLargeError(BadRequest):
    """
    The body is too large, or has too many JSON values.
    """

    code = "too_large"
    status: int | None = 413


class PromptTooLongError(BadRequest):
    """
    The prompt made from the request is longer than the agent's terminal accepts.
    """

    code = "prompt_too_long"
    status: int | None = 413


class PathTooLongError(BadRequest):
    """
    The path is too long.
    """

    code = "path_too_long"
    status: int | None = 414


class NotJsonError(BadRequest):
    """
    The `Content-Type` is not `application/json`.
    """

    code = "not_json"
    status: int | None = 415


class UnsupportedEncodingError(BadRequest):
    """
    The body has a `Content-Encoding`, such as gzip; send it without one.
    """

    code = "unsupported_encoding"
    status: int | None = 415


class ExpectationFailedError(BadRequest):
    """
    The `Expect` header asks for something other than `100-continue`.
    """

    code = "expectation_failed"
    status: int | None = 417


class UpgradeRequiredError(BadRequest):
    """
    The path needs a WebSocket, and the request does not ask for one of version 13.
    """

    code = "upgrade_required"
    status: int | None = 426


class RateLimitedError(Unavailable):
    """
    The client has sent too many requests.
    """

    code = "rate_limited"
    status: int | None = 429

    @property
    def queue_length(self) -> int | None:
        """
        Return how many requests wait for a worker, if the server says so.
        """
        return self._integer_in("queue", "length")

    @property
    def queue_limit(self) -> int | None:
        """
        Return how many requests may wait for a worker, if the server says so.
        """
        return self._integer_in("queue", "limit")


class HeadersTooLargeError(BadRequest):
    """
    The headers are too large, or there are too many.
    """

    code = "headers_too_large"
    status: int | None = 431


class FaultError(Failed):
    """
    The server has a bug; its log has the details.
    """

    code = "fault"
    status: int | None = 500


class AnswerUnfitError(Failed):
    """
    No answer of the agent matched the schema; `reasons` says why for each answer.
    """

    code = "answer_unfit"
    status: int | None = 502

    @property
    def reasons(self) -> tuple[str, ...]:
        """
        Return why each answer of the agent was rejected.
        """
        return self._texts("reasons")

    @property
    def worker(self) -> str | None:
        """
        Return the worker that gave the unusable answer, as named in the server's log.
        """
        return self._text("worker")

    @property
    def request(self) -> int | None:
        """
        Return the number of the request in the server's log.
        """
        return self._integer("request")


class OutputTooLongError(Failed):
    """
    The agent was stopped because it wrote too much.
    """

    code = "output_too_long"
    status: int | None = 502


class SessionLostError(Failed):
    """
    The agent ended while it was answering.
    """

    code = "session_lost"
    status: int | None = 502


class TakenBackError(Failed):
    """
    The valid answer differs from the text that was already streamed; only within a stream.
    """

    code = "taken_back"
    status: int | None = 502


class NetworkError(Unavailable):
    """
    The agent cannot reach its service.
    """

    code = "network"
    status: int | None = 502

    @property
    def queue_length(self) -> int | None:
        """
        Return how many requests wait for a worker, if the server says so.
        """
        return self._integer_in("queue", "length")

    @property
    def queue_limit(self) -> int | None:
        """
        Return how many requests may wait for a worker, if the server says so.
        """
        return self._integer_in("queue", "limit")


class ModelGoneError(Unavailable):
    """
    The agent's model is not available.
    """

    code = "model_gone"
    status: int | None = 502

    @property
    def queue_length(self) -> int | None:
        """
        Return how many requests wait for a worker, if the server says so.
        """
        return self._integer_in("queue", "length")

    @property
    def queue_limit(self) -> int | None:
        """
        Return how many requests may wait for a worker, if the server says so.
        """
        return self._integer_in("queue", "limit")


class StreamTimeoutError(Unavailable):
    """
    The agent's service stopped sending the answer.
    """

    code = "stream_timeout"
    status: int | None = 502

    @property
    def queue_length(self) -> int | None:
        """
        Return how many requests wait for a worker, if the server says so.
        """
        return self._integer_in("queue", "length")

    @property
    def queue_limit(self) -> int | None:
        """
        Return how many requests may wait for a worker, if the server says so.
        """
        return self._integer_in("queue", "limit")


class ContextFullError(Failed):
    """
    The conversation is too large for the agent.
    """

    code = "context_full"
    status: int | None = 502


class RefusalError(Failed):
    """
    The model refused to answer.
    """

    code = "refusal"
    status: int | None = 502


class MaxTokensError(Failed):
    """
    The answer reached the model's maximum length.
    """

    code = "max_tokens"
    status: int | None = 502


class MaxTurnRequestsError(Failed):
    """
    The agent reached its limit of model requests in one turn.
    """

    code = "max_turn_requests"
    status: int | None = 502


class CancelledError(Failed):
    """
    The agent cancelled the turn.
    """

    code = "cancelled"
    status: int | None = 502


class AgentError(Failed):
    """
    The agent failed for a reason that no other code covers.
    """

    code = "agent_error"
    status: int | None = 502


class UnreadableError(Failed):
    """
    It is not certain from the terminal what the agent answered.
    """

    code = "unreadable"
    status: int | None = 502

    @property
    def worker(self) -> str | None:
        """
        Return the worker that gave the unusable answer, as named in the server's log.
        """
        return self._text("worker")

    @property
    def request(self) -> int | None:
        """
        Return the number of the request in the server's log.
        """
        return self._integer("request")


class ToolInterruptedError(Failed):
    """
    The agent's service interrupted the tools of the turn, and the agent gave no answer.
    """

    code = "tool_interrupted"
    status: int | None = 502


class ToolNotPermittedError(Failed):
    """
    The agent used a tool without asking, and `--tools` does not allow it.
    """

    code = "tool_not_permitted"
    status: int | None = 502


class ApprovalDeniedError(Failed):
    """
    The agent was not allowed to use a tool, and gave no answer that matches the schema.
    """

    code = "approval_denied"
    status: int | None = 502


class AllWorkersBusyError(Unavailable):
    """
    No worker was free in time, or too many requests are waiting for one.
    """

    code = "all_workers_busy"
    status: int | None = 503

    @property
    def queue_length(self) -> int | None:
        """
        Return how many requests wait for a worker, if the server says so.
        """
        return self._integer_in("queue", "length")

    @property
    def queue_limit(self) -> int | None:
        """
        Return how many requests may wait for a worker, if the server says so.
        """
        return self._integer_in("queue", "limit")


class NoSessionError(Unavailable):
    """
    No session of the agent can be started; the message has the last reason.
    """

    code = "no_session"
    status: int | None = 503

    @property
    def queue_length(self) -> int | None:
        """
        Return how many requests wait for a worker, if the server says so.
        """
        return self._integer_in("queue", "length")

    @property
    def queue_limit(self) -> int | None:
        """
        Return how many requests may wait for a worker, if the server says so.
        """
        return self._integer_in("queue", "limit")


class NoTimeLeftError(Unavailable):
    """
    Recent turns show that the request cannot be answered before its deadline.
    """

    code = "no_time_left"
    status: int | None = 503

    @property
    def queue_length(self) -> int | None:
        """
        Return how many requests wait for a worker, if the server says so.
        """
        return self._integer_in("queue", "length")

    @property
    def queue_limit(self) -> int | None:
        """
        Return how many requests may wait for a worker, if the server says so.
        """
        return self._integer_in("queue", "limit")


class TooManyJobsError(Unavailable):
    """
    Too many jobs are unfinished.
    """

    code = "too_many_jobs"
    status: int | None = 503

    @property
    def queue_length(self) -> int | None:
        """
        Return how many requests wait for a worker, if the server says so.
        """
        return self._integer_in("queue", "length")

    @property
    def queue_limit(self) -> int | None:
        """
        Return how many requests may wait for a worker, if the server says so.
        """
        return self._integer_in("queue", "limit")


class JobsTooLargeError(Unavailable):
    """
    The stored jobs, or those of the client, are too large.
    """

    code = "jobs_too_large"
    status: int | None = 503

    @property
    def queue_length(self) -> int | None:
        """
        Return how many requests wait for a worker, if the server says so.
        """
        return self._integer_in("queue", "length")

    @property
    def queue_limit(self) -> int | None:
        """
        Return how many requests may wait for a worker, if the server says so.
        """
        return self._integer_in("queue", "limit")


class StorageUnavailableError(Unavailable):
    """
    Jobs and idempotency keys cannot be stored or read at present.
    """

    code = "storage_unavailable"
    status: int | None = 503

    @property
    def queue_length(self) -> int | None:
        """
        Return how many requests wait for a worker, if the server says so.
        """
        return self._integer_in("queue", "length")

    @property
    def queue_limit(self) -> int | None:
        """
        Return how many requests may wait for a worker, if the server says so.
        """
        return self._integer_in("queue", "limit")


class TooManyConnectionsError(Unavailable):
    """
    The server, or the client's address, has too many connections.
    """

    code = "too_many_connections"
    status: int | None = 503

    @property
    def queue_length(self) -> int | None:
        """
        Return how many requests wait for a worker, if the server says so.
        """
        return self._integer_in("queue", "length")

    @property
    def queue_limit(self) -> int | None:
        """
        Return how many requests may wait for a worker, if the server says so.
        """
        return self._integer_in("queue", "limit")


class ShuttingDownError(Unavailable):
    """
    The server is stopping.
    """

    code = "shutting_down"
    status: int | None = 503

    @property
    def queue_length(self) -> int | None:
        """
        Return how many requests wait for a worker, if the server says so.
        """
        return self._integer_in("queue", "length")

    @property
    def queue_limit(self) -> int | None:
        """
        Return how many requests may wait for a worker, if the server says so.
        """
        return self._integer_in("queue", "limit")


class LoginRequiredError(Unavailable):
    """
    Nobody is logged in to the agent.
    """

    code = "login_required"
    status: int | None = 503

    @property
    def queue_length(self) -> int | None:
        """
        Return how many requests wait for a worker, if the server says so.
        """
        return self._integer_in("queue", "length")

    @property
    def queue_limit(self) -> int | None:
        """
        Return how many requests may wait for a worker, if the server says so.
        """
        return self._integer_in("queue", "limit")


class LoginExpiredError(Unavailable):
    """
    The agent's login has expired.
    """

    code = "login_expired"
    status: int | None = 503

    @property
    def queue_length(self) -> int | None:
        """
        Return how many requests wait for a worker, if the server says so.
        """
        return self._integer_in("queue", "length")

    @property
    def queue_limit(self) -> int | None:
        """
        Return how many requests may wait for a worker, if the server says so.
        """
        return self._integer_in("queue", "limit")


class ThrottledError(Unavailable):
    """
    The agent's account has sent too many requests.
    """

    code = "throttled"
    status: int | None = 503

    @property
    def queue_length(self) -> int | None:
        """
        Return how many requests wait for a worker, if the server says so.
        """
        return self._integer_in("queue", "length")

    @property
    def queue_limit(self) -> int | None:
        """
        Return how many requests may wait for a worker, if the server says so.
        """
        return self._integer_in("queue", "limit")


class SuspendedError(Unavailable):
    """
    The agent's service has limited or suspended the account.
    """

    code = "suspended"
    status: int | None = 503

    @property
    def queue_length(self) -> int | None:
        """
        Return how many requests wait for a worker, if the server says so.
        """
        return self._integer_in("queue", "length")

    @property
    def queue_limit(self) -> int | None:
        """
        Return how many requests may wait for a worker, if the server says so.
        """
        return self._integer_in("queue", "limit")


class OutOfCreditsError(Unavailable):
    """
    The agent's account has no credits left.
    """

    code = "out_of_credits"
    status: int | None = 503

    @property
    def queue_length(self) -> int | None:
        """
        Return how many requests wait for a worker, if the server says so.
        """
        return self._integer_in("queue", "length")

    @property
    def queue_limit(self) -> int | None:
        """
        Return how many requests may wait for a worker, if the server says so.
        """
        return self._integer_in("queue", "limit")


class TimedOutError(TimedOut):
    """
    There was no answer before the request's deadline.
    """

    code = "timed_out"
    status: int | None = 504


#: The class of each code.
BY_CODE: Mapping[str, type[KiroError]] = MappingProxyType(
    {
        "invalid_json": InvalidJsonError,
        "invalid_message": InvalidMessageError,
        "unsupported_revision": UnsupportedRevisionError,
        "invalid_input": InvalidInputError,
        "unknown_model": UnknownModelError,
        "bad_request": BadRequestError,
        "bad_host": BadHostError,
        "bad_path": BadPathError,
        "no_token": NoTokenError,
        "wrong_token": WrongTokenError,
        "wrong_scope": WrongScopeError,
        "operators_only": OperatorsOnlyError,
        "wrong_host": WrongHostError,
        "wrong_origin": WrongOriginError,
        "not_found": NotFoundError,
        "unknown_task": UnknownTaskError,
        "unknown_job": UnknownJobError,
        "unknown_request": UnknownRequestError,
        "unknown_worker": UnknownWorkerError,
        "unknown_approval": UnknownApprovalError,
        "unknown_recording": UnknownRecordingError,
        "model_not_found": ModelNotFoundError,
        "unknown_method": UnknownMethodError,
        "unknown_session": UnknownSessionError,
        "wrong_method": WrongMethodError,
        "not_acceptable": NotAcceptableError,
        "too_slow": TooSlowError,
        "idempotency_mismatch": IdempotencyMismatchError,
        "recording_in_use": RecordingInUseError,
        "too_large": TooLargeError,
        "prompt_too_long": PromptTooLongError,
        "path_too_long": PathTooLongError,
        "not_json": NotJsonError,
        "unsupported_encoding": UnsupportedEncodingError,
        "expectation_failed": ExpectationFailedError,
        "upgrade_required": UpgradeRequiredError,
        "rate_limited": RateLimitedError,
        "headers_too_large": HeadersTooLargeError,
        "fault": FaultError,
        "answer_unfit": AnswerUnfitError,
        "output_too_long": OutputTooLongError,
        "session_lost": SessionLostError,
        "taken_back": TakenBackError,
        "network": NetworkError,
        "model_gone": ModelGoneError,
        "stream_timeout": StreamTimeoutError,
        "context_full": ContextFullError,
        "refusal": RefusalError,
        "max_tokens": MaxTokensError,
        "max_turn_requests": MaxTurnRequestsError,
        "cancelled": CancelledError,
        "agent_error": AgentError,
        "unreadable": UnreadableError,
        "tool_interrupted": ToolInterruptedError,
        "tool_not_permitted": ToolNotPermittedError,
        "approval_denied": ApprovalDeniedError,
        "all_workers_busy": AllWorkersBusyError,
        "no_session": NoSessionError,
        "no_time_left": NoTimeLeftError,
        "too_many_jobs": TooManyJobsError,
        "jobs_too_large": JobsTooLargeError,
        "storage_unavailable": StorageUnavailableError,
        "too_many_connections": TooManyConnectionsError,
        "shutting_down": ShuttingDownError,
        "login_required": LoginRequiredError,
        "login_expired": LoginExpiredError,
        "throttled": ThrottledError,
        "suspended": SuspendedError,
        "out_of_credits": OutOfCreditsError,
        "timed_out": TimedOutError,
    }
)
