"""
Act as engine v3 of ``kiro-cli acp``, the one on Node.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tests.fakeacp import Ended, log_entry
from tests.kiro_acp.engine import MODELS, KiroEngine, Options

if TYPE_CHECKING:
    from tests.kiro_acp.failures import Failure

_AUTH_METHODS = [
    {"id": "aws-builder-id", "name": "AWS Builder ID"},
    {"id": "aws-iam-identity-center", "name": "AWS IAM Identity Center"},
]
_PERMISSIONS = [
    {"optionId": "accept", "name": "Allow", "kind": "allow_once"},
    {"optionId": "always-accept", "name": "Always allow", "kind": "allow_always"},
    {"optionId": "reject", "name": "Deny", "kind": "reject_once"},
    {"optionId": "always-reject", "name": "Always deny", "kind": "reject_always"},
]


class EngineV3(KiroEngine):
    """
    Act as the engine, with the faults of the whole session.
    """

    exits_at_end = False

    def __init__(self, faults: Mapping[str, str], options: Options) -> None:
        super().__init__(faults, options)
        self._requests = 0
        self._has_token = options.keeps_token
        #: The sessions in which tools run without a permission.
        self._on_autopilot: set[str] = set()
        self._modes: dict[str, list[str]] = {}
        self._replay_id = ""
        print("[INFO] the agent's server has started", file=sys.stderr, flush=True)

    # Notifications.

    def _tell(self, method: str, session: str = "", **params: Any) -> None:
        named = {"sessionId": session} if session else {}
        self._send(method=f"_kiro/{method}", params={**named, **params})

    def _info(self, session: str, kind: str, **meta: Any) -> None:
        self._update(
            session,
            sessionUpdate="session_info_update",
            _meta={"kiro": {**meta, "kind": kind}},
        )

    def _context_usage(self, session: str) -> None:
        percent = self._context(session)
        usage = {"usagePercentage": percent}
        self._info(session, "context_usage", contextUsage=usage, usagePercentage=percent)

    def _chunk(self, session: str, text: str) -> None:
        self._update(
            session,
            sessionUpdate="agent_message_chunk",
            content={"type": "text", "text": text},
            _meta={"kiro": {"replayId": self._replay_id}},
        )

    # Requests.

    def _request_id(self) -> Any:
        # Small numbers, which are also those of the client.
        id, self._requests = self._requests, self._requests + 1
        return id

    def _answer(self, id: Any, method: str, params: Mapping[str, Any]) -> None:
        session = params.get("sessionId", "")
        match method, params:
            case "initialize", _:
                log_entry(method)
                self._initialize(id)
            case "session/new", _:
                super()._answer(id, method, params)
            case "session/set_config_option", {"configId": str(name), "value": str(value)}:
                self._log_request(method, f"{name}={value}")
                self._set_option(session, name, value)
                self._send(id=id, result={"configOptions": self._config(session)})
            case "session/set_model", _:
                log_entry(method)
                details = 'Ext method "session/set_model" has no persistence classification.'
                error = {"code": -32603, "message": "Internal error", "data": {"details": details}}
                self._send(error=error, id=id)
            case (("session/close" | "session/delete"), _) if self._options.version >= (2, 26):
                log_entry(method)
                self._forget_session(session, delete=method == "session/delete")
                self._on_autopilot.discard(session)
                self._modes.pop(session, None)
                self._send(id=id, result={})
            case _:
                log_entry(method)
                error = {"code": -32601, "message": f'"Method not found": {method}'}
                self._send(error=error, id=id)

    def _initialize(self, id: Any) -> None:
        if not self._has_token:
            answer = self._ask("_kiro/auth/getAccessToken", {})
            self._has_token = "result" in answer
        sessions: dict[str, Any] = {"list": {}, "fork": {"_meta": {"kiro": {"messageId": True}}}}
        if self._options.version >= (2, 26):
            sessions |= {"close": {}, "delete": {}}
        self._send(
            id=id,
            result={
                "protocolVersion": int(self._faults.get("version", "1")),
                "agentCapabilities": {
                    "loadSession": True,
                    "promptCapabilities": {"image": True, "embeddedContext": True},
                    "mcpCapabilities": {"http": True, "sse": True},
                    "sessionCapabilities": sessions,
                    "_meta": {"kiro": {"extensionMethods": ["_kiro/session/compact"]}},
                },
                "authMethods": _AUTH_METHODS,
            },
        )

    def _new_session(self, id: Any, params: Mapping[str, Any]) -> None:
        clear = self._faults.get("clear", "") if self._sessions else ""
        self._sessions += 1
        session = f"sess_{self._uuid()}"
        if clear == "refused":
            self._send(error={"code": -32603, "message": "Internal error"}, id=id)
        elif clear != "none":
            seconds = float(self._faults.get("new", "0.01"))
            modes = ["vibe", "spec", *_custom_agents(params)]
            self._later(seconds, lambda: self._session_made(id, session, modes))

    def _session_made(self, id: Any, session: str, modes: list[str]) -> None:
        self._open_session(session)
        self._on_autopilot.add(session)
        self._modes[session] = modes
        features = {"mcpEnabled": True, "webToolsEnabled": True}
        self._tell("governance/state", session, isEnterprise=False, features=features)
        self._tell("mcp/status", session, servers=[{"name": "tickets", "status": "connected"}])
        self._tell("sessions/changed", upserted=[{"sessionId": session}], deleted=[])
        # The models come later.
        options = [option for option in self._config(session) if option["id"] != "model"]
        self._send(
            id=id,
            result={
                "_meta": {"schemaVersion": "1.0.0", "id": session, "agentMode": "vibe"},
                "sessionId": session,
                "modes": {
                    "currentModeId": "vibe",
                    "availableModes": [{"id": "vibe", "name": "Default"}],
                },
                "configOptions": options,
            },
        )
        self._later(0.02, lambda: self._notify_started(session))

    def _notify_started(self, session: str) -> None:
        self._update(session, sessionUpdate="available_commands_update", availableCommands=[])
        self._context_usage(session)
        if session in self._models:
            config = self._config(session)
            self._update(session, sessionUpdate="config_option_update", configOptions=config)
        self._tell("progressive_context/items_changed", session, status="success", items=[])

    def _config(self, session: str) -> list[dict[str, Any]]:
        """
        Return the options of a session, as the protocol shows them.
        """

        def select(id: str, current: str, *values: str) -> dict[str, Any]:
            options = [{"value": value, "name": value.title()} for value in values]
            return {
                "type": "select",
                "id": id,
                "name": id.title(),
                "currentValue": current,
                "options": options,
            }

        modes = self._modes.get(session, ["vibe"])
        autopilot = "on" if session in self._on_autopilot else "off"
        return [
            select("mode", modes[0], *sorted(modes)),
            select("model", self._models.get(session, MODELS[0]), *MODELS),
            select("autopilot", autopilot, "on", "off"),
        ]

    def _set_option(self, session: str, name: str, value: str) -> None:
        match name, value:
            case "model", _:
                self._models[session] = value
            case "autopilot", "off":
                self._on_autopilot.discard(session)
            case "autopilot", "on":
                self._on_autopilot.add(session)
            case "mode", _ if value in self._modes[session]:
                self._modes[session].remove(value)
                self._modes[session].insert(0, value)
            case "mode", _:
                self._tell(
                    "customAgent/not_found", session, requestedAgent=value, fallbackAgent="vibe"
                )

    # Turns.

    def _begin_turn(self, session: str, text: str, faults: Mapping[str, str]) -> None:
        super()._begin_turn(session, text, faults)
        self._replay_id = f"{self._uuid()}-say"
        self._info(session, "user_message_id_assigned", userMessageId=self._uuid())
        self._info(session, "focus_update", focus={"title": text[:20]}, title=text[:20])
        self._tell("sessions/changed", upserted=[{"sessionId": session}], deleted=[])
        self._info(session, "turn_start", turnStart=True, messageId=f"{self._uuid()}-turn-start")
        if "thought" in faults:
            thought = {"type": "text", "text": "No part of {the} answer."}
            self._update(session, sessionUpdate="agent_thought_chunk", content=thought)

    def _error(self, session: str, faults: Mapping[str, str]) -> dict[str, Any] | None:
        if session not in self._models:
            words = f"Session '{session}' not found"
            return self._error_of({"code": -32000, "message": words})
        if not self._has_token:
            words = "[TokenExpiredError] The access token has expired"
            data = {"errorType": "TokenExpiredError"}
            return self._error_of({"code": -32000, "message": words, "data": data})
        for number in range(int(faults.get("stall", "0"))):
            words = "was interrupted. Retrying…" if number % 2 else "paused unexpectedly."
            self._tell("system/notify", level="warning", message=f"The model response {words}")
        if "compact" in faults:
            self._info(session, "summarization_started")
            self._info(session, "summarization_completed")
        if "display" in faults:
            self._info(
                session,
                "display_error",
                message="MCP server 'wiki' could not be reached",
                errorType="mcp_connection_error",
            )
        if "error" in faults:
            return self._error_of(_failure(faults["error"]).error)
        return super()._error(session, faults)

    def _answer_text(self, session: str, text: str, faults: Mapping[str, str]) -> str:
        answer = super()._answer_text(session, text, faults)
        if "question" in faults:
            self._question(session)
        if "again" in faults:
            for piece in self._pieces(answer[: len(answer) // 2]):
                self._chunk(session, piece)
            self._tell("system/notify", level="warning", message="Retrying…")
        return answer

    def _end_turn(
        self, id: Any, session: str, result: Mapping[str, Any], faults: Mapping[str, str]
    ) -> None:
        error = result.get("error")
        reason = "error" if error is not None else result["result"]["stopReason"]
        status = {"error": "failed", "cancelled": "aborted"}.get(reason, "success")
        if error is not None:
            words = error["message"]
            self._info(session, "display_error", message=words, errorType="Error")
        summaries = [
            {"unit": "credit", "unitPlural": "credits", "usage": usage}
            for usage in (self._credits(faults) if status == "success" else ())
        ]
        self._context_usage(session)
        self._info(
            session,
            "turn_completion",
            promptTurnSummaries=summaries,
            elapsedTime=2518,
            status=status,
        )
        self._tell("sessions/changed", upserted=[{"sessionId": session}], deleted=[])
        self._info(session, "turn_end", turnEnd={"stopReason": reason}, stopReason=reason)
        if "more" in faults:
            self._wait(0.02)
            self._chunk(session, "\n\nThat is all.")
        self._send(id=id, **result)
        self._context_usage(session)
        if "wake" in faults:
            self._later(0.02, lambda: self._wake(session))

    def _wake(self, session: str) -> None:
        """
        Act a turn that nobody asked for.
        """
        self._info(session, "turn_start", turnStart=True)
        content = {"type": "text", "text": '```json\n{"title": "nobody asked"}\n```'}
        meta = {"agentInitiated": True, "agentInitiatedReason": "workflow-complete-wake"}
        self._update(
            session, sessionUpdate="agent_message_chunk", content=content, _meta={"kiro": meta}
        )
        self._info(session, "turn_end", stopReason="end_turn")

    # Tools.

    def _run_tool(self, session: str, kind: str, outside: bool) -> None:
        self._chunk(session, "Let me see. ")
        call = self._tool_call(kind, outside)
        self._update(session, sessionUpdate="tool_call", status="pending", **call)
        self._complete_tool(session, call)

    def _complete_tool(self, session: str, call: Mapping[str, Any]) -> None:
        common = {"sessionUpdate": "tool_call_update", "toolCallId": call["toolCallId"]}
        meta = {"_meta": {"kiro": {"toolOrigin": "default"}}}
        given = {"rawInput": call["rawInput"], **meta}
        self._update(session, **common, status="in_progress", **given)
        self._update(session, **common, status="in_progress", **given)
        self._update(session, **common, status="completed", title=call["title"], **given)

    def _approval(self, session: str, faults: Mapping[str, str]) -> str:
        call = self._tool_call("execute")
        self._update(session, sessionUpdate="tool_call", status="pending", **call)
        if session in self._on_autopilot:
            self._complete_tool(session, call)
            return "Tool not asked for.\n"
        title = self._faults.get("title", "date")
        pending = {"toolCallId": call["toolCallId"], "status": "pending", "title": title}
        options = [
            option
            for option in _PERMISSIONS
            if "options" not in faults or option["kind"] in faults["options"].split(",")
        ]
        params = {
            "sessionId": session,
            "toolCall": pending,
            "options": options,
            "_meta": {"kiro": {"toolId": "run_command", "command": title}},
        }
        self._info(session, "pending_interaction", question=title)
        if "twice" in faults:
            self._send_request("session/request_permission", params)
        outcome = self._ask("session/request_permission", params)["result"]["outcome"]
        chosen = str(outcome.get("optionId", outcome["outcome"]))
        self._info(session, "interaction_resolved", outcome=outcome["outcome"])
        if "accept" in chosen:
            self._complete_tool(session, call)
            return f"Tool allowed: {chosen}.\n"
        if chosen == "cancelled":
            raise Ended(result={"stopReason": "refusal"})
        failed = {"toolCallId": call["toolCallId"], "status": "failed"}
        self._update(session, sessionUpdate="tool_call_update", **failed)
        return f"Tool denied: {chosen}.\n"

    def _question(self, session: str) -> None:
        """
        Ask the user a question whose answers are all of the kind allow_once.
        """
        id = f"tooluse_{self._rng.getrandbits(64):x}"
        names = ("Build a Feature", "Fix a Bug", "Quick Spec")
        options = [
            {"optionId": f"{id}-option-{number}", "name": name, "kind": "allow_once"}
            for number, name in enumerate(names)
        ]
        title = "**Is this a new feature or a bugfix?**"
        call = {"toolCallId": id, "title": title, "status": "pending"}
        params = {"sessionId": session, "toolCall": call, "options": options}
        outcome = self._ask("session/request_permission", params)["result"]["outcome"]
        log_entry(f"question {outcome.get('optionId', outcome['outcome'])}")
        if outcome["outcome"] == "cancelled":
            raise Ended(result={"stopReason": "refusal"})


def _custom_agents(params: Mapping[str, Any]) -> list[str]:
    """
    Return the agents that the client defines; none if one of them is not as it should be.
    """
    match params:
        case {"_meta": {"kiro": {"customAgents": [*agents]}}}:
            names = [agent["id"] for agent in agents if {"id", "prompt"} <= agent.keys()]
            return names if len(names) == len(agents) else []
    return []


def _failure(name: str) -> Failure:
    """
    Return the failure of that name.
    """
    # A stand-in starts hundreds of times, and few of them fail.
    from tests.kiro_acp.failures import V3

    return V3[name]
