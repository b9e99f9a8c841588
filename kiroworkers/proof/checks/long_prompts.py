"""
Check that long prompts reach the model whole.

Each text has marks around it, and the model answers with a digest of what it found between
them.  So the client's own answer says whether the prompt arrived whole.

A prompt that the server refuses, because the agent's terminal cannot take it or its model's
context is full, is no failure from `USUAL_SIZE` on: the client is told, and nothing wrong is
answered.  It is not a success either, so such a check is skipped, with the server's reason.
Shorter prompts are what ordinary tasks consist of: an agent that cannot take them loses answers.
"""

from __future__ import annotations

import json
import re
from functools import partial
from hashlib import sha256
from typing import Any

from kiroworkers.errors import ErrorCode, FailureKind
from kiroworkers.model_server.reply import ModelReply
from kiroworkers.model_server.request import ModelRequest
from kiroworkers.proof.case import Case
from kiroworkers.proof.checks.check import Check, Finding, failed, passed, skipped
from kiroworkers.proof.difference import first_difference
from kiroworkers.proof.report import Level
from kiroworkers.proof.run import ProofRun

#: The sizes of the texts, in characters.
SIZES = (8_000, 60_000, 500_000)

#: The size up to which a refusal is a failure.
USUAL_SIZE = SIZES[0]

_BEGIN, _END = "The text begins here.", "The text ends here."
_BETWEEN = re.compile(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", re.DOTALL)


def long_text(size: int) -> str:
    """
    Return a text of `size` characters in which each sentence is different.
    """
    text = [_BEGIN]
    length, number = len(_BEGIN), 0
    while length < size:
        number += 1
        text.append(f" Sentence {number} says that the square of it is {number * number}.")
        length += len(text[-1])
    return "".join(text)[: size - len(_END) - 1] + f" {_END}"


def digest(text: str) -> str:
    """
    Return what identifies `text` in an answer.
    """
    return f"{len(text)} characters, SHA-256 {sha256(text.encode()).hexdigest()}"


async def long_prompt(proof: ProofRun, size: int) -> Finding:
    """
    Ask a case with a text of `size` characters.
    """
    text = long_text(size)
    # The last finding counts: an agent may compress a conversation and ask again.
    arrived: list[str] = []

    def answer(request: ModelRequest) -> ModelReply:
        found = _BETWEEN.findall(request.text)
        arrived.append(found[-1] if found else "")
        short = Case(case.id, digest(arrived[-1]), case.form)
        return ModelReply(short.model_text(request.text))

    case = proof.new_case(text, answer)
    response = await proof.ask(case)
    what = f"a prompt of {size // 1000} KB"
    body = response.body if isinstance(response.body, dict) else {}
    if response.code != 200:
        reason = f"{response.code} {body.get('code')}: {str(body.get('error'))[:200]}"
        details: dict[str, Any] = {
            "response": {"status": response.code, "body": body},
            "arrived": len(arrived),
        }
        if body.get("code") in _REFUSALS and size > USUAL_SIZE:
            return skipped(f"{what} was refused: {reason}", **details)
        return failed(f"{what} was not answered: {reason}", **details)
    if not arrived:
        return failed(f"{what} was answered, but the model did not get it", received=body)
    if arrived[-1] != text:
        return failed(
            f"the model did not get {what} whole: {_difference(text, arrived[-1])}",
            expected=digest(text),
            arrived=digest(arrived[-1]),
        )
    if body != {"copyOf": case.id, "copy": digest(text)}:
        return failed(
            f"{what} arrived, but not its answer: {json.dumps(body)[:200]}", received=body
        )
    return passed(
        f"the model got {what} whole, and it was answered in {response.seconds:.1f} s",
        seconds=round(response.seconds, 2),
    )


def _difference(expected: str, arrived: str) -> str:
    if not arrived:
        return "its marks were missing"
    same = first_difference(expected, arrived)
    excerpt = json.dumps(arrived[max(0, same - 20) : same + 40])
    return f"{len(arrived)} characters, different from character {same} on: {excerpt}"


#: The codes of the failures that say that a prompt is too long.
_REFUSALS = (ErrorCode.PROMPT_TOO_LONG, FailureKind.CONTEXT_FULL)

CHECKS = tuple(
    Check(f"long prompts: {size // 1000} KB", Level.LOSSY, partial(long_prompt, size=size))
    for size in SIZES
)
