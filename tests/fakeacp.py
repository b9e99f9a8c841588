"""
A stand-in of an agent that speaks the Agent Client Protocol, with faults on
demand.

It answers as `tests.fakekiro` does, in small pieces, and knows of its faults
``think``, ``silent``, ``die``, ``hang``, ``late``, ``approve``, ``flood``,
``orphan``, ``killed``, ``prose``, ``pretty``, ``trouble`` and ``quotes``.  Others
are of this protocol alone::

    unknown     ask for a file first            garbage     print what is no message
    stop=S      end the turn with that reason   whole       the answer in one piece
    big=N       say N characters before         deaf        do not hear the cancel
    cut         cut surrogate pairs in two      stranger    say things of another session
    options=A,B the permission's kinds          twice       ask for a tool twice at once
    after=S     end the turn after a word, and send the answer S seconds later

The whole session's, in ``FAKEKIRO``: ``slow=S``, ``mute``, ``broken``, ``stubborn``
and ``lingers`` (does not exit at the end of input), ``version=N`` of the protocol,
``closes`` (offers session/close), ``clear=refused`` (a second session) or
``clear=none``, ``aside`` (logs to standard error).

``FAKEKIRO_LOG`` and ``FAKEKIRO_LOGIN`` are as `tests.fakekiro` has them, and what
is not a prompt is added there as its method's name.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from tests.fakekiro import (
    TROUBLES,
    answer_text,
    faults_in,
    first_time,
    ignore,
    leave_a_child,
    mended,
)

_FAULTS = re.compile(r"\[\[([^\]]*)\]\]")
_PIECE = 40
_GARBAGE = b'\xff\xfe{"not": json\n[1]\n\n{"jsonrpc": "2.0"}\n' + b"[" * 100_000 + b"\n"


class Cancelled(Exception):
    """
    The client gave the turn up.
    """


class FakeAcp:
    """
    The stand-in, with the session's own `faults`.
    """

    def __init__(self, faults: Mapping[str, str]) -> None:
        self._faults = faults
        self._lines = self._read()
        self._prompts: dict[str, int] = {}
        self._last = ""
        self._numbers = 0
        self._rest = b""
        self._writing = threading.Lock()

    def run(self) -> int:
        """
        Serve until there is no more input.
        """
        if "mute" in self._faults:
            time.sleep(3600)
        time.sleep(float(self._faults.get("slow", "0")))
        while (message := self._next(None)) is not None:
            self._serve(message)
        if "lingers" in self._faults:
            time.sleep(3600)
        return 0

    # What it reads and writes.

    def _read(self) -> Iterator[Any]:
        """
        The messages, and None each time nothing more is there.
        """
        while True:
            *lines, self._rest = self._rest.split(b"\n")
            for line in lines:
                yield json.loads(line)
            yield None
            data = os.read(0, 65536)
            if not data:
                return
            self._rest += data

    def _next(self, patience: float | None) -> Any:
        """
        The next message; None after `patience` seconds, or at the end of input.
        """
        for message in self._lines:
            if message is not None:
                return message
            if not select.select([0], [], [], patience)[0]:
                return None
        return None

    def _write(self, data: bytes) -> None:
        with self._writing:
            while data:
                data = data[os.write(1, data) :]

    def _say(self, **message: Any) -> None:
        self._write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def _update(self, session: str, **update: Any) -> None:
        self._say(method="session/update", params={"sessionId": session, "update": update})

    def _chunk(self, session: str, text: str) -> None:
        content = {"type": "text", "text": text}
        self._update(session, sessionUpdate="agent_message_chunk", content=content)

    # What it does.

    def _serve(self, message: Any) -> None:
        match message:
            case {"method": "session/prompt", "id": id, "params": params}:
                [part] = params["prompt"]
                note(part["text"])
                self._turn(id, params["sessionId"], part["text"])
            case {"method": method, "id": id}:
                note(method)
                self._answer(id, method)
            case {"method": method}:
                note(method)

    def _answer(self, id: Any, method: str) -> None:
        if "aside" in self._faults:
            print(f"log: {method}", file=sys.stderr, flush=True)
        match method:
            case "initialize":
                sessions: dict[str, Any] = {"close": {}} if "closes" in self._faults else {}
                self._say(
                    id=id,
                    result={
                        "protocolVersion": int(self._faults.get("version", "1")),
                        "agentCapabilities": {"sessionCapabilities": sessions},
                        "authMethods": [],
                    },
                )
            case "session/new":
                self._new_session(id)
            case "session/close":
                self._say(id=id, result={})
            case _:
                self._say(id=id, error={"code": -32601, "message": f"no {method}"})

    def _new_session(self, id: Any) -> None:
        nobody = os.environ.get("FAKEKIRO_LOGIN")
        if nobody is not None and not os.path.exists(nobody):
            self._say(id=id, error={"code": -32000, "message": "Authentication required"})
            return
        clear = self._faults.get("clear", "") if self._prompts else ""
        if clear == "refused":
            self._say(id=id, error={"code": -32603, "message": "too many sessions"})
        elif clear != "none":
            name = f"session-{len(self._prompts)}"
            self._prompts[name] = 0
            self._say(id=id, result={"sessionId": name})

    def _turn(self, id: Any, session: str, text: str) -> None:
        if text.startswith("Task: repair\n"):
            text = mended(self._last)
        self._last = text
        listed = _FAULTS.search(text)
        faults = faults_in(listed[1]) if listed is not None else {}
        self._update(session, sessionUpdate="agent_thought_chunk", content={"type": "text"})
        try:
            result = self._result(session, text, faults)
        except Cancelled:
            if "late" in faults:
                self._chunk(session, self._said(session, text, faults))
            result = {"result": {"stopReason": "cancelled"}}
        self._prompts[session] += 1
        self._say(id=id, **result)

    def _said(self, session: str, text: str, faults: Mapping[str, str]) -> str:
        return answer_text(text, faults, self._prompts[session])

    def _result(self, session: str, text: str, faults: Mapping[str, str]) -> dict[str, Any]:
        if "orphan" in faults:
            note(f"child {leave_a_child()} .")
        if "hang" in faults:
            ignore(signal.SIGINT, signal.SIGTERM)
            time.sleep(3600)
        if "garbage" in faults:
            self._write(_GARBAGE)
        if "stranger" in faults:
            self._chunk("session-of-somebody-else", "not for you")
            self._say(id=99_999, result={"stopReason": "end_turn"})
        if "flood" in faults:
            self._write(b"flood " * (int(faults["flood"]) // 6))
        if "unknown" in faults:
            params = {"sessionId": session, "path": "/etc/passwd"}
            self._ask("fs/read_text_file", params)
        silent = "silent" in faults or "late" in faults
        self._wait(3600 if silent else float(faults.get("think", "0")), "deaf" in faults)
        if "killed" in faults and first_time(faults["killed"]):
            os.killpg(0, signal.SIGKILL)
        if "die" in faults:
            self._chunk(session, '```json\n{"title": "half an ans')
            os._exit(1)
        if "trouble" in faults:
            message = TROUBLES[faults["trouble"]]
            return {"error": {"code": -32603, "message": "Internal error", "data": message}}
        said = "x" * int(faults.get("big", "0")) + self._said(session, text, faults)
        if "approve" in faults:
            said = self._approval(session, faults) + said
        if "after" in faults:
            late = threading.Timer(float(faults["after"]), self._chunk, [session, said])
            late.daemon = True
            late.start()
            said = "Well. "
        size = len(said) if "whole" in faults else _PIECE
        if "cut" in faults:
            size, said = 1, "".join(_surrogates(said))
        for start in range(0, len(said), size):
            self._chunk(session, said[start : start + size])
        return {"result": {"stopReason": faults.get("stop", "end_turn")}}

    def _approval(self, session: str, faults: Mapping[str, str]) -> str:
        kinds = faults.get("options", "allow_once,allow_always,reject_once").split(",")
        options = [
            {"optionId": f"the {kind}", "name": kind, "kind": kind} for kind in kinds if kind
        ]
        call = {"toolCallId": "1", "title": "date", "kind": "execute"}
        self._update(session, sessionUpdate="tool_call", status="pending", **call)
        params = {"sessionId": session, "toolCall": call, "options": options}
        if "twice" in faults:
            self._numbers += 1
            self._say(id=f"x{self._numbers}", method="session/request_permission", params=params)
        outcome = self._ask("session/request_permission", params)["result"]["outcome"]
        chosen = outcome.get("optionId", outcome["outcome"])
        return f"Tool {'allowed' if 'allow' in chosen else 'denied'}: {chosen}.\n"

    def _ask(self, method: str, params: Mapping[str, Any]) -> Any:
        """
        The client's response.
        """
        self._numbers += 1
        name = f"x{self._numbers}"
        self._say(id=name, method=method, params=params)
        while True:
            message = self._next(None)
            if message is None:
                sys.exit(0)
            if message.get("id") == name:
                return message
            self._hear(message)

    def _wait(self, seconds: float, deaf: bool) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            message = self._next(left)
            if message is None and time.monotonic() < until:
                sys.exit(0)
            if message is not None and not deaf:
                self._hear(message)

    def _hear(self, message: Any) -> None:
        if message.get("method") == "session/cancel":
            note("session/cancel")
            raise Cancelled
        # A client that asks for more in a turn is told when that is over.


def _surrogates(text: str) -> Iterator[str]:
    for character in text:
        if ord(character) > 0xFFFF:
            pair = character.encode("utf-16-be")
            yield chr(int.from_bytes(pair[:2], "big"))
            yield chr(int.from_bytes(pair[2:], "big"))
        else:
            yield character


def note(what: str) -> None:
    """
    Tell whoever watches.
    """
    log = os.environ.get("FAKEKIRO_LOG")
    if log is not None:
        with open(log, "a", encoding="utf-8") as lines:
            lines.write(json.dumps(what) + "\n")


def main(arguments: list[str]) -> int:
    """
    Be an agent with these arguments.
    """
    if arguments[1:] not in ([], ["--agent-engine=v2"]):
        print(f"error: unexpected argument in {arguments}", file=sys.stderr)
        return 2
    faults = faults_in(os.environ.get("FAKEKIRO", ""))
    if "broken" in faults:
        print("the database of models is locked", file=sys.stderr)
        return 1
    if "stubborn" in faults:
        ignore(signal.SIGTERM, signal.SIGHUP)
    return FakeAcp(faults).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
