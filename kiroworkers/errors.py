"""
Define every failure: its code and what the code means, and the exceptions.

`ErrorCode` and `FailureKind` are the catalogue of the failures that a client can meet.
The statuses of HTTP, the OpenAPI document, ``docs/failures.rst`` and the circuit breaker
are derived from it.  A `WorkError` explains why one request got no answer, and has one
of these codes.  A `CannotStart` explains why the server cannot run at all.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal, Self, TypeAlias

from attrs import field, frozen

#: When a client may ask again: after the error's own number of seconds (``"own"``), or
#: after a number of seconds unless the error has its own.  None if asking again does not
#: help.
RetryAfter: TypeAlias = int | Literal["own"] | None

#: Seconds after which to ask an agent again if it did not say how long it is unavailable.
_AGENT_RETRY_AFTER = 60

#: The status with which a proxy may send the request to another server, because no agent has been
#: asked; and the status of the same failure once one has been.
_UNASKED, _ASKED = 503, 502

#: Longest name that an error quotes, in characters.
_MAX_QUOTED_NAME = 100

#: How many characters of an option's value a message quotes.
_MAX_QUOTED_VALUE = 200


class FailureCode(StrEnum):
    """
    Represent the machine-readable code of a failure; the subclasses have the members.

    Attributes:
        status: The HTTP status, unless a prompt was sent; see `status_for`.
        meaning: A sentence for the author of a client.
        retry_after: When a client may ask again.
        cacheable: Whether a repeated request under the same idempotency key gets the same
            failure: it cost a turn, and another turn would most likely end the same.
        ends_turns: Whether a request may also meet it after a prompt was sent.
    """

    status: int
    meaning: str
    retry_after: RetryAfter
    cacheable: bool
    ends_turns: bool

    def __new__(
        cls, code: str, status: int, meaning: str, retry_after: RetryAfter = None, *more: object
    ) -> Self:
        """
        Return a member whose value is `code`; `more` is for the subclass.
        """
        member = str.__new__(cls, code)
        member._value_ = code
        member.status, member.meaning, member.retry_after = status, meaning, retry_after
        return member

    def __repr__(self) -> str:
        # Failures are logged by their representation.
        return repr(self.value)

    @property
    def retryable(self) -> bool:
        """
        Return whether the same request may succeed if it is sent again later.
        """
        return self.retry_after is not None

    @property
    def statuses(self) -> tuple[int, ...]:
        """
        Return the statuses that the failure may have.
        """
        turn = {self.status_for(prompted=True)} if self.ends_turns else set()
        return tuple(sorted({self.status, *turn}))

    def status_for(self, *, prompted: bool) -> int:
        """
        Return the HTTP status of the failure.

        A 503 means that no agent has been asked, so a proxy may send the request to another
        server.  Otherwise that could answer the request a second time.

        Args:
            prompted: Whether a prompt was sent to an agent.
        """
        return _ASKED if prompted and self.status == _UNASKED else self.status


class ErrorCode(FailureCode):
    """
    Represent a failure that the server itself detects.
    """

    def __init__(
        self,
        code: str,
        status: int,
        meaning: str,
        retry_after: RetryAfter = None,
        cacheable: bool = False,
        ends_turns: bool = False,
    ) -> None:
        self.cacheable = cacheable
        self.ends_turns = ends_turns

    INVALID_JSON = "invalid_json", 400, "The body is not JSON."
    INVALID_MESSAGE = (
        "invalid_message",
        400,
        "The body is not one message of MCP, or its headers are missing or contradict it.",
    )
    UNSUPPORTED_REVISION = (
        "unsupported_revision",
        400,
        "The server does not speak the revision of MCP; `supported` lists those that it speaks.",
    )
    INVALID_INPUT = (
        "invalid_input",
        400,
        "A field, header or parameter has an invalid value; `field` names it.",
    )
    UNKNOWN_MODEL = (
        "unknown_model",
        400,
        "The agent does not offer the model, or clients may not choose it.",
    )
    BAD_REQUEST = "bad_request", 400, "The request is not valid HTTP."
    BAD_HOST = "bad_host", 400, "The `Host` header is missing, repeated or not ASCII."
    BAD_PATH = "bad_path", 400, "The path is not UTF-8 or does not begin with a slash."
    NO_TOKEN = "no_token", 401, "The request has no token."
    WRONG_TOKEN = "wrong_token", 401, "The server does not know the token."
    WRONG_SCOPE = "wrong_scope", 403, "The token lacks the scope that the request needs."
    OPERATORS_ONLY = (
        "operators_only",
        403,
        "Without a token, only requests that come directly from the server's machine may do this.",
    )
    WRONG_HOST = "wrong_host", 403, "The server does not serve the host in the `Host` header."
    WRONG_ORIGIN = (
        "wrong_origin",
        403,
        "Pages of the origin in the `Origin` header may not do this.",
    )
    NOT_FOUND = "not_found", 404, "The path does not exist."
    UNKNOWN_TASK = "unknown_task", 404, "The task does not exist."
    UNKNOWN_JOB = "unknown_job", 404, "The job does not exist, or it is another client's."
    UNKNOWN_REQUEST = (
        "unknown_request",
        404,
        "The request is not in the history (any more), or it is another client's.",
    )
    UNKNOWN_WORKER = "unknown_worker", 404, "The worker does not exist."
    UNKNOWN_APPROVAL = (
        "unknown_approval",
        404,
        "The approval does not exist, was decided already, or its turn is over.",
    )
    UNKNOWN_RECORDING = "unknown_recording", 404, "The recording does not exist."
    MODEL_NOT_FOUND = "model_not_found", 404, "The model does not exist."
    UNKNOWN_METHOD = (
        "unknown_method",
        404,
        "The revision of MCP, or the server, does not have the method of the message.",
    )
    UNKNOWN_SESSION = (
        "unknown_session",
        404,
        "The session of MCP does not exist (any more), or it is another client's: initialize anew.",
    )
    WRONG_METHOD = (
        "wrong_method",
        405,
        "The path does not support the method; the `Allow` header lists those that it supports.",
    )
    NOT_ACCEPTABLE = (
        "not_acceptable",
        406,
        "The `Accept` header allows none of the media types in which the server can respond.",
    )
    TOO_SLOW = "too_slow", 408, "The request was not received in time."
    IDEMPOTENCY_MISMATCH = (
        "idempotency_mismatch",
        409,
        "The `Idempotency-Key` was used for a different request.",
    )
    RECORDING_IN_USE = (
        "recording_in_use",
        409,
        "The recording is being written, so it cannot be deleted.",
    )
    TOO_LARGE = "too_large", 413, "The body is too large, or has too many JSON values."
    PROMPT_TOO_LONG = (
        "prompt_too_long",
        413,
        "The prompt made from the request is longer than the agent's terminal accepts.",
    )
    PATH_TOO_LONG = "path_too_long", 414, "The path is too long."
    NOT_JSON = "not_json", 415, "The `Content-Type` is not `application/json`."
    UNSUPPORTED_ENCODING = (
        "unsupported_encoding",
        415,
        "The body has a `Content-Encoding`, such as gzip; send it without one.",
    )
    EXPECTATION_FAILED = (
        "expectation_failed",
        417,
        "The `Expect` header asks for something other than `100-continue`.",
    )
    RATE_LIMITED = "rate_limited", 429, "The client has sent too many requests.", "own"
    UPGRADE_REQUIRED = (
        "upgrade_required",
        426,
        "The path needs a WebSocket, and the request does not ask for one of version 13.",
    )
    HEADERS_TOO_LARGE = (
        "headers_too_large",
        431,
        "The headers are too large, or there are too many.",
    )
    FAULT = "fault", 500, "The server has a bug; its log has the details."
    ANSWER_UNFIT = (
        "answer_unfit",
        502,
        "No answer of the agent matched the schema; `reasons` says why for each answer.",
        None,
        True,
    )
    OUTPUT_TOO_LONG = (
        "output_too_long",
        502,
        "The agent was stopped because it wrote too much.",
        None,
        True,
    )
    SESSION_LOST = "session_lost", 502, "The agent ended while it was answering."
    TAKEN_BACK = (
        "taken_back",
        502,
        "The valid answer differs from the text that was already streamed; only within a stream.",
    )
    ALL_WORKERS_BUSY = (
        "all_workers_busy",
        503,
        "No worker was free in time, or too many requests are waiting for one.",
        "own",
    )
    NO_SESSION = (
        "no_session",
        503,
        "No session of the agent can be started; the message has the last reason.",
        "own",
        False,
        True,
    )
    NO_TIME_LEFT = (
        "no_time_left",
        503,
        "Recent turns show that the request cannot be answered before its deadline.",
        "own",
    )
    TOO_MANY_JOBS = "too_many_jobs", 503, "Too many jobs are unfinished.", "own"
    JOBS_TOO_LARGE = (
        "jobs_too_large",
        503,
        "The stored jobs, or those of the client, are too large.",
        "own",
    )
    STORAGE_UNAVAILABLE = (
        "storage_unavailable",
        503,
        "Jobs and idempotency keys cannot be stored or read at present.",
        "own",
        False,
        # It may be unknown whether a job was stored, and begun.
        True,
    )
    TOO_MANY_CONNECTIONS = (
        "too_many_connections",
        503,
        "The server, or the client's address, has too many connections.",
        5,
    )
    # A server that restarts may be back by then.
    SHUTTING_DOWN = "shutting_down", 503, "The server is stopping.", 10, False, True
    TIMED_OUT = "timed_out", 504, "There was no answer before the request's deadline."


class FailureKind(FailureCode):
    """
    Represent a failure that the agent reports.

    A `retryable` kind means that the agent is unavailable; any other kind means that it
    cannot answer this request.

    A failure of one request has only been met in a turn, so it is never 503.

    Attributes:
        probe_delays: For a failure that affects every session of the agent: the seconds
            until the agent is tried again, if it names none, and the maximum after
            doubling.  None for a failure that affects one request only.
    """

    probe_delays: tuple[float, float] | None

    def __init__(
        self,
        code: str,
        status: int,
        meaning: str,
        retry_after: RetryAfter = None,
        probe_delays: tuple[float, float] | None = None,
    ) -> None:
        self.probe_delays = probe_delays
        self.cacheable = retry_after is None
        self.ends_turns = True

    LOGIN_REQUIRED = (
        "login_required",
        503,
        "Nobody is logged in to the agent.",
        "own",
        (60.0, 600.0),
    )
    LOGIN_EXPIRED = (
        "login_expired",
        503,
        "The agent's login has expired.",
        "own",
        (60.0, 600.0),
    )
    THROTTLED = (
        "throttled",
        503,
        "The agent's account has sent too many requests.",
        "own",
        (30.0, 600.0),
    )
    SUSPENDED = (
        "suspended",
        503,
        "The agent's service has limited or suspended the account.",
        "own",
        (600.0, 3600.0),
    )
    OUT_OF_CREDITS = (
        "out_of_credits",
        503,
        "The agent's account has no credits left.",
        "own",
        (600.0, 3600.0),
    )
    NETWORK = "network", 502, "The agent cannot reach its service.", _AGENT_RETRY_AFTER
    MODEL_GONE = "model_gone", 502, "The agent's model is not available.", _AGENT_RETRY_AFTER
    # Only the start of a session fails with it, so no client meets it.
    PROTOCOL = "protocol", 503, "The agent violated its protocol.", _AGENT_RETRY_AFTER
    STREAM_TIMEOUT = (
        "stream_timeout",
        502,
        "The agent's service stopped sending the answer.",
        _AGENT_RETRY_AFTER,
    )
    CONTEXT_FULL = "context_full", 502, "The conversation is too large for the agent."
    REFUSAL = "refusal", 502, "The model refused to answer."
    MAX_TOKENS = "max_tokens", 502, "The answer reached the model's maximum length."
    MAX_TURN_REQUESTS = (
        "max_turn_requests",
        502,
        "The agent reached its limit of model requests in one turn.",
    )
    CANCELLED = "cancelled", 502, "The agent cancelled the turn."
    AGENT_ERROR = "agent_error", 502, "The agent failed for a reason that no other code covers."
    UNREADABLE = (
        "unreadable",
        502,
        "It is not certain from the terminal what the agent answered.",
    )
    TOOL_INTERRUPTED = (
        "tool_interrupted",
        502,
        "The agent's service interrupted the tools of the turn, and the agent gave no answer.",
    )
    TOOL_NOT_PERMITTED = (
        "tool_not_permitted",
        502,
        "The agent used a tool without asking, and `--tools` does not allow it.",
    )
    APPROVAL_DENIED = (
        "approval_denied",
        502,
        "The agent was not allowed to use a tool, and gave no answer that matches the schema.",
    )

    @property
    def affects_all_sessions(self) -> bool:
        """
        Return whether the failure affects every session of the agent.
        """
        return self.probe_delays is not None


#: Every failure that a client can meet, by status.
CATALOGUE: tuple[FailureCode, ...] = tuple(
    sorted(
        (code for code in (*ErrorCode, *FailureKind) if code is not FailureKind.PROTOCOL),
        key=lambda code: code.status,
    )
)


class CannotStart(SystemExit, Exception):
    """
    Raised when the server cannot start; the message is one line for the operator.

    It is both a `SystemExit`, so that in the foreground only this line is printed, and
    an `Exception`, so that a daemonizing twistd reports it to the shell that started it.
    """


class VersionUnknown(CannotStart):
    """
    Raised when a program does not say what it is, although it did before.
    """


@frozen
class InvalidSetting(Exception):
    """
    Raised when an option has a value that it does not accept.

    Attributes:
        name: The option, as the user wrote it: a flag or an environment variable.
        value: The rejected value.
        reason: Why it is rejected.
    """

    name: str
    value: str
    reason: str

    def __str__(self) -> str:
        # As the user wrote it: --port 0, or PORT=0.
        equals = " " if self.name.startswith("--") else "="
        plain = self.value.isprintable() and not {*self.value} & {*" '\"\\"} and self.value
        value = self.value if plain else repr(self.value)
        if len(value) > _MAX_QUOTED_VALUE:
            value = f"{value[:_MAX_QUOTED_VALUE]}…"
        return f"{self.name}{equals}{value}: {self.reason}"


class WorkError(Exception):
    """
    Raised when a request gets no answer; each subclass is one reason.
    """

    @property
    def code(self) -> FailureCode:
        """
        Return the failure's code; every subclass that is raised has one.
        """
        raise NotImplementedError

    @property
    def retry_after(self) -> int | None:
        """
        Return the seconds after which to ask again; None for the `retry_after` of the code.
        """
        return None

    @property
    def details(self) -> dict[str, Any]:
        """
        Return the further JSON fields that tell a client about the failure, by name.
        """
        return {}


@frozen
class UnknownTask(WorkError):
    """
    Raised when a request names a task that does not exist.
    """

    code = ErrorCode.UNKNOWN_TASK

    name: str

    def __str__(self) -> str:
        return f"Task {self.name!r} not found"


@frozen
class InvalidInput(WorkError):
    """
    Raised when a request's body or header does not match what the API accepts.

    Attributes:
        field: The dotted path of the invalid value, or the header's name; empty for
            the whole body.
        reason: A sentence that says what is wrong.
    """

    code = ErrorCode.INVALID_INPUT

    field: str
    reason: str

    @property
    def details(self) -> dict[str, Any]:
        """
        Return the field, unless the whole body is invalid.
        """
        return {"field": self.field} if self.field else {}

    def __str__(self) -> str:
        return self.reason


@frozen
class UnknownModel(WorkError):
    """
    Raised when a request chooses a model that the agent does not offer to clients.

    Attributes:
        field: The header or the field that named the model.
        model: The name that it gave.
        agent: The agent that was to answer.
    """

    code = ErrorCode.UNKNOWN_MODEL

    field: str
    model: str
    agent: str

    @property
    def details(self) -> dict[str, Any]:
        """
        Return the header or the field.
        """
        return {"field": self.field}

    def __str__(self) -> str:
        model = self.model[:_MAX_QUOTED_NAME]
        return f"{self.field}: the model {model!r} is not available from agent {self.agent}"


@frozen
class UnknownApproval(WorkError):
    """
    Raised when an operator decides about an approval that is not pending.

    Attributes:
        id: The identifier of the approval.
    """

    code = ErrorCode.UNKNOWN_APPROVAL

    id: str

    def __str__(self) -> str:
        return f"Approval {self.id[:_MAX_QUOTED_NAME]!r} not found"


@frozen
class PromptTooLarge(WorkError):
    """
    Raised when a request results in a prompt that the agent's terminal cannot accept.

    Attributes:
        length: The size of the prompt, in bytes.
        limit: The largest size that can be typed, in bytes.
    """

    code = ErrorCode.PROMPT_TOO_LONG

    length: int
    limit: int

    def __str__(self) -> str:
        return (
            f"The request results in a prompt of {self.length} bytes; "
            f"this agent's terminal accepts at most {self.limit}"
        )


@frozen
class NoWorkerFree(WorkError):
    """
    Raised when no worker is free and the queue is full or its timeout has passed.

    Attributes:
        retry_after: Seconds after which a retry is worthwhile.
        waiting: The number of requests in the queue.
        limit: The maximum number of requests in the queue.
        reason: Why no worker is free.
    """

    code = ErrorCode.ALL_WORKERS_BUSY

    retry_after: int
    waiting: int
    limit: int
    reason: str = "All workers busy"

    def __str__(self) -> str:
        return f"{self.reason}, try again"


@frozen
class NoSessionStarts(WorkError):
    """
    Raised when the sessions of every worker fail again and again, or cannot be started at all.

    Attributes:
        reason: Why the last one failed.
        retry_after: Seconds until the next one is started or, if it is starting now, until it
            should be ready.
    """

    code = ErrorCode.NO_SESSION

    reason: str
    retry_after: int

    def __str__(self) -> str:
        return f"No session of the agent can be started: {self.reason}"


@frozen
class DeadlineUnachievable(WorkError):
    """
    Raised when recent turns show that a request cannot meet its deadline.

    Attributes:
        limit: The request's deadline, in seconds from its arrival.
        expected: The shortest time that an answer is expected to take, in seconds.
        retry_after: Seconds after which a retry is worthwhile.
    """

    code = ErrorCode.NO_TIME_LEFT

    limit: float
    expected: float
    retry_after: int

    def __str__(self) -> str:
        return (
            f"Cannot answer within {self.limit:g} seconds: "
            f"an answer is expected to take at least {self.expected:.1f} seconds"
        )


@frozen
class TooManyJobs(WorkError):
    """
    Raised when a job is submitted while the maximum number of jobs are unfinished.

    Attributes:
        limit: The number of unfinished jobs that are allowed.
        retry_after: Seconds after which a retry is worthwhile.
    """

    code = ErrorCode.TOO_MANY_JOBS

    limit: int
    retry_after: int

    def __str__(self) -> str:
        return f"Too many unfinished jobs (the limit is {self.limit}), try again"


@frozen
class JobsTooLarge(WorkError):
    """
    Raised when a job is submitted and the stored jobs would become too large.

    Attributes:
        limit: The maximum size of the jobs, in bytes.
        whose: Whose jobs are limited: ``"client"`` or ``"server"``.
        retry_after: Seconds after which a retry is worthwhile.
    """

    code = ErrorCode.JOBS_TOO_LARGE

    limit: int
    whose: Literal["client", "server"]
    retry_after: int

    def __str__(self) -> str:
        return (
            f"The stored jobs of this {self.whose} are too large (the limit is {self.limit} "
            "bytes); delete some that have ended, or try again"
        )


@frozen
class StorageUnavailable(WorkError):
    """
    Raised when jobs and idempotency keys cannot be stored or read.

    Attributes:
        reason: What is wrong with the storage.
        retry_after: Seconds after which a retry is worthwhile.
        perhaps_begun: Whether it may have been stored all the same, so that a job may run.
    """

    code = ErrorCode.STORAGE_UNAVAILABLE

    reason: str
    retry_after: int
    perhaps_begun: bool = False

    def __str__(self) -> str:
        return f"The server's storage fails: {self.reason}"


@frozen
class IdempotencyKeyMismatch(WorkError):
    """
    Raised when an idempotency key is used again for a different request.
    """

    code = ErrorCode.IDEMPOTENCY_MISMATCH

    def __str__(self) -> str:
        return (
            "This Idempotency-Key was already used for a different request: "
            "the body, the agent, the model or the respond-async preference differs"
        )


@frozen
class ShuttingDown(WorkError):
    """
    Raised when the server is stopping and no longer answers requests.
    """

    code = ErrorCode.SHUTTING_DOWN

    def __str__(self) -> str:
        return "The server is shutting down"


@frozen
class RequestTimedOut(WorkError):
    """
    Raised when a request's deadline passes before it is answered.

    Attributes:
        limit: The deadline, in seconds from the request's arrival.
        reason: Why no worker was free until then, or what the turn waited for; None if that is
            unknown.
    """

    code = ErrorCode.TIMED_OUT

    limit: float
    reason: str | None = None

    def __str__(self) -> str:
        reason = "" if self.reason is None else f": {self.reason}"
        return f"No answer within {self.limit:g} seconds{reason}"


@frozen
class SessionLost(WorkError):
    """
    Raised when the agent's session ends in the middle of a turn.

    Attributes:
        reason: What is known about how the last session ended.
        attempts: The number of sessions that were tried.
        cause: The same without what the agent wrote.
    """

    code = ErrorCode.SESSION_LOST

    reason: str
    attempts: int = 1
    cause: str = ""

    def __str__(self) -> str:
        times = "1 attempt" if self.attempts == 1 else f"{self.attempts} attempts"
        return f"The agent's session ended before it answered, after {times}: {self.reason}"


@frozen
class OutputTooLong(WorkError):
    """
    Raised when an agent writes too much in one turn.

    Attributes:
        limit: The number of bytes that a turn may produce.
    """

    code = ErrorCode.OUTPUT_TOO_LONG

    limit: int

    def __str__(self) -> str:
        return f"The agent was stopped: it wrote more than {self.limit} bytes"


@frozen
class AgentUnavailable(WorkError):
    """
    Raised when the agent reports that it can answer no request at present.

    Attributes:
        kind: The kind of failure, which is retryable.
        detail: The agent's own words.
        retry_after: Seconds to wait, where the agent named them.
    """

    kind: FailureKind
    detail: str
    retry_after: int | None = None

    @property
    def code(self) -> FailureCode:
        """
        Return the kind of the failure, which is its code.
        """
        return self.kind

    def __str__(self) -> str:
        return f"The agent is unavailable: {self.detail}"


@frozen
class AgentPerhapsUnavailable(AgentUnavailable):
    """
    Raised when the client itself may have written the words by which a failure was recognized.

    It concerns that client's request alone: the agent may be able to answer others.
    """


@frozen
class AgentRefused(WorkError):
    """
    Raised when the agent reports that it cannot answer this particular request.

    Attributes:
        kind: The kind of failure, which is not retryable.
        detail: The agent's own words.
    """

    kind: FailureKind
    detail: str

    @property
    def code(self) -> FailureCode:
        """
        Return the kind of the failure, which is its code.
        """
        return self.kind

    def __str__(self) -> str:
        return f"The agent cannot answer this request: {self.detail}"


@frozen
class Evidence:
    """
    Hold what an operator needs in order to investigate an answer.

    Attributes:
        worker: The worker that answered, as named in the log.
        request: The number of the request, as in the log.
        text: The complete text of the answer.
    """

    worker: str
    request: int
    text: str


@frozen
class UnusableAnswer(WorkError):
    """
    Raised when the agent's answer cannot be given to the client.
    """

    evidence: Evidence | None = field(default=None, kw_only=True)

    @property
    def details(self) -> dict[str, Any]:
        """
        Return the worker and the request, by which to find the answer in the log.
        """
        if self.evidence is None:
            return {}
        return {"worker": self.evidence.worker, "request": self.evidence.request}


@frozen
class AnswerSchemaMismatch(UnusableAnswer):
    """
    Raised when the agent's answer does not match the schema that it must have.

    Attributes:
        reason: What is wrong with the last answer.
        reasons: What was wrong with each answer, one for each time that the agent
            was asked.
    """

    code = ErrorCode.ANSWER_UNFIT

    reason: str
    reasons: tuple[str, ...] = ()

    @property
    def details(self) -> dict[str, Any]:
        """
        Return the reasons too, if they are known.
        """
        reasons = {"reasons": self.reasons} if self.reasons else {}
        return {**reasons, **super().details}

    def __str__(self) -> str:
        return f"The agent's answer does not match the schema: {self.reason}"


@frozen
class AnswerUnreadable(UnusableAnswer):
    """
    Raised when it is not certain from the terminal what the agent answered.
    """

    code = FailureKind.UNREADABLE

    reason: str

    def __str__(self) -> str:
        return f"The agent's answer could not be read reliably: {self.reason}"
