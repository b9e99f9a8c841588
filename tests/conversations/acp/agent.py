"""
Play the agent of an ACP conversation, as tests need it.

What the conversation writes, and what the tests let an agent write, is validated against the
schema of the protocol, with the package of its maintainers.
"""

from __future__ import annotations

import json
from typing import Any

from acp import schema
from pydantic import BaseModel

from kiroworkers.conversations import Dialect, Event, Ready, load_dialect, new_conversation

#: The schema's types for the messages that the conversation writes.
_WRITTEN: dict[str, type[BaseModel]] = {
    "initialize": schema.InitializeRequest,
    "session/new": schema.NewSessionRequest,
    "session/prompt": schema.PromptRequest,
    "session/cancel": schema.CancelNotification,
    "session/close": schema.CloseSessionRequest,
    "session/delete": schema.DeleteSessionRequest,
    "session/set_config_option": schema.SetSessionConfigOptionSelectRequest,
}
INITIALIZED = {"protocolVersion": 1, "agentCapabilities": {}, "authMethods": []}
CLOSES = {**INITIALIZED, "agentCapabilities": {"sessionCapabilities": {"close": {}}}}
OPTIONS = [
    {"optionId": "always", "name": "Always", "kind": "allow_always"},
    {"optionId": "yes", "name": "Yes", "kind": "allow_once"},
    {"optionId": "no", "name": "No", "kind": "reject_once"},
]
NEVER = {"optionId": "never", "name": "Never", "kind": "reject_always"}


def read(data: bytes) -> list[Any]:
    """
    Parse the messages that were written, and validate each against the protocol.
    """
    messages = [json.loads(line) for line in data.splitlines()]
    for message in messages:
        assert message["jsonrpc"] == "2.0", message
        if "method" in message:
            if message["method"] in _WRITTEN:
                _WRITTEN[message["method"]].model_validate(message["params"])
        elif "outcome" in message.get("result", {}):
            schema.RequestPermissionResponse.model_validate(message["result"])
    return messages


def config_option(id: str, value: str, *others: str) -> dict[str, Any]:
    """
    Return an option of a session that can have `value` or one of `others`.
    """
    options = [{"value": choice, "name": choice} for choice in (value, *others)]
    return {"type": "select", "id": id, "name": id, "currentValue": value, "options": options}


#: What Kiro says about its sessions, with its engines v2 and v3.
V2_SESSION = {
    "modes": {"currentModeId": "kiro_default", "availableModes": []},
    "models": {
        "currentModelId": "auto",
        "availableModels": [{"modelId": id, "name": id} for id in ("auto", "haiku")],
    },
}
V3_SESSION = {
    "modes": {"currentModeId": "vibe", "availableModes": []},
    "configOptions": [
        config_option("mode", "vibe", "spec"),
        config_option("autopilot", "on", "off"),
    ],
}


class Agent:
    """
    The agent of a conversation, played by the test.
    """

    def __init__(
        self,
        max_output: int = 1000,
        greeting: Any = INITIALIZED,
        dialect: str | Dialect = "acp",
        **choices: Any,
    ) -> None:
        self.conversation = new_conversation(
            load_dialect(dialect) if isinstance(dialect, str) else dialect,
            max_output,
            "/home/work",
            **choices,
        )
        [initialize] = read(self.conversation.data_to_send())
        assert initialize["method"] == "initialize", "the first request"
        self.last_id = initialize["id"]
        self.events = self.result(greeting)

    def started(self, **session: Any) -> Agent:
        """
        Complete the start, so that the conversation has a session.
        """
        [new] = self.data_to_send()
        assert new["method"] == "session/new", "the second request"
        assert new["params"] == {"cwd": "/home/work", "mcpServers": []}, new["params"]
        self.last_id = new["id"]
        assert self.session("s1", **session) == [Ready()], "the session is ready"
        return self

    @classmethod
    def v2(cls, max_output: int = 10_000, **choices: Any) -> Agent:
        """
        Return Kiro's engine v2 with a session.
        """
        return cls(max_output, dialect="kiro-acp", **choices).started(**V2_SESSION)

    @classmethod
    def v3(cls, max_output: int = 10_000, **choices: Any) -> Agent:
        """
        Return Kiro's engine v3, which was asked for its first session.
        """
        agent = cls(max_output, CLOSES, dialect="kiro-acp-v3", **choices)
        agent.next_request()
        agent.session("s1", **V3_SESSION)
        return agent

    def set_option(self, value: str | None = None) -> list[Event]:
        """
        Answer the request to set an option, which becomes `value`.
        """
        params = self.next_request()["params"]
        option = config_option(params["configId"], value or params["value"])
        return self.result({"configOptions": [option]})

    def data_to_send(self) -> list[Any]:
        return read(self.conversation.data_to_send())

    def say(self, **message: Any) -> list[Event]:
        return self.conversation.feed(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def result(self, result: Any) -> list[Event]:
        return self.say(id=self.last_id, result=result)

    def session(self, name: str, **more: Any) -> list[Event]:
        return self.result({"sessionId": name, **more})

    def error(self, code: int, message: str, data: Any = None) -> list[Event]:
        return self.say(id=self.last_id, error={"code": code, "message": message, "data": data})

    def update(self, session: str = "s1", **update: Any) -> list[Event]:
        params = {"sessionId": session, "update": update}
        schema.SessionNotification.model_validate(params)
        return self.say(method="session/update", params=params)

    def chunk(self, text: str, session: str = "s1") -> list[Event]:
        content = {"type": "text", "text": text}
        return self.update(session, sessionUpdate="agent_message_chunk", content=content)

    def stop(self, reason: str = "end_turn") -> list[Event]:
        return self.result({"stopReason": reason})

    def ask_permission(self, id: Any, options: Any = OPTIONS, session: str = "s1") -> list[Event]:
        call = {"toolCallId": "1", "title": "rm -rf"}
        params = {"sessionId": session, "toolCall": call, "options": options}
        return self.say(id=id, method="session/request_permission", params=params)

    # What is sent to the agent.

    def ask(self, prompt: str = "What?", model: str = "") -> Any:
        [message] = read(self.conversation.ask(prompt, model))
        self.last_id = message["id"]
        return message

    def clear(self) -> Any:
        """
        Begin a clear, and return the request that it waits for.
        """
        [message] = read(self.conversation.clear()) or self.data_to_send()
        self.last_id = message["id"]
        return message

    def next_request(self) -> Any:
        """
        Return the only request that has become due, whose response is next.
        """
        [message] = self.data_to_send()
        self.last_id = message["id"]
        return message

    # Kiro's own messages.

    def kiro(self, name: str, session: str | None = "s1", **params: Any) -> list[Event]:
        known = {} if session is None else {"sessionId": session}
        return self.say(method=f"_kiro{name}", params={**known, **params})

    def kiro_update(self, kind: str, session: str = "s1", **fields: Any) -> list[Event]:
        update = {"sessionUpdate": kind, **fields}
        return self.kiro(".dev/session/update", session, update=update)

    def info(self, kind: str, **fields: Any) -> list[Event]:
        update = {
            "sessionUpdate": "session_info_update",
            "_meta": {"kiro": {"kind": kind, **fields}},
        }
        return self.say(method="session/update", params={"sessionId": "s1", "update": update})

    def tool(self, update_kind: str = "", session: str = "s1", **fields: Any) -> list[Event]:
        update = {"sessionUpdate": f"tool_call{update_kind}", "toolCallId": "1", **fields}
        return self.say(method="session/update", params={"sessionId": session, "update": update})
