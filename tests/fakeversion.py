"""
A stand-in for Kiro whose versions differ in what they make of a canary.

``FAKEKIRO_CANARY`` says what this version does with it: nothing special (``exact``); it renders
Markdown (``altered``), answers something else (``wrong``), knows an earlier canary (``leaks``), or
its account is throttled (``throttled``).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from tests.fakekiro import _REQUEST, TROUBLES, FakeKiro, main


class VersionedKiro(FakeKiro):
    """
    Act as one version of Kiro.
    """

    def turn(self, text: str) -> None:
        if _is_canary(text) and os.environ.get("FAKEKIRO_CANARY") == "throttled":
            self.write(TROUBLES["throttled_shortly"] + "\n\n")
            return
        super().turn(text)

    def _answer_text(self, text: str) -> str:
        if not _is_canary(text):
            return super()._answer_text(text)
        request = _REQUEST.search(text)
        assert request is not None, "a prompt has a request"
        behaviour = os.environ.get("FAKEKIRO_CANARY", "exact")
        if behaviour == "wrong":
            return "I cannot help with that."
        answer = _answer(json.loads(request[1]), behaviour)
        encoded = json.dumps(answer, ensure_ascii=False).replace("&", "\\u0026")
        encoded = encoded.replace("`", "\\u0060")
        return f"```json\n{encoded}\n```"


def _is_canary(text: str) -> bool:
    return text.startswith("Task: canary")


def _answer(request: Mapping[str, Any], behaviour: str) -> dict[str, Any]:
    text = request["text"].replace("**", "") if behaviour == "altered" else request["text"]
    earlier = ["canary-0123456789abcdef"] if behaviour == "leaks" else []
    return {"word": request["word"], "text": text, "earlier": earlier}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], VersionedKiro))
