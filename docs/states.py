"""
Print ``states.rst``, the page about the states of a server.

After a change of the table below::

    python docs/states.py > docs/states.rst

``tests/end_to_end/test_states.py`` puts a real server into each of these states, and compares
what it reports with the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import frozen


@frozen
class State:
    """
    Hold what a server reports in one state.

    Attributes:
        name: The name of the state, for this page.
        when: How a server gets there.
        pool: ``pool.state`` of ``GET /health``.
        detail: A part of ``pool.detail``; None if that is null.
        worker: The ``state`` of each worker.
        ready: The status of ``GET /ready`` and, if it is 503, the code.
        post: The status of a request and its code, or ``waits``.
        message: A part of the request's error; empty if it gets none.
        retry_after: What ``Retry-After`` is; empty if there is none.
        log: A part of the line in the log; empty if there is none.
    """

    name: str
    when: str
    pool: str
    detail: str | None
    worker: str
    ready: str
    post: str
    message: str = ""
    retry_after: str = ""
    log: str = ""


#: What `State.retry_after` may be.
NEXT_START = "the time until ``nextStart``"
NEXT_ATTEMPT = "``pool.retryAfter``"
ESTIMATE = "an estimate from recent turns"
FIXED = "a fixed time"

_PAUSED = "An operator paused the pool"

STATES = (
    State(
        "starting",
        "No session has shown its prompt yet.",
        "starting",
        "No worker is ready",
        "starting",
        "503 not_ready",
        "waits",
        log="worker1: started, pid",
    ),
    State(
        "serving", "A worker is idle.", "serving", None, "idle", "200", "200", log="worker1: ready"
    ),
    State(
        "busy",
        "Every worker is in a turn.",
        "serving",
        None,
        "busy",
        "200",
        "waits",
    ),
    State(
        "full",
        "Every worker is in a turn, and ``--backlog`` requests wait.",
        "serving",
        None,
        "busy",
        "200",
        "503 all_workers_busy",
        "All workers busy, try again",
        ESTIMATE,
    ),
    State(
        "paused",
        "An operator has paused the pool.",
        "paused",
        _PAUSED,
        "idle",
        "503 paused",
        "waits",
        log="paused; new requests wait",
    ),
    State(
        "paused and full",
        "The pool is paused, and ``--backlog`` requests wait.",
        "paused",
        _PAUSED,
        "idle",
        "503 paused",
        "503 all_workers_busy",
        f"{_PAUSED}, try again",
        ESTIMATE,
    ),
    State(
        "drained",
        "An operator has drained every worker.",
        "drained",
        "An operator drained every worker",
        "drained",
        "503 not_ready",
        "waits",
        log="-> drained: ",
    ),
    State(
        "draining",
        "The server is stopping, and finishes accepted requests.",
        "draining",
        "The server is shutting down",
        "busy",
        "503 draining",
        "503 shutting_down",
        "shutting down",
        FIXED,
        "stopping: 1 request(s) to finish",
    ),
    State(
        "failed",
        "``--start-limit-burst`` sessions in a row of every worker have ended without an answer.",
        "failed",
        "No session of the agent can be started: ",
        "failed",
        "503 failed",
        "503 no_session",
        "cannot open the display",
        NEXT_START,
        "-> failed: session ended: ",
    ),
    State(
        "agent gone",
        "The agent's program was deleted or is no longer executable, and no worker has a session.",
        "failed",
        "No session of the agent can be started: ",
        "waiting",
        "503 failed",
        "503 no_session",
        "kiro-cli",
        NEXT_START,
        "session ended: could not start: ",
    ),
    State(
        "out of descriptors",
        "The server cannot open any more files, and no worker has a session. New connections are "
        "closed.",
        "failed",
        "No session of the agent can be started: ",
        "failed",
        "503 failed",
        "503 no_session",
        "Too many open files",
        NEXT_START,
        "session ended: could not start: ",
    ),
    State(
        "agent replaced",
        "The agent's program was replaced by another version. Sessions that start from now on "
        "run it, and ``agentDetail`` names it.",
        "serving",
        None,
        "idle",
        "200",
        "200",
        log="kiro has changed: answers come from ",
    ),
    State(
        "version refused",
        "With ``--canary``: the version that is installed did not pass, and there is no session of "
        "an earlier one. ``agents.NAME.canary`` has the details.",
        "failed",
        "is not accepted (--canary): ",
        "held",
        "503 failed",
        "503 no_session",
        "is not accepted (--canary): ",
        NEXT_ATTEMPT,
        "is refused: ",
    ),
    State(
        "login required",
        "Nobody is logged in to the agent. The server tries again every ``--check-interval``.",
        "login_required",
        "You are not logged in",
        "held",
        "503 login_required",
        "503 login_required",
        "You are not logged in",
        NEXT_ATTEMPT,
        "circuit open: login_required: ",
    ),
    State(
        "throttled",
        "The agent's account has sent too many requests.",
        "throttled",
        "Too many requests",
        "idle",
        "503 throttled",
        "503 throttled",
        "Too many requests",
        NEXT_ATTEMPT,
        "circuit open: throttled: ",
    ),
    State(
        "suspended",
        "The agent's service has limited or suspended the account.",
        "suspended",
        "temporarily is suspended",
        "idle",
        "503 suspended",
        "503 suspended",
        "temporarily is suspended",
        NEXT_ATTEMPT,
        "circuit open: suspended: ",
    ),
    State(
        "out of credits",
        "The agent's account has no credits left.",
        "out_of_credits",
        "Monthly request limit reached",
        "idle",
        "503 out_of_credits",
        "503 out_of_credits",
        "Monthly request limit reached",
        NEXT_ATTEMPT,
        "circuit open: out_of_credits: ",
    ),
    State(
        "storage failing",
        "The state folder cannot be written to. Requests without an ``Idempotency-Key`` are "
        "answered; jobs get the 503. ``storage.state`` is ``failing`` in ``/health`` and "
        "``/ready``.",
        "serving",
        None,
        "idle",
        "200",
        "503 storage_unavailable",
        "The server's storage fails",
        FIXED,
        "requests for jobs are refused until it works again",
    ),
)

_HEAD = """\
States
======

