"""
Act as engine v2 of ``kiro-cli acp``, the Rust one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tests.fakeacp import Ended, log_entry
from tests.kiro_acp.engine import INTERRUPTED, MODELS, KiroEngine

if TYPE_CHECKING:
    from tests.kiro_acp.failures import Failure

_BARE = {"code": -32603, "message": "Internal error"}

#: What the permission to use a tool offers: the identifier of each option is its kind.
_NAMES = {"allow_once": "Yes", "allow_always": "Always", "reject_once": "No"}


class EngineV2(KiroEngine):
    """
    Act as the engine, with the faults of the whole session.
    """

    # Notifications.

    def _tell(self, method: str, session: str = "", **params: Any) -> None:
        """
        Send a notification of Kiro's own.
        """
        named = {"sessionId": session} if session else {}
        self._send(method=f"_kiro.dev/{method}", params={**named, **params})

    def _own_update(self, session: str, name: str, **update: Any) -> None:
        self._tell("session/update", session, update={"sessionUpdate": name, **update})

    def _metadata(self, session: str, **more: Any) -> None:
        self._tell("metadata", session, contextUsagePercentage=self._context(session), **more)

    def _notify_started(self, session: str) -> None:
        commands = [{"name": "/clear", "description": "Clear conversation history"}]
        self._tell(
            "commands/available", session, commands=commands, prompts=[], tools=[], mcpServers=[]
        )
        self._metadata(session)
        self._tell("mcp/server_init_failure", session, serverName="wiki", error="no such file")

    # Requests.

    def _answer(self, id: Any, method: str, params: Mapping[str, Any]) -> None:
        session = params.get("sessionId", "")
        match method, params:
            case "initialize", _:
                log_entry(method)
                self._initialize(id, params)
            case "session/set_model", {"modelId": model}:
                self._log_request(method, model)
                self._models[session] = model
                self._metadata(session)
                self._send(id=id, result={})
            case "_kiro.dev/commands/execute", {"command": {"command": "clear"}}:
                self._log_request(method, "clear")
                self._clear(id, session)
            case "_kiro.dev/commands/execute", {"command": str()}:
                sys.exit(0)
            case "_kiro.dev/session/terminate", _:
                log_entry(method)
                self._forget_session(session)
                self._send(id=id, result={})
                self._tell("subagent/list_update", subagents=[], pendingStages=[])
            case "session/new", _:
                super()._answer(id, method, params)
            case _:
                log_entry(method)
                error = {"code": -32601, "message": "Method not found", "data": {"method": method}}
                self._send(id=id, error=error)

    def _initialize(self, id: Any, params: Mapping[str, Any]) -> None:
        match params:
            case {"clientInfo": dict(), "clientCapabilities": {"terminal": bool()}}:
                pass
            case _ if self._options.version >= (2, 21, 2):
                return  # It never answers then.
        version = ".".join(map(str, self._options.version))
        auth: dict[str, Any] = {"auth": {}} if self._options.version >= (2, 8) else {}
        self._send(
            result={
                "protocolVersion": int(self._faults.get("version", "1")),
                "agentCapabilities": {
                    "loadSession": True,
                    "promptCapabilities": {
                        "image": True,
                        "audio": False,
                        "embeddedContext": False,
                    },
                    "mcpCapabilities": {"http": True, "sse": False},
                    "sessionCapabilities": {},
                    **auth,
                },
                "authMethods": [],
                "agentInfo": {
                    "name": "Kiro CLI Agent",
                    "title": "Kiro CLI Agent",
                    "version": version,
                },
            },
            id=id,
        )

    def _new_session(self, id: Any, params: Mapping[str, Any]) -> None:
        clear = self._faults.get("clear", "") if self._sessions else ""
        self._sessions += 1
        session = self._uuid()
        self._tell("mcp/server_initialized", session, serverName="tickets")
        match clear:
            case "refused":
                error = {**_BARE, "data": "too many sessions"}
                self._send(error=error, id=id)
            case "none":
                pass
            case _:
                seconds = float(self._faults.get("new", "0.01"))
                self._later(seconds, lambda: self._session_made(id, session))

    def _session_made(self, id: Any, session: str) -> None:
        self._open_session(session)
        mode = self._mode(session)
        self._tell("subagent/list_update", subagents=[], pendingStages=[])
        self._send(
            result={
                "sessionId": session,
                "modes": {
                    "currentModeId": mode,
                    "availableModes": [
                        {"id": name, "name": name, "description": "An agent"}
                        for name in dict.fromkeys((mode, "kiro_default", "kiro_planner"))
                    ],
                },
                "models": {
                    "currentModelId": self._models[session],
                    "availableModels": [
                        {"modelId": model, "name": model, "description": "A model"}
                        for model in MODELS
                    ],
                },
            },
            id=id,
        )
        self._later(0.001, lambda: self._notify_started(session))

    def _mode(self, session: str) -> str:
        """
        Return the agent that runs, which is Kiro's own if the wanted one is not found.
        """
        wanted = self._options.agent
        if not wanted or wanted == "kiro_default":
            return "kiro_default"
        home = os.environ.get("KIRO_HOME", "")
        if os.path.exists(os.path.join(home, "agents", f"{wanted}.json")):
            return wanted
        fallback = "kiro_default"
        self._tell("agent/not_found", session, requestedAgent=wanted, fallbackAgent=fallback)
        return fallback

    def _clear(self, id: Any, session: str) -> None:
        how = self._faults.get("clear", "")
        if how == "none":
            return
        if how == "refused":
            self._send(result={"message": "Cannot clear now", "success": False}, id=id)
            return
        if how == "unproven":
            self._send(result={"message": "", "success": True}, id=id)
            return
        if how == "early":
            self._tell("clear/status", session)
        self._send(result={"message": "Conversation cleared", "success": True}, id=id)
        self._metadata(session)
        self._prompts[session] = 0
        self._images.pop(session, None)
        self._remember_nothing(session)
        self._metadata(session)
        if how != "early":
            seconds = 0.05 if how == "late" else 0
            self._later(seconds, lambda: self._tell("clear/status", session))

    def _remember_nothing(self, session: str) -> None:
        folder = self._session_files()
        if folder is not None:
            (folder / f"{session}.jsonl").write_text("")

    # Turns.

    def _error(self, session: str, faults: Mapping[str, str]) -> dict[str, Any] | None:
        if session not in self._models:
            return self._error_of({**_BARE, "data": "Session not found"})
        self._report(session, faults)
        if "error" in faults:
            return self._error_of(_failure(faults["error"]).error)
        if "bare" in faults:
            if faults["bare"]:
                words = _failure(faults["bare"]).words
                self._tell("error/rate_limit", session, message=words)
            return self._error_of(_BARE)
        if faults.get("fallback") == "none":
            failure = _failure("model-selected")
            self._tell("error/rate_limit", session, message=failure.words)
            return self._error_of(failure.error)
        if self._models[session] not in MODELS:
            words = f"The model '{self._models[session]}' is not available"
            return self._error_of({**_BARE, "data": words})
        if "filtered" in faults:
            refusal = {"category": "CYBER", "explanation": "no"}
            self._chunk(session, "I can't help with that.")
            self._tell("metadata", session, stopReason="CONTENT_FILTERED", refusal=refusal)
            if faults["filtered"] == "error":
                return self._error_of(_BARE)
            return {"result": {"stopReason": "end_turn"}}
        return super()._error(session, faults)

    def _report(self, session: str, faults: Mapping[str, str]) -> None:
        """
        Send the notifications that come before an answer, or instead of one.
        """
        if "compact" in faults:
            self._compact(session, faults)
        for number in range(int(faults.get("stall", "0"))):
            said = "Response timed out - retrying" if number % 2 else "Still working, model is …"
            self._own_update(session, "stream_stall_notice", message=said)
        for number in range(int(faults.get("retry", "0"))):
            self._own_update(
                session,
                "retry_warning",
                attempt=number + 2,
                maxAttempts=9,
                delaySecs=3.0,
                message=f"Retrying in 3s (attempt {number + 2}/9)",
            )
        if "fallback" in faults:
            none = faults["fallback"] == "none"
            self._own_update(
                session,
                "model_fallback",
                **{"from": "claude-sonnet-5", "to": None if none else "claude-haiku-4.5"},
                cause="unavailable",
                source=None if none else "user",
                promoted=False,
            )
        if "oauth" in faults:
            url = "https://auth.example.com/authorize?client_id=x"
            self._tell("mcp/oauth_request", session, serverName="tickets", oauthUrl=url)
            self._stay_silent(faults)
        if "discard" in faults:
            self._draft(session)
        if "subagent" in faults:
            self._run_tool(self._uuid(), faults["subagent"], "outside" in faults)
        if "interrupted" in faults:
            call = self._tool_call("execute")
            self._announce_tool(session, call)
            self._update(session, sessionUpdate="tool_call", **call)
            self._chunk(session, INTERRUPTED)
            self._stay_silent(faults)

    def _compact(self, session: str, faults: Mapping[str, str]) -> None:
        def status(kind: str, **more: Any) -> None:
            self._tell("compaction/status", session, status={"type": kind, **more})

        status("started")
        match faults["compact"]:
            case "failed":
                status("failed", error="Your conversation is too large to continue")
                self._stay_silent(faults)
            case "silent":
                status("failed")
                self._stay_silent(faults)
            case "throttled":
                status("failed", error=_failure("throttled").words)
                self._stay_silent(faults)
            case "dropped":
                status("unsummarized_dropped")
            case _:
                status("completed")

    def _draft(self, session: str) -> None:
        """
        Send most of another answer, and take it back.
        """
        for piece in self._pieces('```json\n{"title": "a draft", "asA": "draft", "iWant": "dr'):
            self._chunk(session, piece)
        said = "Response timed out - discarding the stalled response and retrying"
        self._own_update(session, "stream_stall_notice", message=said)
        self._own_update(self._uuid(), "stream_discarded")
        self._own_update(session, "stream_discarded")

    def _end_turn(
        self, id: Any, session: str, result: Mapping[str, Any], faults: Mapping[str, str]
    ) -> None:
        duration = {"turnDurationMs": 1276}
        if result.get("result", {}).get("stopReason") in ("cancelled", None):
            self._send(**result, id=id)
            self._tell("metadata", session, **duration)
            return
        used = [
            {"value": value, "unit": "credit", "unitPlural": "credits"}
            for value in self._credits(faults)
        ]
        self._metadata(session)
        self._metadata(session, meteringUsage=used, **duration)
        self._send(**result, id=id)

    def _speak_for_others(self) -> None:
        super()._speak_for_others()
        other = self._uuid()
        self._chunk(other, "not for you, either")
        self._chunk(other, INTERRUPTED)
        self._metadata(other, meteringUsage=[{"value": 7, "unit": "credit"}])
        self._tell("error/rate_limit", other, message=_failure("monthly").words)
        self._own_update(other, "stream_discarded")
        self._tell("compaction/status", other, status={"type": "failed"})

    # Tools.

    def _request_id(self) -> Any:
        return self._uuid()

    def _tool_call(self, kind: str, outside: bool = False) -> dict[str, Any]:
        call = super()._tool_call(kind, outside)
        return {**call, "toolCallId": f"tooluse_{self._rng.getrandbits(64):x}"}

    def _announce_tool(self, session: str, call: Mapping[str, Any]) -> None:
        self._own_update(
            session,
            "tool_call_chunk",
            toolCallId=call["toolCallId"],
            title=call["kind"],
            kind=call["kind"],
        )
        self._metadata(session)

    def _run_tool(self, session: str, kind: str, outside: bool) -> None:
        self._chunk(session, "Let me see. ")
        call = self._tool_call(kind, outside)
        self._announce_tool(session, call)
        self._update(session, sessionUpdate="tool_call", **call)
        self._complete_tool(session, call)

    def _complete_tool(self, session: str, call: Mapping[str, Any]) -> None:
        text = {"type": "content", "content": {"type": "text", "text": "done\n"}}
        id, title, kind = call["toolCallId"], call["title"], call["kind"]
        self._update(session, sessionUpdate="tool_call_update", toolCallId=id, content=[text])
        self._update(
            session,
            sessionUpdate="tool_call_update",
            toolCallId=id,
            kind=kind,
            status="completed",
            title=title,
            rawOutput={"items": [{"Text": "done"}]},
        )

    def _approval(self, session: str, faults: Mapping[str, str]) -> str:
        call = self._tool_call("execute")
        call["title"] = self._faults.get("title", "Running: date")
        self._announce_tool(session, call)
        self._update(session, sessionUpdate="tool_call", **call)
        if self._options.trusts:
            self._complete_tool(session, call)
            return "Tool trusted.\n"
        kinds = faults.get("options", "allow_once,allow_always,reject_once").split(",")
        options = [
            {"optionId": kind, "name": _NAMES.get(kind, kind), "kind": kind}
            for kind in kinds
            if kind
        ]
        params = {
            "sessionId": session,
            "toolCall": {"toolCallId": call["toolCallId"], "title": call["title"]},
            "options": options,
            "_meta": {"trustOptions": [{"label": "Full command", "display": "date"}]},
        }
        if "twice" in faults:
            self._send_request("session/request_permission", params)
        outcome = self._ask("session/request_permission", params)["result"]["outcome"]
        chosen = str(outcome.get("optionId", outcome["outcome"]))
        if chosen.startswith("allow"):
            self._complete_tool(session, call)
            return f"Tool allowed: {chosen}.\n"
        if chosen == "cancelled":
            raise Ended(result={"stopReason": "refusal"})
        denied = {"type": "text", "text": "User denied tool execution"}
        self._update(
            session,
            sessionUpdate="tool_call_update",
            toolCallId=call["toolCallId"],
            kind="execute",
            status="failed",
            title=call["title"],
            content=[{"type": "content", "content": denied}],
        )
        return f"Tool denied: {chosen}.\n"


def _failure(name: str) -> Failure:
    """
    Return the failure of that name.
    """
    # A stand-in starts hundreds of times, and few of them fail.
    from tests.kiro_acp.failures import V2

    return V2[name]
