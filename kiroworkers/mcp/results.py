"""
Make the results of calls of tools.

A failure of a call is a result, too: a model reads it, and can call the tool again in another way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

#: The beginning of the names of what the server adds to results.
_PREFIX = "kiroworkers/"

#: The name of the details of a failure.
_ERROR = f"{_PREFIX}error"


def tool_result(answer: Any, headers: Mapping[str, str]) -> dict[str, Any]:
    """
    Return the result of a call with an answer.

    Args:
        answer: The answer of the task.
        headers: What REST sends as headers about the answer, by their names without
            ``X-Kiroworkers-``.
    """
    text = json.dumps(answer, ensure_ascii=False)
    meta = {_PREFIX + name.lower(): value for name, value in headers.items()}
    return _result(text, False, meta) | {"structuredContent": answer}


def tool_error(body: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the result of a call that has failed.

    Args:
        body: What REST sends as the body: ``error`` has the sentence, ``code`` the code.
    """
    details = {name: value for name, value in body.items() if name != "error"}
    return _result(str(body["error"]), True, {_ERROR: details})


def _result(text: str, is_error: bool, meta: Mapping[str, Any]) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}], "isError": is_error, "_meta": meta}
