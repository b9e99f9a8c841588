"""
Give examples of the JSON that the server sends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kiroworkers.web.openapi.anthropic import ANTHROPIC_EXAMPLES
from kiroworkers.web.openapi.mcp import MCP_EXAMPLES
from kiroworkers.web.openapi.model_responses import RESPONSE_EXAMPLES

_NOW = 1_795_990_777_169

_REQUEST_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
_JOB_ID = "aU85oSNZMiIuZRsGCP8KLA"
_APPROVAL_ID = "pZ4n0Vd3GmYt"

_QUEUE = {"length": 0, "limit": 32}
_POOL = {"state": "serving", "detail": None, "workers": 2, "maxWorkers": 2}
_STORAGE = {"state": "ok", "reason": None, "since": None}

_AGENT: dict[str, Any] = {
    "agentDetail": "Kiro CLI (found kiro-cli)",
    "transport": "acp",
    "proof": {"level": "exact", "date": "2026-11-29", "source": "package", "failed": []},
    "canary": None,
    "pool": _POOL,
    "queue": _QUEUE,
}
_AGENTS = {"agent": "kiro", **_AGENT, "agents": {"kiro": _AGENT}}

_WORKER: dict[str, Any] = {
    "agent": "kiro",
    "pid": 4711,
    "busy": False,
    "status": "idle",
    "state": "idle",
    "healthy": True,
    "lastActivity": _NOW - 64_243,
    "idleTime": 64_243,
    "age": 88_974,
    "answered": 1,
    "starts": 1,
    "consecutiveFailures": 0,
    "lastError": None,
    "lastScreen": None,
    "nextStart": None,
}

_JOB: dict[str, Any] = {
    "id": _JOB_ID,
    "task": "generate-story",
    "agent": "kiro",
    "state": "done",
    "location": f"/jobs/{_JOB_ID}",
    "created": _NOW - 9_000,
    "ended": _NOW - 2_000,
    "attempts": 1,
    "model": None,
    "requestId": _REQUEST_ID,
}

_HISTORY_ENTRY: dict[str, Any] = {
    "id": _REQUEST_ID,
    "client": "frontend",
    "task": "generate-story",
    "agent": "kiro",
    "worker": "worker1",
    "job": None,
    "state": "ended",
    "outcome": "answered",
    "status": 200,
    "code": None,
    "received": _NOW - 9_000,
    "ended": _NOW - 2_000,
    "wait": 0.0,
    "turn": 6.9,
    "firstOutput": 1.2,
    "total": 7.0,
    "attempts": 1,
    "repairs": 0,
}

_MODEL = {"id": "default", "object": "model", "created": 1_795_990_688, "owned_by": "kiroworkers"}

#: An example of each schema that is the body of a response, by the name of the schema.
EXAMPLES: Mapping[str, Any] = {
    "Health": {
        "status": "running",
        "timestamp": _NOW,
        "version": "1.0.0",
        "server": "box1-8080",
        **_AGENTS,
        "storage": _STORAGE,
        "workers": {"worker1": _WORKER},
    },
    "Cluster": {
        "server": "box1-8080",
        "timestamp": _NOW,
        "database": _STORAGE,
        "jobs": {"queued": 3, "oldest": 4_200},
        "servers": [
            {
                "name": "box1-8080",
                "version": "1.0.0",
                "address": "10.0.0.11:8080",
                "account": None,
                "state": "serving",
                "agents": {
                    "kiro": {"state": "serving", "workers": 2, "ready": 2, "idle": 1, "queue": 0}
                },
                "jobs": 1,
                "started": _NOW - 3_600_000,
                "seen": _NOW,
                "silence": 0,
            }
        ],
    },
    "Readiness": {
        "ready": True,
        "workers": ["worker1", "worker2"],
        "agents": {"kiro": {"ready": True, "workers": ["worker1", "worker2"]}},
        "storage": _STORAGE,
    },
    "Session": {
        "needsToken": True,
        "signedIn": True,
        "name": "admin",
        "scopes": ["ask", "operate"],
        "operator": True,
    },
    "Catalogue": {
        "tasks": [
            {
                "name": "summarize",
                "title": "Summarize a text",
                "description": "Summarizes a text in one sentence.",
                "method": "POST",
                "path": "/kiro/summarize",
                "agent": None,
                "model": None,
                "limits": {"timeout": None, "prompt": None},
                "input": {"type": "object", "properties": {"text": {"type": "string"}}},
                "answer": {"type": "object", "properties": {"summary": {"type": "string"}}},
                "example": {
                    "input": {"text": "It rained. The match was cancelled."},
                    "answer": {"summary": "The match was cancelled because of rain."},
                },
            }
        ],
        "agents": ["kiro"],
    },
    "Accepted": {
        "id": _JOB_ID,
        "state": "queued",
        "location": f"/jobs/{_JOB_ID}",
        "requestId": _REQUEST_ID,
    },
    "RequestPage": {"requests": [_HISTORY_ENTRY], "next": None, "dropped": 0, "gaps": []},
    "RequestHistory": {
        **_HISTORY_ENTRY,
        "events": [
            {"name": "received", "at": 0.0, "method": "POST", "path": "/kiro/generate-story"},
            {"name": "started", "at": 0.001, "worker": "worker1", "agent": "kiro", "attempt": 1},
            {"name": "submitted", "at": 0.01},
            {"name": "first_output", "at": 1.2},
            {"name": "ended", "at": 7.0, "status": 200, "total": 7.0},
        ],
        "gaps": [],
        "recordings": ["20260115T093012Z-worker1-1.cast"],
        "older": None,
    },
    "Job": {**_JOB, "result": {"title": "Export filtered stories to CSV"}},
    "Jobs": {"jobs": [{**_JOB, "client": "frontend"}], "next": f"/jobs?before={_JOB_ID}"},
    "Agents": _AGENTS,
    "Requests": {
        **_AGENTS,
        "requests": [
            {
                "id": 42,
                "agent": "kiro",
                "task": "generate-story",
                "client": "frontend",
                "priority": 5,
                "state": "running",
                "worker": "worker1",
                "attempts": 1,
                "age": 1_500,
                "timeLeft": 118_500,
                "model": None,
                "approval": None,
            }
        ],
    },
    "Approvals": {
        "approvals": [
            {
                "id": _APPROVAL_ID,
                "agent": "kiro",
                "worker": "worker1",
                "request": 42,
                "question": "Run the shell command: ls",
                "age": 1_500,
                "timeLeft": 118_500,
            }
        ]
    },
    "Decided": {"id": _APPROVAL_ID, "decision": "deny"},
    "Recordings": {
        "recordings": [
            {
                "name": "20260115T093012Z-worker1-1.cast",
                "worker": "worker1",
                "agent": "kiro",
                "format": "asciicast",
                "started": _NOW - 60_000,
                "ended": None,
                "bytes": 48_213,
                "requests": [_REQUEST_ID],
            }
        ]
    },
    "WorkerAction": {"worker": {"name": "worker1", **_WORKER, "state": "drained"}},
    "AnyModel": _MODEL,
    "AnyModels": {"object": "list", "data": [_MODEL]},
    "ChatCompletion": {
        "id": "chatcmpl-1a229647102-1",
        "object": "chat.completion",
        "created": 1_795_990_778,
        "model": "default",
        "system_fingerprint": "kiroworkers-1.0.0, usage estimated",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "I can answer questions and write code.",
                    "refusal": None,
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 4, "completion_tokens": 10, "total_tokens": 14},
    },
    **ANTHROPIC_EXAMPLES,
    **MCP_EXAMPLES,
    **RESPONSE_EXAMPLES,
}
