"""
Tests for the stand-in for ``kiro-cli acp``: it may send only what the real program sends.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.kiro_acp.engine import KiroEngine, Options
from tests.kiro_acp.v2 import EngineV2
from tests.kiro_acp.v3 import EngineV3

#: What a message is about, and the names of its fields.
Shape = tuple[str, frozenset[str]]

_PROMPT = 'Task: generate-story\nRequest: {"idea": "x"}\n'


class _Recording(KiroEngine):
    """
    Keep the messages instead of sending them, and answer each question with its last option.
    """

    sent: list[Mapping[str, Any]]

    def _send(self, **message: Any) -> None:
        self.sent.append(message)

    def _later(self, seconds: float, call: Callable[[], object]) -> None:
        call()

    def _wait(self, seconds: float, deaf: bool = False) -> None:
        pass

    def _ask(self, method: str, params: Mapping[str, Any]) -> Any:
        self._send_request(method, params)
        option = params["options"][-1] if "options" in params else {"optionId": ""}
        return {"result": {"outcome": {"outcome": "selected", "optionId": option["optionId"]}}}

    def act(self, requests: Iterable[tuple[str, Mapping[str, Any]]], prompts: Iterable[str]) -> str:
        """
        Answer a handshake, the requests and the prompts, and return the session.
        """
        self.sent = []
        self._answer(1, "initialize", {"clientInfo": {}, "clientCapabilities": {"terminal": False}})
        self._answer(2, "session/new", {"cwd": "/", "mcpServers": []})
        [session] = [
            message["result"]["sessionId"]
            for message in self.sent
            if "sessionId" in message.get("result", {})
        ]
        for method, params in requests:
            self._answer(3, method, {"sessionId": session, **params})
        for faults in prompts:
            self._turn(4, session, f"{_PROMPT}[[{faults}]]")
        return str(session)


class _V2(_Recording, EngineV2):
    pass


class _V3(_Recording, EngineV3):
    pass


def shapes(message: Mapping[str, Any]) -> Iterator[Shape]:
    """
    Yield the shapes in a message: that of its parameters or result, and of what is in them.
    """
    match message:
        case {"method": str(method), "params": dict(params)}:
            yield method, frozenset(params)
            match params:
                case {"update": {"sessionUpdate": str(kind)} as update}:
                    yield f"{method} {kind}", frozenset(update)
                    match update:
                        case {"_meta": {"kiro": {"kind": str(info)} as kiro}}:
                            yield f"{kind} {info}", frozenset(kiro)
                case {"status": {"type": str(kind)} as status}:
                    yield f"{method} {kind}", frozenset(status)
                case {"toolCall": dict(call), "options": list(options)}:
                    yield "toolCall", frozenset(call)
                    for option in options:
                        yield f"option {option['kind']}", frozenset(option)
        case {"result": dict(result)}:
            # The name of the request is not in the response; its fields tell which it was.
            yield "result", frozenset(result)
        case {"error": dict(error)}:
            yield f"error {error['code']}", frozenset(error)


class ShapeTests(SynchronousTestCase):
    """
    Tests for the shapes of the messages of both engines.
    """

    def captured(self, engine: str) -> set[Shape]:
        """
        Return the shapes of all captures of that engine.
        """
        folder = os.environ.get("KIROWORKERS_RECORDINGS")
        if folder is None:
            raise SkipTest("KIROWORKERS_RECORDINGS does not name the captures")
        found: set[Shape] = set()
        for path in sorted(Path(folder, "acp").glob(f"{engine}-*.jsonl")):
            for line in path.read_text().splitlines()[1:]:
                entry = json.loads(line)
                if entry["dir"] == "in":
                    found.update(shapes(entry["frame"]))
        self.assertTrue(found)
        return found

    def check(self, engine: str, sent: list[Mapping[str, Any]]) -> None:
        """
        Fail unless the fields of each message are among those of a captured one.
        """
        captured = self.captured(engine)
        strange = {
            (what, tuple(sorted(fields)))
            for message in sent
            for what, fields in shapes(message)
            if not any(what == name and fields <= known for name, known in captured)
        }
        self.assertEqual(strange, set())

    def test_v2(self) -> None:
        """
        Engine v2 sends nothing that no capture has.
        """
        stand_in = _V2({}, Options((2, 28, 0)))
        clear = ("_kiro.dev/commands/execute", {"command": {"command": "clear", "args": {}}})
        model = ("session/set_model", {"modelId": "auto"})
        session = stand_in.act(
            [model, clear],
            [
                *("", "tool=read", "approve", "discard", "stall=2 retry=2", "fallback"),
                *("compact", "compact=dropped", "filtered", "bare=monthly", "error=timed-out"),
            ],
        )
        stand_in._answer(5, "_kiro.dev/session/terminate", {"sessionId": session})
        self.check("v2", stand_in.sent)

    def test_v3(self) -> None:
        """
        Engine v3 sends nothing that no capture has.
        """
        stand_in = _V3({}, Options((2, 26, 0)))
        supervised = ("session/set_config_option", {"configId": "autopilot", "value": "off"})
        stand_in.act(
            [supervised, ("session/set_model", {})],
            [
                *("", "tool=read", "approve", "again stall=2", "error=stalled", "display"),
                *("question", "more", "wake"),
            ],
        )
        self.check("v3", stand_in.sent)
