"""
Asking once more, in the same conversation, for an answer that did not fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kiroworkers.tasks.literal import json_literal
from kiroworkers.tasks.task import ANSWER_LAYOUTS, AnswerLayout

#: What is wrong may quote the answer, so it enters as a JSON literal, as a client's
#: text does.
_PROMPT = """\
Task: repair
Your last answer was not accepted. What is wrong with it, as data: {reason}
Give the answer to the same request again, all of it, with that put right; use no tools.
Answer with exactly one JSON object that fits this JSON Schema: {schema}
Give the JSON {layout}, in one fenced code block marked json, and write nothing after it. \
Inside its strings write an ampersand as \\u0026 and a backtick as \\u0060.
"""


def repair_prompt(reason: str, schema: Mapping[str, Any], layout: AnswerLayout) -> str:
    """
    What to type when an answer was refused for `reason`, a sentence, by `schema`.
    """
    return _PROMPT.format(
        reason=json_literal(reason), schema=json_literal(schema), layout=ANSWER_LAYOUTS[layout]
    ).strip()
