"""
Failures as exception types with fields.

A `WorkError` explains why one request got no answer; `kiroworkers.web.errors` is
the only place that maps one to an HTTP status.  A `CannotStart` explains why the
server cannot run at all.
"""

from __future__ import annotations

from attrs import field, frozen


class CannotStart(SystemExit, Exception):
    """
    Raised when the server cannot start; the message is one line for the operator.

    It is both a `SystemExit`, so that in the foreground only this line is printed
    and the exit status is 1, and an `Exception`, so that a daemonizing twistd
    reports it to the shell that started it.
    """


@frozen
class InvalidSetting(Exception):
    """
    Raised when an option has a value that it does not accept.

    Attributes:
        name: The option, as the user wrote it: a flag, an environment variable or
            a key of a file.
        value: The rejected value.
        reason: Why it is rejected.
    """

    name: str
    value: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.value!r}: {self.reason}"


class WorkError(Exception):
    """
    Raised when a request gets no answer; each subclass is one reason.
    """


@frozen
class UnknownTask(WorkError):
    """
    Raised when a request names a task that does not exist.
    """

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

    field: str
    reason: str

    def __str__(self) -> str:
        return self.reason


@frozen
class PromptTooLarge(WorkError):
    """
    Raised when a request makes a prompt that the agent's terminal cannot accept.

    Attributes:
        length: The size of the prompt, in bytes.
        limit: The largest size that can be typed, in bytes.
    """

    length: int
    limit: int

    def __str__(self) -> str:
        return (
            f"The request makes a prompt of {self.length} bytes; "
            f"this agent's terminal accepts at most {self.limit}"
        )


@frozen
class NoWorkerFree(WorkError):
    """
    Raised when every worker is busy and the queue is full, or the time in it is over.

    Attributes:
        retry_after: Seconds after which a retry is worthwhile.
        waiting: The number of requests in the queue.
        limit: The number of requests that the queue holds at most.
    """

    retry_after: int
    waiting: int
    limit: int

    def __str__(self) -> str:
        return "All workers busy, try again"


@frozen
class DeadlineUnachievable(WorkError):
    """
    Raised when recent turns show that a request cannot meet its deadline.

    Attributes:
        limit: The request's deadline, in seconds from its arrival.
        expected: The shortest time that an answer is expected to take, in seconds.
        retry_after: Seconds after which a retry is worthwhile.
    """

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
    Raised when a job is submitted while as many as allowed are unfinished.

    Attributes:
        limit: The number of unfinished jobs that are allowed.
        retry_after: Seconds after which a retry is worthwhile.
    """

    limit: int
    retry_after: int

    def __str__(self) -> str:
        return f"Too many unfinished jobs (the limit is {self.limit}), try again"


@frozen
class IdempotencyKeyMismatch(WorkError):
    """
    Raised when an idempotency key is used again for a different request.
    """

    def __str__(self) -> str:
        return (
            "This Idempotency-Key was already used for a different request: "
            "the body, the agent or the respond-async preference differs"
        )


@frozen
class ShuttingDown(WorkError):
    """
    Raised when the server is stopping and no longer answers requests.
    """

    def __str__(self) -> str:
        return "The server is shutting down"


@frozen
class RequestTimedOut(WorkError):
    """
    Raised when a request's deadline passes before it is answered.

    Attributes:
        limit: The deadline, in seconds from the request's arrival.
    """

    limit: float

    def __str__(self) -> str:
        return f"No answer within {self.limit:g} seconds"


@frozen
class SessionLost(WorkError):
    """
    Raised when the agent's session ends in the middle of a turn.

    Attributes:
        reason: What is known about how the last session ended.
        attempts: The number of sessions that were tried.
    """

    reason: str
    attempts: int = 1

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

    limit: int

    def __str__(self) -> str:
        return f"The agent was stopped: it wrote more than {self.limit} bytes"


@frozen
class AgentUnavailable(WorkError):
    """
    Raised when the agent reports that it can answer no request at present.

    Attributes:
        kind: The kind of failure, such as ``login_required`` or ``throttled``.
        detail: The agent's own words.
        retry_after: Seconds to wait, where the agent named them.
    """

    kind: str
    detail: str
    retry_after: int | None = None

    def __str__(self) -> str:
        return f"The agent is unavailable: {self.detail}"


@frozen
class AgentRefused(WorkError):
    """
    Raised when the agent reports that it cannot answer this particular request.

    Attributes:
        kind: The kind of failure, such as ``context_full``.
        detail: The agent's own words.
    """

    kind: str
    detail: str

    def __str__(self) -> str:
        return f"The agent cannot answer this request: {self.detail}"


@frozen
class Evidence:
    """
    Hold what an operator needs in order to investigate an answer.

    Attributes:
        worker: The worker that answered, as named in the log.
        request: The number of the request, as it stands in the log.
        text: The complete text of the answer.
    """

    worker: str
    request: int
    text: str


@frozen
class UnusableAnswer(WorkError):
    """
    Raised when the agent answers with nothing that can be given to the client.
    """

    evidence: Evidence | None = field(default=None, kw_only=True)


@frozen
class AnswerSchemaMismatch(UnusableAnswer):
    """
    Raised when the agent's answer does not match the schema that it must have.

    Attributes:
        reason: What is wrong with the last answer.
        reasons: What was wrong with each answer, one for each time that the agent
            was asked.
    """

    reason: str
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"The agent's answer does not match the schema: {self.reason}"


@frozen
class AnswerUnreadable(UnusableAnswer):
    """
    Raised when the terminal does not show for certain what the agent answered.
    """

    reason: str

    def __str__(self) -> str:
        return f"The agent's answer could not be read reliably: {self.reason}"
