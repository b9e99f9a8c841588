"""
Print ``failures.rst``, the page about the catalogue of failures.

After a change of the catalogue::

    python docs/failures.py > docs/failures.rst
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kiroworkers.errors import CATALOGUE, FailureCode, FailureKind

_HEAD = """\
Failures
========

A request that gets no answer gets an error::

   {"error": "All workers busy, try again", "code": "all_workers_busy", "retryAfter": 6, …}

``error`` is a message for people, and ``code`` is for programs. If one field of the input is wrong,
``field`` names it. `OpenAI's format <openai.rst>`_ and `Anthropic's <anthropic.rst>`_ have the same
codes. If it helps to send the request again, the response has ``Retry-After``, in seconds, and the
body has the same number as ``retryAfter``. After any other failure, do not repeat the same request:
where a second attempt could help, the server has already made one.

A 503 never follows a prompt. Once an agent has been asked, the same failure is 502, with the same
code, JSON and ``Retry-After``. So a proxy in front of `several servers <cluster.rst>`_ may send a
request with 503 to another server, and none is answered twice. Clients go by ``code`` and
``Retry-After``, not by the status. The ``status`` of an event, or of a job that failed, follows the
same rule.

.. list-table::
   :header-rows: 1
   :widths: 16 84

   * - Status
     - When
   * - 400
     - The body is not JSON or does not fit the schema; the message names the field and the reason.
       Or the model is not available. Or the request is not valid HTTP; the connection is then
       closed.
   * - 401, 403
     - With ``--token-file``: the token is missing, or not valid for this request. Without it: an
       operator's request does not come from this machine. Always: the ``Host`` is not a name of
       this server, or the request comes from a page whose origin is not allowed.
   * - 404, 405, 409, 415, 417
     - There is no such path, task, job, worker, approval or model; the path does not support the
       method; the ``Idempotency-Key`` was used for a different request; the body is not
       ``Content-Type: application/json``, or is compressed; ``Expect`` is not ``100-continue``.
   * - 408, 413, 414, 431
     - The request exceeds a limit on its duration or its size (`security.rst <security.rst>`_), or
       makes a longer line than the agent accepts.
   * - 429
     - The client sent too many requests: ``--rate``, or ``--anonymous-rate`` for those without a
       valid token.
   * - 502
     - The answer did not fit the schema, even after a correction and a second attempt with another
       session. Or the agent gave a reason for not answering, or printed more than ``--max-output``.
       Or two sessions ended while they were answering. Or it is uncertain what text the screen
       shows. Or the agent could not answer for one of the reasons of 503, and had been asked.
   * - 503
     - Nobody can answer now: all workers are busy, the deadline cannot be met, the agent is logged
       out or throttled, none of its sessions starts, jobs cannot be stored, or the server is
       stopping. If a queue was full or slow, the body has ``queue`` (``length``, ``limit``).
   * - 504
     - There was no answer within ``--request-timeout`` or the client's own deadline.

``docs/failures.py`` makes this page from the catalogue in ``kiroworkers/errors.py``.

Codes
-----

"""

_KINDS = """
Failures of all sessions
------------------------

Some failures that an agent reports affect all of its sessions. After such a failure, the server
refuses requests for this agent at once, with the same code. After a delay, it lets one request
through as a test. Each time that a test fails, the delay is doubled. If the agent says how long
to wait, the delay is that time. If the agent has a command that checks the login, the server runs
the command instead of a test.

"""


def page() -> str:
    """
    Return the page.
    """
    failures = _table(
        ("Status", "Code", "Meaning", "Ask again"),
        (
            (
                " or ".join(map(str, reversed(code.statuses))),
                f"``{code}``",
                code.meaning.replace("`", "``"),
                _ask_again(code),
            )
            for code in CATALOGUE
        ),
    )
    kinds = _table(
        ("Code", "First delay", "Longest delay"),
        (
            (f"``{kind}``", *(f"{delay:g} seconds" for delay in kind.probe_delays))
            for kind in FailureKind
            if kind.probe_delays is not None
        ),
    )
    return _HEAD + failures + _KINDS + kinds


def _ask_again(code: FailureCode) -> str:
    """
    Return whether it helps to ask again, and when.
    """
    match code.retry_after:
        case None:
            return "no"
        case "own":
            return "after the time in ``Retry-After``"
        case seconds if isinstance(code, FailureKind):
            return f"after the time that the agent names, or {seconds} seconds"
        case seconds:
            return f"after {seconds} seconds"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """
    Return a table in reStructuredText.
    """
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for first, *others in (head, *rows):
        lines += [f"   * - {first}", *(f"     - {cell}" for cell in others)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
