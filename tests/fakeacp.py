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
    tail=S      end the turn five characters before the end, and send those S seconds later
    stay=S      end the turn S seconds after the answer
    tool=K,L    tools of the kinds K and L run, and no permission is asked for
    outside     such a tool accesses a file outside the working directory
    rejected    a denied tool ends the turn with an error
    work=S      work S seconds after the question about a tool

``FAKEKIRO`` may hold these faults of the whole session: ``slow=S``, ``mute``,
``broken`` and ``stubborn`` as in `tests.fakekiro`, ``lingers`` (does not exit at the
end of input), ``version=N`` of the protocol, ``closes`` (offers session/close), ``new=S``
(a session is made in S seconds), ``images`` (accepts images in prompts), ``clear=refused``
(refuses a second session) or ``clear=none`` (does not answer the request for one), ``aside`` (logs
to standard error), and ``title=T`` (the tool's title).

In its answer, ``[image N]`` is followed by what it has got as that image: the media type, the
number of bytes and their digest.

With ``resumes``, a new session is the one that the agent had in this folder before, also in an
earlier process: it has the same identifier, and remembers its prompts, of which there is a record
in the folder $FAKEACP_HOME or ~/.fakeacp.  ``resumes=3`` means that this begins with the agent's
third session.

``FAKEKIRO_LOG`` and ``FAKEKIRO_LOGIN`` work as in `tests.fakekiro`; for a message other
than a prompt, the name of its method is logged.  All requests except prompts are also
answered while a turn runs.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn
from uuid import uuid4

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
#: What stands for an image in the text of a prompt.
_IMAGE = re.compile(r"\[image (\d+)\]")
_GARBAGE = b'\xff\xfe{"not": json\n[1]\n\n{"jsonrpc": "2.0"}\n' + b"[" * 100_000 + b"\n"

#: What a tool of each kind does: its title, and the fields that say so.
_TOOLS: Mapping[str, tuple[str, str]] = {
    "read": ("Reading README.md", "path"),
    "search": ("Searching for TODO", "path"),
    "edit": ("Writing README.md", "path"),
    "delete": ("Deleting README.md", "path"),
    "execute": ("Running: date", "command"),
    "fetch": ("Fetching https://example.com/", "url"),
    "other": ("Using a tool", "value"),
}


class Cancelled(Exception):
    """
    Raised when the client cancels the turn.
    """


class Ended(Exception):
    """
    Raised when the turn ends in the middle, with the result or the error `response`.
    """

    def __init__(self, **response: Any) -> None:
        super().__init__(response)
        self.response = response


class FakeAcp:
    """
    Act as the agent, with the faults of the whole session.
    """

    #: Whether the agent exits when its standard input is closed.
    exits_at_end = True

    #: Whether the agent accepts images without being told so.
    accepts_images = False

    def __init__(self, faults: Mapping[str, str]) -> None:
        self._faults = faults
        self._lines = self._read()
        self._prompts: dict[str, int] = {}
        self._sessions = 0
        self._last = ""
        self._numbers = 0
        #: What was got of the images in the conversation of each session.
        self._images: dict[str, list[str]] = {}
        self._rest = b""
        self._writing = threading.Lock()
        #: What follows the end of the turn: after how many seconds, and which text.
        self._late: list[tuple[float, str]] = []

    def run(self) -> NoReturn:
        """
        Serve until the end of input, and exit.
        """
        if "mute" in self._faults:
            time.sleep(3600)
        time.sleep(float(self._faults.get("slow", "0")))
        while (message := self._next(None)) is not None:
            self._serve(message)
        self._end_of_input()

    def _end_of_input(self) -> NoReturn:
        if "lingers" in self._faults or not self.exits_at_end:
            time.sleep(3600)
        sys.exit(0)

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
            self._put(data)

    def _put(self, data: bytes) -> None:
        while data:
            data = data[os.write(1, data) :]

    def _send(self, **message: Any) -> None:
        self._write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def _later(self, seconds: float, call: Callable[[], object]) -> None:
        """
        Call `call` in so many seconds, at once if they are none.
        """
        if not seconds:
            call()
            return
        timer = threading.Timer(seconds, call)
        timer.daemon = True
        timer.start()

    def _update(self, session: str, **update: Any) -> None:
        self._send(method="session/update", params={"sessionId": session, "update": update})

    def _chunk(self, session: str, text: str) -> None:
        content = {"type": "text", "text": text}
        self._update(session, sessionUpdate="agent_message_chunk", content=content)

    # Requests and turns.

    def _serve(self, message: Any) -> None:
        match message:
            case {"method": "session/prompt", "id": id, "params": params}:
                part, *images = params["prompt"]
                log_entry(part["text"])
                if images:
                    seen = self._images.setdefault(params["sessionId"], [])
                    seen += [self._look_at(image) for image in images]
                self._turn(id, params["sessionId"], part["text"])
            case {"method": method, "id": id}:
                self._answer(id, method, message.get("params", {}))
            case {"method": method}:
                log_entry(method)

    def _look_at(self, image: Mapping[str, str]) -> str:
        """
        Describe an image that was sent.
        """
        assert image["type"] == "image" and self._takes_images, "images were not offered"
        seen = describe_image(image["mimeType"], base64.b64decode(image["data"], validate=True))
        log_entry(f"image {seen}")
        return seen

    @property
    def _takes_images(self) -> bool:
        return self.accepts_images or "images" in self._faults

    def _answer(self, id: Any, method: str, params: Mapping[str, Any]) -> None:
        """
        Answer a request that is no prompt.
        """
        log_entry(method)
        if "aside" in self._faults:
            print(f"log: {method}", file=sys.stderr, flush=True)
        match method:
            case "initialize":
                sessions: dict[str, Any] = {"close": {}} if "closes" in self._faults else {}
                self._send(
                    id=id,
                    result={
                        "protocolVersion": int(self._faults.get("version", "1")),
                        "agentCapabilities": {
                            "promptCapabilities": {"image": self._takes_images},
                            "sessionCapabilities": sessions,
                        },
                        "authMethods": [],
                    },
                )
            case "session/new":
                self._new_session(id, params)
            case "session/close":
                self._prompts.pop(params["sessionId"], None)
                self._send(id=id, result={})
            case _:
                self._send(id=id, error={"code": -32601, "message": f"no {method}"})

    def _new_session(self, id: Any, params: Mapping[str, Any]) -> None:
        login_file = os.environ.get("FAKEKIRO_LOGIN")
        if login_file is not None and not os.path.exists(login_file):
            self._send(id=id, error={"code": -32000, "message": "Authentication required"})
            return
        clear = self._faults.get("clear", "") if self._sessions else ""
        self._sessions += 1
        name = f"session-{uuid4()}"
        if "resumes" in self._faults and self._sessions >= int(self._faults["resumes"] or "1"):
            name = f"session-in-{params['cwd']}"
            self._prompts[name] = earlier_prompts()
        if clear == "refused":
            self._send(id=id, error={"code": -32603, "message": "too many sessions"})
        elif clear != "none":
            self._prompts.setdefault(name, 0)
            self._later(
                float(self._faults.get("new", "0")),
                lambda: self._send(id=id, result={"sessionId": name}),
            )

    def _turn(self, id: Any, session: str, text: str) -> None:
        if text.startswith("Task: repair\n"):
            text = repaired_prompt(self._last)
        self._last = text
        match = _FAULTS.search(text)
        faults = faults_in(match[1]) if match is not None else {}
        try:
            self._begin_turn(session, text, faults)
            result = self._result(session, text, faults)
        except Cancelled:
            if "late" in faults:
                self._chunk(session, self._answer_text(session, text, faults))
            result = {"result": {"stopReason": "cancelled"}}
        except Ended as ended:
            result = ended.response
        self._prompts[session] = self._prompts.get(session, 0) + 1
        if "resumes" in self._faults:
            record_prompt()
        self._end_turn(id, session, result, faults)
        late, self._late = self._late, []
        for seconds, rest in late:
            self._later(seconds, lambda rest=rest: self._chunk(session, rest))  # type: ignore[misc]

    def _begin_turn(self, session: str, text: str, faults: Mapping[str, str]) -> None:
        """
        Report that the turn begins.
        """
        self._update(session, sessionUpdate="agent_thought_chunk", content={"type": "text"})

    def _end_turn(
        self, id: Any, session: str, result: Mapping[str, Any], faults: Mapping[str, str]
    ) -> None:
        """
        Report that the turn is over, with `result` in the response.
        """
        self._send(id=id, **result)

    def _answer_text(self, session: str, text: str, faults: Mapping[str, str]) -> str:
        images = self._images.get(session, [])
        if images:
            text = _IMAGE.sub(lambda found: f"{found[0]} = {images[int(found[1]) - 1]}", text)
        return answer_text(text, faults, self._prompts.get(session, 0))

    def _result(self, session: str, text: str, faults: Mapping[str, str]) -> dict[str, Any]:
        """
        Act a turn, and return the result or the error of its response.
        """
        if "orphan" in faults:
            log_entry(f"child {leave_a_child()} .")
        if "hang" in faults:
            ignore(signal.SIGINT, signal.SIGTERM)
            time.sleep(3600)
        if "garbage" in faults:
            self._write(_GARBAGE)
        if "stranger" in faults:
            self._speak_for_others()
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
            self._die()
        if (error := self._error(session, faults)) is not None:
            return error
        answer = self._answer_text(session, text, faults)
        answer = "x" * int(faults.get("big", "0")) + answer
        for kind in faults["tool"].split(",") if "tool" in faults else ():
            self._run_tool(session, kind, "outside" in faults)
        if "approve" in faults:
            decision = self._approval(session, faults)
            if "rejected" in faults and "denied" in decision:
                return {"error": {"code": -32603, "message": "Internal error", "data": decision}}
            answer = decision + answer
            self._wait(float(faults.get("work", "0")), "deaf" in faults)
        if "after" in faults:
            self._late.append((float(faults["after"]), answer))
            answer = "Well. "
        if "tail" in faults:
            self._late.append((float(faults["tail"]), answer[-5:]))
            answer = answer[:-5]
        self._stream(session, answer, faults)
        self._wait(float(faults.get("stay", "0")), "deaf" in faults)
        return {"result": {"stopReason": faults.get("stop", "end_turn")}}

    def _die(self) -> NoReturn:
        os._exit(1)

    def _speak_for_others(self) -> None:
        """
        Send messages that belong to no turn of this client.
        """
        self._chunk("session-of-somebody-else", "not for you")
        self._send(id=99_999, result={"stopReason": "end_turn"})

    def _error(self, session: str, faults: Mapping[str, str]) -> dict[str, Any] | None:
        """
        Return the error with which the turn ends, or None.
        """
        if "trouble" not in faults:
            return None
        message = TROUBLES[faults["trouble"]]
        return {"error": {"code": -32603, "message": "Internal error", "data": message}}

    def _stream(self, session: str, answer: str, faults: Mapping[str, str]) -> None:
        """
        Send an answer in pieces.
        """
        size = len(answer) if "whole" in faults else _PIECE
        if "cut" in faults:
            size, answer = 1, "".join(_surrogates(answer))
        for start in range(0, len(answer), size):
            self._chunk(session, answer[start : start + size])

    # Tools.

    def _run_tool(self, session: str, kind: str, outside: bool) -> None:
        """
        Report a tool that runs without a permission.
        """
        call = self._tool_call(kind, outside)
        self._update(session, sessionUpdate="tool_call", status="pending", **call)
        done = {"toolCallId": call["toolCallId"], "status": "completed"}
        self._update(session, sessionUpdate="tool_call_update", **done)

    def _tool_call(self, kind: str, outside: bool = False) -> dict[str, Any]:
        """
        Return the fields of a tool call of that kind.
        """
        self._numbers += 1
        title, field = _TOOLS[kind]
        path = "/etc/hostname" if outside else str(Path.cwd() / "README.md")
        value = path if field == "path" else title.rpartition(" ")[2]
        call: dict[str, Any] = {"title": title, "kind": kind}
        call["toolCallId"] = f"call-{self._numbers}"
        if field == "path":
            call["locations"] = [{"path": path}]
        return {**call, "rawInput": {field: value}}

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
            self._send_request("session/request_permission", params)
        outcome = self._ask("session/request_permission", params)["result"]["outcome"]
        chosen = outcome.get("optionId", outcome["outcome"])
        return f"Tool {'allowed' if 'allow' in chosen else 'denied'}: {chosen}.\n"

    # Requests to the client.

    def _request_id(self) -> Any:
        """
        Return the identifier of the next request to the client.
        """
        self._numbers += 1
        return f"x{self._numbers}"

    def _send_request(self, method: str, params: Mapping[str, Any]) -> Any:
        """
        Send a request to the client and return its identifier.
        """
        id = self._request_id()
        self._send(id=id, method=method, params=params)
        return id

    def _ask(self, method: str, params: Mapping[str, Any]) -> Any:
        """
        Send a request to the client and return its response.
        """
        id = self._send_request(method, params)
        while True:
            message = self._next(None)
            if message is None:
                self._end_of_input()
            if "method" not in message and message.get("id") == id:
                return message
            self._serve_in_turn(message)

    def _wait(self, seconds: float, deaf: bool = False) -> None:
        """
        Serve other requests for so many seconds.

        Args:
            seconds: How long.
            deaf: Whether to ignore that the turn is cancelled.
        """
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            message = self._next(left)
            if message is None and time.monotonic() < until:
                self._end_of_input()
            if message is not None:
                self._serve_in_turn(message, deaf)

    def _serve_in_turn(self, message: Any, deaf: bool = False) -> None:
        match message:
            case {"method": "session/cancel"} if not deaf:
                log_entry("session/cancel")
                raise Cancelled
            case {"method": "session/prompt", "id": id}:
                self._send(id=id, error={"code": -32603, "message": "a turn is running"})
            case {"method": method, "id": id}:
                self._answer(id, method, message.get("params", {}))


def describe_image(media_type: str, data: bytes) -> str:
    """
    Return what the agent says about an image that it has got.
    """
    return f"{media_type}, {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}"


def _record() -> Path:
    default = Path(os.environ["HOME"], ".fakeacp")
    return Path(os.environ.get("FAKEACP_HOME", default)) / "prompts"


def earlier_prompts() -> int:
    """
    Return the number of prompts that this agent, or an earlier one, has recorded.
    """
    return _record().stat().st_size if _record().exists() else 0


def record_prompt() -> None:
    """
    Record a prompt for this agent and later ones.
    """
    _record().parent.mkdir(exist_ok=True)
    with _record().open("a") as record:
        record.write(".")


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
    if arguments:
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
