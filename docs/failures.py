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

``error`` is a sentence for people, and ``code`` is a word for programs. `OpenAI's format
<openai.rst>`_ has the same codes. If it helps to ask again, the response has ``Retry-After``, in
seconds, and the body has the same number as ``retryAfter``. After any other failure, do not repeat
the request as it is: where that could help, the server has already done so.

``docs/failures.py`` makes this page from the catalogue in ``kiroworkers/errors.py``.

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
            (str(code.status), f"``{code}``", code.meaning.replace("`", "``"), _ask_again(code))
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
