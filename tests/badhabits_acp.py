"""
A stand-in over the Agent Client Protocol that asks a model server, with bad habits.

See `tests.badhabits` for the habits.
"""

from __future__ import annotations

import json
import os
import random
import select
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.badhabits import Agent, Conversation, ModelError, agent_from, cut
from tests.fakeacp import Cancelled, FakeAcp
from tests.fakekiro import faults_in

#: How many characters the habit `late` holds back.
_TAIL = 20


class BadAcp(FakeAcp):
    """
    Act as an agent that asks a model server.
    """

    def __init__(self, agent: Agent) -> None:
        super().__init__({})
        self._agent = agent
        self._chance = random.Random(1)
        self._conversations: dict[str, Conversation] = {}
        self._at_end = False

    def _read(self) -> Iterator[Any]:
        while not self._at_end:
            *lines, self._rest = self._rest.split(b"\n")
            yield from map(json.loads, lines)
            if select.select([0], [], [], 0)[0]:
                data = os.read(0, 65536)
                self._rest += data
                self._at_end = not data
            else:
                yield None

    def _put(self, data: bytes) -> None:
        for piece in cut(data, self._chance):
            super()._put(piece)

    def _new_session(self, id: Any, params: Mapping[str, Any]) -> None:
        conversation = self._agent.begin(params["cwd"])
        self._conversations[conversation.id] = conversation
        self._send(id=id, result={"sessionId": conversation.id})

    def _turn(self, id: Any, session: str, text: str) -> None:
        conversation = self._conversations[session]
        late = self._agent.habits.get("late")
        stale = self._agent.last_answer if "stale" in self._agent.habits else ""
        self._begin_turn(session, text, {})
        conversation.messages.append({"role": "user", "content": text})
        try:
            answer = self._agent.shown(self._converse(session, conversation))
        except Cancelled:
            conversation.messages.append({"role": "assistant", "content": "(cancelled)"})
            self._send(id=id, result={"stopReason": "cancelled"})
            return
        except ModelError as error:
            self._send(id=id, error={"code": -32603, "message": str(error)})
            return
        kept = answer[-_TAIL:] if late is not None else ""
        self._stream(session, answer.removesuffix(kept) + stale, {})
        self._agent.end_turn(conversation, text, answer)
        self._send(id=id, result={"stopReason": "end_turn"})
        if kept:
            self._later(float(late or "0"), lambda: self._chunk(session, kept))
        self._agent.title(text)

    def _converse(self, session: str, conversation: Conversation) -> str:
        """
        Return the model's answer, after the tools that it calls.
        """
        while True:
            request = self._agent.ask(conversation)
            sources: list[Any] = [0, request]
            text = ""
            try:
                while not request.ended:
                    self._serve_all()
                    ready, _, _ = select.select(sources, [], [])
                    if request in ready:
                        text += request.read()
            finally:
                request.close()
            said = {"role": "assistant", "content": text}
            if request.call is None:
                conversation.messages.append(said)
                self._agent.run_blocks(text)
                return text
            result = self._agent.use_tool(
                request.call,
                lambda title: self._permit(session, title),
                lambda title: self._announce(session, title),
            )
            conversation.messages += [said, {"role": "tool", "content": result}]

    def _serve_all(self) -> None:
        while (message := self._next(0)) is not None:
            self._serve_in_turn(message)
        if self._at_end:
            self._end_of_input()

    def _fields(self, title: str) -> dict[str, Any]:
        self._numbers += 1
        path = str(Path.cwd() / title.rpartition(" ")[2])
        return {
            "toolCallId": f"call-{self._numbers}",
            "title": title,
            "kind": "edit",
            "locations": [{"path": path}],
        }

    def _permit(self, session: str, title: str) -> bool:
        call = self._fields(title)
        self._update(session, sessionUpdate="tool_call", status="pending", **call)
        options = [
            {"optionId": kind, "name": kind, "kind": kind}
            for kind in ("allow_always", "allow_once", "reject_once")
        ]
        params = {"sessionId": session, "toolCall": call, "options": options}
        outcome = self._ask("session/request_permission", params)["result"]["outcome"]
        allowed: bool = outcome.get("optionId") == "allow_once"
        if "insist" not in self._agent.habits:
            status = "completed" if allowed else "failed"
            done = {"toolCallId": call["toolCallId"], "status": status}
            self._update(session, sessionUpdate="tool_call_update", **done)
        return allowed

    def _announce(self, session: str, title: str) -> None:
        call = self._fields(title)
        self._update(session, sessionUpdate="tool_call", status="pending", **call)
        done = {"toolCallId": call["toolCallId"], "status": "completed"}
        self._update(session, sessionUpdate="tool_call_update", **done)


def main() -> int:
    """
    Act as the agent, and return the exit status.
    """
    if sys.argv[1:] == ["--version"]:
        print("badhabits-acp 1.0")
        return 0
    return BadAcp(agent_from(os.environ, faults_in(os.environ.get("BADHABITS", "")))).run()


if __name__ == "__main__":
    sys.exit(main())