``GET /health`` describes the whole server, ``GET /ready`` tells load balancers whether to send
requests, and the error of a request says why there is no answer. All three give the same reason. It
never contains a client's text: what a session printed in a turn is only in ``lastError``, in the
history of the request, and in the error that the client of that turn gets.

The second column has ``pool.state`` of ``/health``, the state of the agent's pool, and then
``workers.NAME.state``, the state of each worker.

"""

_TAIL = """
A request that *waits* does so until a worker is free, for at most ``--queue-timeout`` and its own
deadline. Then it gets 503 ``all_workers_busy`` or 504, with the pool's ``detail`` as the reason.
All other responses are immediate. When a pool enters a state in which requests are refused, the
waiting requests are refused as well.

``Retry-After`` is the time until the next attempt, if one is scheduled. While a session is starting
or a request probes the agent, it is an estimate from earlier starts and turns. For a paused pool,
the estimate assumes that it is resumed now.

After an outage, ``pool.state`` is ``trying`` until one request has shown whether the agent answers
again. Until then ``/ready`` is 200, and other requests are refused.

`operating.rst <operating.rst>`_ describes a server that cannot start, and the exit statuses.

``docs/states.py`` makes this page. ``tests/end_to_end/test_states.py`` puts a real server into each
of these states.
"""


def page() -> str:
    """
    Return the page.
    """
    table = _table(
        ("State", "``pool.state``, workers", "``/ready``", "A request", "``Retry-After``", "Log"),
        (
            (
                f"*{state.name}*: {state.when}",
                f"``{state.pool}``, ``{state.worker}``",
                _code(state.ready),
                state.post if state.post == "waits" else _code(state.post),
                state.retry_after,
                state.log and f"``{state.log.strip()}``",
            )
            for state in STATES
        ),
    )
    return _HEAD + table + _TAIL


def _code(text: str) -> str:
    """
    Return a status, and its code as a literal.
    """
    status, _, code = text.partition(" ")
    return f"{status} ``{code}``" if code else status


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """
    Return a table in reStructuredText.
    """
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 32 14 12 14 14 14", ""]
    for first, *others in (head, *rows):
        lines += [f"   * - {first}", *(f"     - {cell}".rstrip() for cell in others)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
