"""
A stand-in for an agent that speaks the Agent Client Protocol, with faults on demand.

It answers as `tests.fakekiro` does, in small pieces, and has these of its faults:
``think``, ``silent``, ``die``, ``hang``, ``late``, ``approve``, ``flood``, ``orphan``,
``killed``, ``prose``, ``pretty``, ``trouble`` and ``quotes``.  These exist only here::

    unknown     ask for a file first            garbage     print bytes that are no message
    stop=S      end the turn with that reason   whole       send the answer in one piece
    big=N       send N characters first         deaf        ignore the cancellation
    cut         cut surrogate pairs in two      stranger    send updates of another session
    options=A,B the kinds of permission offered
    twice       ask for the permission for a tool twice at once
    after=S     end the turn after a word, and send the answer S seconds later
    stay=S      end the turn S seconds after the answer

``FAKEKIRO`` may hold these faults of the whole session: ``slow=S``, ``mute``,
``broken`` and ``stubborn`` as in `tests.fakekiro`, ``lingers`` (does not exit at the
end of input), ``version=N`` of the protocol, ``closes`` (offers session/close),
``clear=refused`` (refuses a second session) or ``clear=none`` (does not answer the
request for one), ``aside`` (logs to standard error), and ``title=T`` (the tool's title).

``FAKEKIRO_LOG`` and ``FAKEKIRO_LOGIN`` work as in `tests.fakekiro`; for a message other
than a prompt, the name of its method is logged.
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
    repaired_prompt,
)

_FAULTS = re.compile(r"\[\[([^\]]*)\]\]")
#: How many characters a piece of an answer has.
_PIECE = 40
_GARBAGE = b'\xff\xfe{"not": json\n[1]\n\n{"jsonrpc": "2.0"}\n' + b"[" * 100_000 + b"\n"


class Cancelled(Exception):
    """
    Raised when the client cancels the turn.
    """


class FakeAcp:
    """
    Act as the agent, with the faults of the whole session.
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
        Serve until the end of input, and return the exit status.
        """
        if "mute" in self._faults:
            time.sleep(3600)
        time.sleep(float(self._faults.get("slow", "0")))
        while (message := self._next(None)) is not None:
            self._serve(message)
        if "lingers" in self._faults:
            time.sleep(3600)
        return 0

    # Reading and writing.

    def _read(self) -> Iterator[Any]:
        """
        Yield each message, and None whenever the next one has not been read yet.
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

    def _next(self, timeout: float | None) -> Any:
        """
        Return the next message; None after `timeout` seconds, or at the end of input.
        """
        for message in self._lines:
            if message is not None:
                return message
            if not select.select([0], [], [], timeout)[0]:
                return None
        return None

    def _write(self, data: bytes) -> None:
        with self._writing:
            while data:
                data = data[os.write(1, data) :]

    def _send(self, **message: Any) -> None:
        self._write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def _update(self, session: str, **update: Any) -> None:
        self._send(method="session/update", params={"sessionId": session, "update": update})

    def _chunk(self, session: str, text: str) -> None:
        content = {"type": "text", "text": text}
        self._update(session, sessionUpdate="agent_message_chunk", content=content)

    # Requests and turns.

    def _serve(self, message: Any) -> None:
        match message:
            case {"method": "session/prompt", "id": id, "params": params}:
                [part] = params["prompt"]
                log_entry(part["text"])
                self._turn(id, params["sessionId"], part["text"])
            case {"method": method, "id": id}:
                log_entry(method)
                self._answer(id, method)
            case {"method": method}:
                log_entry(method)

    def _answer(self, id: Any, method: str) -> None:
        if "aside" in self._faults:
            print(f"log: {method}", file=sys.stderr, flush=True)
        match method:
            case "initialize":
                sessions: dict[str, Any] = {"close": {}} if "closes" in self._faults else {}
                self._send(
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
                self._send(id=id, result={})
            case _:
                self._send(id=id, error={"code": -32601, "message": f"no {method}"})

    def _new_session(self, id: Any) -> None:
        login_file = os.environ.get("FAKEKIRO_LOGIN")
        if login_file is not None and not os.path.exists(login_file):
            self._send(id=id, error={"code": -32000, "message": "Authentication required"})
            return
        clear = self._faults.get("clear", "") if self._prompts else ""
        if clear == "refused":
            self._send(id=id, error={"code": -32603, "message": "too many sessions"})
        elif clear != "none":
            name = f"session-{len(self._prompts)}"
            self._prompts[name] = 0
            self._send(id=id, result={"sessionId": name})

    def _turn(self, id: Any, session: str, text: str) -> None:
        if text.startswith("Task: repair\n"):
            text = repaired_prompt(self._last)
        self._last = text
        match = _FAULTS.search(text)
        faults = faults_in(match[1]) if match is not None else {}
        self._update(session, sessionUpdate="agent_thought_chunk", content={"type": "text"})
        try:
            result = self._result(session, text, faults)
        except Cancelled:
            if "late" in faults:
                self._chunk(session, self._answer_text(session, text, faults))
            result = {"result": {"stopReason": "cancelled"}}
        self._prompts[session] += 1
        self._send(id=id, **result)

    def _answer_text(self, session: str, text: str, faults: Mapping[str, str]) -> str:
        return answer_text(text, faults, self._prompts[session])

    def _result(self, session: str, text: str, faults: Mapping[str, str]) -> dict[str, Any]:
        if "orphan" in faults:
            log_entry(f"child {leave_a_child()} .")
        if "hang" in faults:
            ignore(signal.SIGINT, signal.SIGTERM)
            time.sleep(3600)
        if "garbage" in faults:
            self._write(_GARBAGE)
        if "stranger" in faults:
            self._chunk("session-of-somebody-else", "not for you")
            self._send(id=99_999, result={"stopReason": "end_turn"})
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
        answer = self._answer_text(session, text, faults)
        answer = "x" * int(faults.get("big", "0")) + answer
        if "approve" in faults:
            answer = self._approval(session, faults) + answer
        if "after" in faults:
            late = threading.Timer(float(faults["after"]), self._chunk, [session, answer])
            late.daemon = True
            late.start()
            answer = "Well. "
        size = len(answer) if "whole" in faults else _PIECE
        if "cut" in faults:
            size, answer = 1, "".join(_surrogates(answer))
        for start in range(0, len(answer), size):
            self._chunk(session, answer[start : start + size])
        self._wait(float(faults.get("stay", "0")), "deaf" in faults)
        return {"result": {"stopReason": faults.get("stop", "end_turn")}}

    def _approval(self, session: str, faults: Mapping[str, str]) -> str:
        kinds = faults.get("options", "allow_once,allow_always,reject_once").split(",")
        options = [
            {"optionId": f"the {kind}", "name": kind, "kind": kind} for kind in kinds if kind
        ]
        title = self._faults.get("title", "date")
        call = {"toolCallId": "1", "title": title, "kind": "execute"}
        self._update(session, sessionUpdate="tool_call", status="pending", **call)
        params = {"sessionId": session, "toolCall": call, "options": options}
        if "twice" in faults:
            self._numbers += 1
            self._send(id=f"x{self._numbers}", method="session/request_permission", params=params)
        outcome = self._ask("session/request_permission", params)["result"]["outcome"]
        chosen = outcome.get("optionId", outcome["outcome"])
        return f"Tool {'allowed' if 'allow' in chosen else 'denied'}: {chosen}.\n"

    def _ask(self, method: str, params: Mapping[str, Any]) -> Any:
        """
        Send a request to the client and return its response.
        """
        self._numbers += 1
        name = f"x{self._numbers}"
        self._send(id=name, method=method, params=params)
        while True:
            message = self._next(None)
            if message is None:
                sys.exit(0)
            if message.get("id") == name:
                return message
            self._handle_in_turn(message)

    def _wait(self, seconds: float, deaf: bool) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            message = self._next(left)
            if message is None and time.monotonic() < until:
                sys.exit(0)
            if message is not None and not deaf:
                self._handle_in_turn(message)

    def _handle_in_turn(self, message: Any) -> None:
        # Other messages of a turn are ignored.
        if message.get("method") == "session/cancel":
            log_entry("session/cancel")
            raise Cancelled


def _surrogates(text: str) -> Iterator[str]:
    for character in text:
        if ord(character) > 0xFFFF:
            pair = character.encode("utf-16-be")
            yield chr(int.from_bytes(pair[:2], "big"))
            yield chr(int.from_bytes(pair[2:], "big"))
        else:
            yield character


def log_entry(text: str) -> None:
    """
    Append `text` to the file that FAKEKIRO_LOG names.
    """
    log = os.environ.get("FAKEKIRO_LOG")
    if log is not None:
        with open(log, "a", encoding="utf-8") as lines:
            lines.write(json.dumps(text) + "\n")


def main(arguments: list[str]) -> int:
    """
    Act as an agent with these arguments, and return the exit status.
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
