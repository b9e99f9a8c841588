"""
Define a case: a text that the agent's model is asked to copy, under an identifier of its own.

The identifier is part of the prompt and of the answer.  Nobody can guess it, so a later request to
the model that contains it proves a leak.  The members
of the answer have other names than those of the request, because otherwise the echo of a prompt
could pass for its answer.
"""

from __future__ import annotations

import json
import re
from enum import Enum
from importlib.resources import files
from typing import Any

from attrs import frozen

from kiroworkers.conversations.acp.known_sessions import RESUMED
from kiroworkers.proof.difference import first_difference
from kiroworkers.proof.report import Level
from kiroworkers.tasks import Task, load_task
from kiroworkers.tasks.task import ANSWER_LAYOUTS

#: The name of the task, which is also the name of its file.
TASK_NAME = "copy-text"

#: Matches the identifiers of cases, and nothing that an agent would write by itself.
CASE_ID = re.compile(r"case-[0-9a-f]{16}")

#: What a model copies as the escapes that the prompt has; `json.dumps` does not escape it.
_CONTROLS = re.compile("[\x7f-\x9f]")

#: How much of a text a report quotes, in characters.
_QUOTED = 160


class Form(Enum):
    """
    Represent how the scripted model writes its answer.

    Attributes:
        AS_ASKED: As the prompt demands: in a fenced block, ``&`` and a backtick escaped.
        CARELESS: Without a fence, and with these characters as they are.
    """

    AS_ASKED = "as asked"
    CARELESS = "careless"


@frozen
class Case:
    """
    Represent a text that is to be copied.

    Attributes:
        id: The identifier, which matches `CASE_ID`.
        text: The text.
        form: How the scripted model writes the answer.
    """

    id: str
    text: str
    form: Form = Form.AS_ASKED

    @property
    def request(self) -> dict[str, str]:
        """
        Return the body of the request to the server.
        """
        return {"case": self.id, "text": self.text}

    @property
    def answer(self) -> dict[str, str]:
        """
        Return the right answer.
        """
        return {"copyOf": self.id, "copy": self.text}

    def model_text(self, prompt: str) -> str:
        """
        Return what a model writes that follows the prompt, given the prompt's text.
        """
        lines = ANSWER_LAYOUTS["lines"] in prompt
        text = json.dumps(self.answer, ensure_ascii=False, indent=1 if lines else None)
        text = _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
        if self.form is Form.CARELESS:
            return text
        text = text.replace("&", "\\u0026").replace("`", "\\u0060")
        return f"```json\n{text}\n```"


def task_source() -> str:
    """
    Return the text of the task's file.
    """
    return (files("kiroworkers.proof") / f"{TASK_NAME}.toml").read_text(encoding="utf-8")


@frozen
class Problem:
    """
    Hold what is wrong with an answer.

    Attributes:
        sentence: What was expected and what came, shortened, in one sentence.
        level: The level of an agent that answers like this.
        details: The same for programs.
    """

    sentence: str
    level: Level
    details: dict[str, Any]


def problem_with(case: Case, code: int, body: Any) -> Problem | None:
    """
    Return what is wrong with the response to `case`; None if it is right.

    Args:
        case: The case.
        code: The status of the response.
        body: Its JSON.
    """
    if code == 200 and body == case.answer:
        return None
    details = {"expected": case.answer, "received": {"status": code, "body": body}}
    foreign = foreign_ids(json.dumps(body, ensure_ascii=False), case.id)
    if foreign:
        sentence = f"the answer to {case.id} has the text of {', '.join(foreign)}"
        return Problem(sentence, Level.LEAKS, details)
    if code != 200:
        code_name = body.get("code") if isinstance(body, dict) else None
        reason = body.get("error") if isinstance(body, dict) else body
        sentence = f"no answer to {quote(case.text)}: {code} {code_name}: {str(reason)[:_QUOTED]}"
        return Problem(sentence, level_without_answer(str(reason)), details)
    received = body.get("copy") if isinstance(body, dict) else body
    if received == case.text:
        sentence = f"the answer to {case.id} names {quote(str(body.get('copyOf')))}"
    else:
        sentence = f"expected {_around_difference(case.text, received)}"
    return Problem(sentence, Level.LOSSY, details)


def level_without_answer(reason: str) -> Level:
    """
    Return the level of an agent that gives no answer, for a `reason` of the server.

    If the server refuses the earlier conversation that the agent would have continued, only the
    server has kept it from leaking.
    """
    return Level.LEAKS if RESUMED in reason else Level.LOSSY


def foreign_ids(text: str, own: str | None) -> list[str]:
    """
    Return the identifiers of cases in `text`, except `own`, in the order of their appearance.
    """
    return [case_id for case_id in dict.fromkeys(CASE_ID.findall(text)) if case_id != own]


def quote(text: str) -> str:
    """
    Return `text` as ASCII in quotation marks, shortened.
    """
    short = text if len(text) <= _QUOTED else text[: _QUOTED - 1] + "…"
    return json.dumps(short)


def _around_difference(expected: str, received: Any) -> str:
    """
    Return both texts from a little before their first difference on.
    """
    if not isinstance(received, str):
        return f"{quote(expected)}, received {quote(str(received))}"
    start = max(0, first_difference(expected, received) - 20)
    where = f" from character {start} on" if start else ""
    return f"{quote(expected[start:])}{where}, received {quote(received[start:])}"


def copy_task() -> Task:
    """
    Return the task that the server is asked for.
    """
    return load_task(files("kiroworkers.proof") / f"{TASK_NAME}.toml")
