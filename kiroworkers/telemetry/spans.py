"""
Turn the events of a request into the spans of a trace.

The names and attributes follow OpenTelemetry's semantic conventions for HTTP and for generative
AI, https://opentelemetry.io/docs/specs/semconv/gen-ai/; what they do not know begins with
``kiroworkers.``.  Nothing here needs OpenTelemetry: `tracing` exports the spans.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

from attrs import define, field, frozen

from kiroworkers.request_record import EventData, RequestEvent, RequestRecord

#: The values of attributes.
Attributes: TypeAlias = Mapping[str, str | int | float | bool]

#: The largest length of a prompt or an answer in a span, in characters.
MAX_CONTENT = 16_384

#: The largest length of any other text, in characters.
_MAX_TEXT = 256

#: The lowest HTTP status that is the server's own failure.
_FIRST_SERVER_ERROR = 500

#: The events after which the agent does not answer the last prompt any more.
_TURN_ENDS = ("answered", "failed", "cancelled", "interrupted", "ended")


@frozen
class SpanEvent:
    """
    Describe a moment within a span.

    Attributes:
        name: What happened.
        at: When it happened, in seconds on the clock of the request's events.
        attributes: Its facts.
    """

    name: str
    at: float
    attributes: Attributes = field(factory=dict)


@define
class Span:
    """
    Describe a part of the handling of a request.

    Attributes:
        name: What was done.
        start: When it began, in seconds on the clock of the request's events.
        end: When it ended, on the same clock.
        attributes: Its facts.
        kind: Whether somebody else's request is handled, or something is done for it.
        error: The type of the error that it ended with; None for success.
        events: Moments within it.
        children: Its parts.
    """

    name: str
    start: float
    end: float
    attributes: dict[str, str | int | float | bool] = field(factory=dict)
    kind: Literal["server", "consumer", "internal"] = "internal"
    error: str | None = None
    events: list[SpanEvent] = field(factory=list)
    children: list[Span] = field(factory=list)


@frozen
class Exchange:
    """
    Hold what an agent was asked in one turn, and what it answered.

    Attributes:
        prompt: The prompt.
        reply: The agent's text; None if it did not answer.
    """

    prompt: str
    reply: str | None = None


def request_span(
    record: RequestRecord,
    events: Sequence[RequestEvent],
    exchanges: Sequence[Exchange] | None = None,
) -> Span:
    """
    Return the span of a request that has ended, with its parts.

    Args:
        record: The facts about the request.
        events: Its events, at least one, in their order.
        exchanges: What was asked and answered in each turn; None to leave out all text of
            clients and agents.
    """
    # The conversation may be cleared after the response.
    end = next((event.at for event in events if event.name == "ended"), events[-1].at)
    span = Span(_name(record), events[0].at, end, _request_attributes(record))
    span.kind = "consumer" if record.method == "JOB" else "server"
    server_error = record.status is not None and record.status >= _FIRST_SERVER_ERROR
    if record.code is not None and (server_error or record.attempts):
        span.error = record.code
    elif server_error:
        span.error = str(record.status)
    span.children = [
        *_waits(events, end),
        *_turns(record, events, end, exchanges),
        *_clears(events),
    ]
    for event in events:
        if event.name in ("retry", "notice", "repaired", "interrupted"):
            facts = _facts(event.data, with_text=exchanges is not None)
            span.events.append(SpanEvent(event.name, event.at, facts))
    return span


def _name(record: RequestRecord) -> str:
    if record.method == "JOB":
        return f"JOB {record.task}"
    return f"{record.method} {_route(record)}"


def _route(record: RequestRecord) -> str:
    """
    Return the path of the request with its variable part in braces.
    """
    path = record.path or ""
    return "/kiro/{task}" if path.startswith("/kiro/") else path


def _request_attributes(record: RequestRecord) -> dict[str, str | int | float | bool]:
    values: dict[str, str | int | float | bool | None] = {
        "kiroworkers.request.id": record.id or None,
        "kiroworkers.task": record.task,
        "kiroworkers.attempts": record.attempts,
        "kiroworkers.repairs": record.repairs or None,
        "kiroworkers.credits": record.credits,
        "kiroworkers.job": record.job,
        "gen_ai.agent.name": record.agent,
        "error.type": record.code,
    }
    if record.method != "JOB":
        values |= {
            "http.request.method": record.method,
            "http.route": _route(record),
            "url.path": record.path,
            "http.response.status_code": record.status,
            "client.address": record.host,
            "user_agent.original": record.user_agent,
        }
    return {
        name: value[:_MAX_TEXT] if isinstance(value, str) else value
        for name, value in values.items()
        if value is not None
    }


def _facts(data: EventData, *, with_text: bool) -> dict[str, str | int | float | bool]:
    """
    Return the facts of an event as attributes, without texts that may quote a client.
    """
    quoting = () if with_text else ("reason", "detail")
    return {
        name: value[:_MAX_TEXT] if isinstance(value, str) else value
        for name, value in data.items()
        if value is not None and name not in quoting
    }


def _waits(events: Sequence[RequestEvent], end: float) -> Iterator[Span]:
    """
    Yield a span for each time that the request was in the queue.
    """
    for number, event in enumerate(events):
        if event.name == "queued":
            ends = (later.at for later in events[number:] if later.name in ("started", *_TURN_ENDS))
            facts = {"kiroworkers.queue.position": int(event.data.get("position") or 0)}
            yield Span("queue", event.at, next(ends, end), dict(facts))


def _turns(
    record: RequestRecord,
    events: Sequence[RequestEvent],
    end: float,
    exchanges: Sequence[Exchange] | None,
) -> list[Span]:
    """
    Return a span for each prompt that an agent was given: the first one and corrections.
    """
    turns: list[Span] = []
    open_turn: Span | None = None
    attempt: EventData = {}
    for event in events:
        repair = event.name == "retry" and event.data.get("where") == "same_conversation"
        if event.name == "started" or repair:
            if event.name == "started":
                attempt = event.data
            if open_turn is not None:
                open_turn.end = event.at
            open_turn = _new_turn(record, event.at, attempt, end, repair=repair)
            turns.append(open_turn)
        elif open_turn is None:
            continue
        elif event.name in _TURN_ENDS:
            open_turn.end = event.at
            if event.name != "answered":
                ended = event.data.get("code") or record.code or event.name
                open_turn.error = str(ended)
                open_turn.attributes["error.type"] = open_turn.error
            open_turn = None
        else:
            _add_to_turn(open_turn, event, with_text=exchanges is not None)
    for turn, exchange in zip(turns, exchanges or (), strict=False):
        _add_content(turn, exchange)
    return turns


def _new_turn(
    record: RequestRecord, at: float, attempt: EventData, end: float, *, repair: bool
) -> Span:
    agent = str(attempt.get("agent") or "")
    attributes: dict[str, str | int | float | bool] = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": agent,
        "gen_ai.agent.name": agent,
        "gen_ai.output.type": "json",
        "kiroworkers.worker": str(attempt.get("worker") or ""),
        "kiroworkers.attempt": int(attempt.get("attempt") or 1),
    }
    if record.model is not None:
        attributes["gen_ai.request.model"] = record.model[:_MAX_TEXT]
    if repair:
        attributes["kiroworkers.repair"] = True
    return Span(f"invoke_agent {agent}", at, end, attributes)


def _add_to_turn(turn: Span, event: RequestEvent, *, with_text: bool) -> None:
    match event.name:
        case "submitted" | "first_output":
            turn.events.append(SpanEvent(event.name, event.at))
            if event.name == "first_output":
                seconds = round(event.at - turn.start, 6)
                turn.attributes["gen_ai.response.time_to_first_chunk"] = seconds
        case "tool_asked":
            question = Span("approve_tool", event.at, turn.end)
            if with_text:
                text = str(event.data.get("question"))[:_MAX_TEXT]
                question.attributes["kiroworkers.tool.question"] = text
            turn.children.append(question)
        case "tool_decided":
            open_questions = (
                child
                for child in turn.children
                if child.name == "approve_tool"
                and "kiroworkers.tool.allowed" not in child.attributes
            )
            question = next(open_questions, Span("", event.at, event.at))
            question.end = event.at
            question.attributes["kiroworkers.tool.allowed"] = bool(event.data.get("allowed"))
        case "tool_used":
            # The title may quote what the client asked for.
            tool = str(event.data.get("title" if with_text else "access"))[:_MAX_TEXT]
            attributes: dict[str, str | int | float | bool] = {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": tool,
                "kiroworkers.tool.access": str(event.data.get("access")),
                "kiroworkers.tool.asked": bool(event.data.get("asked")),
            }
            turn.children.append(Span(f"execute_tool {tool}", event.at, event.at, attributes))


def _add_content(turn: Span, exchange: Exchange) -> None:
    turn.attributes["gen_ai.input.messages"] = _message("user", exchange.prompt)
    if exchange.reply is not None:
        turn.attributes["gen_ai.output.messages"] = _message("assistant", exchange.reply)


def _message(role: str, text: str) -> str:
    message: dict[str, object] = {
        "role": role,
        "parts": [{"type": "text", "content": text[:MAX_CONTENT]}],
    }
    if role == "assistant":
        message["finish_reason"] = "stop"
    return json.dumps([message], ensure_ascii=False)


def _clears(events: Sequence[RequestEvent]) -> Iterator[Span]:
    """
    Yield a span for each time that an agent was made to forget the conversation.
    """
    for event in events:
        if event.name == "cleared":
            seconds = float(event.data.get("seconds") or 0.0)
            worker = str(event.data.get("worker") or "")
            yield Span("clear", event.at - seconds, event.at, {"kiroworkers.worker": worker})
