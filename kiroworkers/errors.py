"""
What can go wrong, as types with fields.

A `WorkError` is the reason why one request got no answer; `web.errors` is the
only place that turns one into a status code.  A `CannotStart` is the reason
why there is no server.
"""

from __future__ import annotations

from attrs import field, frozen


class CannotStart(SystemExit, Exception):
    """
    The server cannot start; the message is one line for the operator.

    Both a `SystemExit`, so that in the foreground the line is all that is
    printed and the status is 1, and an `Exception`, so that a daemonizing
    twistd reports it to the shell that started it.
    """


@frozen
class InvalidSetting(Exception):
    """
    The knob called `name` (as its user spelt it) cannot be `value`.
    """

    name: str
    value: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.value!r}: {self.reason}"


class WorkError(Exception):
    """
    Why a request got no answer.
    """


@frozen
class UnknownTask(WorkError):
    """
    There is no task of this name.
    """

    name: str

    def __str__(self) -> str:
        return f"There is no task named {self.name!r}"


@frozen
class InvalidInput(WorkError):
    """
    The request's body does not fit the task's input schema.

    `field` is the dotted path of what is wrong (empty: the whole body) and
    `reason` a sentence that says why.
    """

    field: str
    reason: str

    def __str__(self) -> str:
        return self.reason


@frozen
class PromptTooLarge(WorkError):
    """
    The request makes a prompt of `length` bytes, and the agent's terminal takes
    `limit`.
    """

    length: int
    limit: int

    def __str__(self) -> str:
        return (
            f"The request makes a prompt of {self.length} bytes, "
            f"and this agent's terminal takes {self.limit}"
        )


@frozen
class NoWorkerFree(WorkError):
    """
    Every worker is busy and the time or the room for waiting ran out.

    `retry_after` is in whole seconds; `waiting` requests of `limit` queued.
    """

    retry_after: int
    waiting: int
    limit: int

    def __str__(self) -> str:
        return "All workers busy, try again"


@frozen
class DeadlineUnachievable(WorkError):
    """
    By the turns seen, an answer takes at least `expected` seconds, and the
    request's deadline is `limit` seconds from its arrival.

    `retry_after` is in whole seconds.
    """

    limit: float
    expected: float
    retry_after: int

    def __str__(self) -> str:
        return (
            f"An answer within {self.limit:g} seconds is not to be expected: "
            f"it would take at least {self.expected:.1f}"
        )


@frozen
class TooManyJobs(WorkError):
    """
    `limit` jobs are unfinished, and no more are taken.

    `retry_after` is in whole seconds.
    """

    limit: int
    retry_after: int

    def __str__(self) -> str:
        return f"There are {self.limit} unfinished jobs, try again"


@frozen
class KeyMismatch(WorkError):
    """
    Something else was asked under the same idempotency key.
    """

    def __str__(self) -> str:
        return (
            "Another request was made with this Idempotency-Key: with another body, for "
            "another agent, or with another preference for respond-async"
        )


@frozen
class ShuttingDown(WorkError):
    """
    The pool takes no more work and finishes none.
    """

    def __str__(self) -> str:
        return "The server is shutting down"


@frozen
class RequestTimedOut(WorkError):
    """
    The deadline of the request, `limit` seconds after it came, has passed.
    """

    limit: float

    def __str__(self) -> str:
        return f"No answer within {self.limit:g} seconds"


@frozen
class SessionLost(WorkError):
    """
    The session ended before it answered, and so did its stand-ins: `attempts`
    in all.  `reason` is what is known of the last end.
    """

    reason: str
    attempts: int = 1

    def __str__(self) -> str:
        return f"The session ended before it answered ({self.reason}), {self.attempts} time(s)"


@frozen
class OutputTooLong(WorkError):
    """
    The session said more than `limit` bytes in one turn.
    """

    limit: int

    def __str__(self) -> str:
        return f"The session said more than {self.limit} bytes and was stopped"


@frozen
class AgentUnavailable(WorkError):
    """
    The agent says that it cannot answer anybody now: `kind` (such as
    `login_required` or `throttled`), its own words, and the seconds to wait
    where it named them.
    """

    kind: str
    detail: str
    retry_after: int | None = None

    def __str__(self) -> str:
        return f"The agent cannot answer now: {self.detail}"


@frozen
class AgentRefused(WorkError):
    """
    The agent says that it cannot answer this: `kind` (such as `context_full`)
    and its own words.
    """

    kind: str
    detail: str

    def __str__(self) -> str:
        return f"The agent cannot answer this: {self.detail}"


@frozen
class Evidence:
    """
    What an operator needs to look into an answer: who gave it, to the request of
    which number, as both stand in the log; and the text that was said.
    """

    worker: str
    request: int
    text: str


@frozen
class UnusableAnswer(WorkError):
    """
    The session answered, but with nothing that can be given to the client.
    """

    evidence: Evidence | None = field(default=None, kw_only=True)


@frozen
class AnswerSchemaMismatch(UnusableAnswer):
    """
    The session answered, but with nothing that fits the task's answer schema: for
    the last `reason`, and for `reasons`, one for each time it was asked.
    """

    reason: str
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"The session's answer does not fit: {self.reason}"


@frozen
class AnswerUnreadable(UnusableAnswer):
    """
    The session answered, but its screen does not show for certain what.
    """

    reason: str

    def __str__(self) -> str:
        return f"The session's answer cannot be read for certain: {self.reason}"
