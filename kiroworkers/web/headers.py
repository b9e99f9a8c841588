"""
What a response says of the answer in it: who gave it, and how that is known.
"""

from __future__ import annotations

from collections.abc import Mapping

from twisted.web.iweb import IRequest

from kiroworkers.asking import Outcome

#: Every header, as pages of other origins may read it.
TOLD = tuple(
    b"X-Kiroworkers-" + name
    for name in (
        b"Agent",
        b"Worker",
        b"Attempts",
        b"Repairs",
        b"Completion",
        b"Source",
        b"Rejoined",
        b"Tools-Denied",
        b"Tools-Allowed",
    )
)


def tell_agent(request: IRequest, name: str) -> None:
    """
    Which agent answers.
    """
    tell(request, {"Agent": name})


def told_of(outcome: Outcome) -> dict[str, str]:
    """
    Which worker answered, in how many attempts; how the end of its turn was
    known, and where the text was read; how many questions of tools there were; was
    it joined across lines that were cut?
    """
    answer = outcome.answer
    reply = answer.reply
    told = {
        "Worker": answer.worker,
        "Attempts": str(answer.attempts),
        "Completion": reply.completion,
        "Source": reply.source,
    }
    if reply.repairs:
        told["Repairs"] = str(reply.repairs)
    for name, questions in (("Tools-Denied", reply.denied), ("Tools-Allowed", reply.allowed)):
        if questions:
            told[name] = str(len(questions))
    if outcome.found.rejoined:
        told["Rejoined"] = "1"
    return told


def tell(request: IRequest, told: Mapping[str, str]) -> None:
    """
    Say it in the headers of the response.
    """
    for name, value in told.items():
        request.setHeader(f"X-Kiroworkers-{name}".encode(), value.encode())
