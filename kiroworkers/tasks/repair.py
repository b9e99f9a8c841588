"""
Make the prompt that asks an agent to correct an answer that did not fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kiroworkers.tasks.literal import json_literal
from kiroworkers.tasks.task import ANSWER_LAYOUTS, AnswerLayout

#: The reason may quote the answer, so it is inserted as a JSON literal, as client text is.
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
    Return the prompt that asks again for an answer that fits `schema`.

    Args:
        reason: A sentence that says why the last answer was rejected.
        schema: The JSON Schema of the answer.
        layout: How the agent is to lay out its JSON.
    """
    return _PROMPT.format(
        reason=json_literal(reason), schema=json_literal(schema), layout=ANSWER_LAYOUTS[layout]
    ).strip()
