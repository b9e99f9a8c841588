"""
Collect what one turn produces: its text, its tools, its cost, and its failure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from io import StringIO
from typing import Any

from attrs import evolve

from kiroworkers.conversations.acp.kiro import (
    INTERRUPTED,
    CompactionFailed,
    Fact,
    Filtered,
    McpProblem,
    ServiceError,
    Spent,
    StreamDiscarded,
    StreamRetried,
    TurnFailed,
    replay_id,
)
from kiroworkers.conversations.acp.texts import error_text, printable, repair_surrogates
from kiroworkers.conversations.acp.tools import ToolCall, ToolCalls
from kiroworkers.conversations.events import (
    AgentFailure,
    Answered,
    Event,
    Notice,
    TextChunk,
    TextDiscarded,
    Usage,
    Working,
)
from kiroworkers.conversations.failures import FailurePattern, find_failure
from kiroworkers.errors import FailureKind

#: The maximum number of characters that are reported of a failure.
MAX_DETAIL_LENGTH = 300

#: The maximum number of characters of a tool's title that are logged when it starts.
_MAX_TITLE_LENGTH = 200

#: An update with text adds the bytes of its text to the turn's size, or the size of its message
#: divided by this number if that is more.
_ENVELOPE_FACTOR = 256

#: A longer chunk is not searched for `INTERRUPTED`.
_MAX_INTERRUPTED = 2 * len(INTERRUPTED)

#: The maximum number of notices that are reported of a turn.
MAX_NOTICES = 100

#: The stop reasons that mean that there is no answer, and how each is reported.
_STOP_REASONS: Mapping[FailureKind, str] = {
    FailureKind.MAX_TOKENS: "the model reached its maximum answer length",
    FailureKind.MAX_TURN_REQUESTS: "the agent reached its limit of model requests in one turn",
    FailureKind.REFUSAL: "the model refused to answer",
    FailureKind.CANCELLED: "the agent cancelled the turn",
}

#: The maximum number of repetitions that are recognized in a turn.  After each, a long text may
#: be reported again.
_MAX_REPETITIONS = 20


class Turn:
    """
    Collect what the running turn produces.

    Args:
        patterns: The texts by which a failure is recognized.
        tools: Follows the tools.

    Attributes:
        ending: Why the turn fails if the agent sends nothing more, not even a response; None
            while it goes on.
    """

    def __init__(self, patterns: Iterable[FailurePattern], tools: ToolCalls) -> None:
        self._patterns = tuple(patterns)
        self._text = _TurnText()
        self._usage = Usage()
        self._filtered = ""
        self._failed = False
        self._service_error: ServiceError | None = None
        self._tools = tools
        self._has_subagents = False
        self._told_wait = ""
        self._notices = 0
        self.ending: AgentFailure | None = None

    def add_update(
        self, session: str, update: Mapping[str, Any], size: int
    ) -> tuple[list[Event], int]:
        """
        Take in an update of the turn, and return its events and its size as output.

        Args:
            session: The turn's session.
            update: The update.
            size: The size of its message, in bytes.
        """
        self.ending = None
        match update:
            case {"sessionUpdate": str(kind), "content": {"type": "text", "text": str(text)}}:
                events: list[Event] = []
                if kind == "agent_message_chunk":
                    if len(text) < _MAX_INTERRUPTED and text.strip() == INTERRUPTED:
                        self.ending = AgentFailure(FailureKind.TOOL_INTERRUPTED, INTERRUPTED)
                    events += self._text.append(text, replay_id(update))
                length = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
                return events, max(length, size // _ENVELOPE_FACTOR)
            case {"sessionUpdate": "tool_call", "title": str(title)}:
                started: list[Event] = [Working(printable(title, _MAX_TITLE_LENGTH))]
            case _:
                started = []
        return started + self._add_tool(session, update), size

    def add_subagent_update(self, session: str, update: Mapping[str, Any]) -> list[Event]:
        """
        Take in an update of a session that the agent has opened for a subagent.
        """
        self.note_subagent()
        return self._add_tool(session, update)

    def note_subagent(self) -> None:
        """
        Note that the agent has opened a session for a part of its work.
        """
        self._has_subagents = True

    def add_question(
        self, session: str, params: Mapping[str, Any]
    ) -> tuple[Mapping[str, Any], ToolCall]:
        """
        Return what a permission request says about its tool, and the tool call.

        Args:
            session: The turn's session, or a subagent's.
            params: The parameters of the request.
        """
        self.ending = None
        return self._tools.note_question(session, params)

    @property
    def is_tidy(self) -> bool:
        """
        Return whether no subagent worked in the turn, and no tool is still running.
        """
        return not self._has_subagents and not self._tools.any_open

    def _add_tool(self, session: str, update: Mapping[str, Any]) -> list[Event]:
        tool = self._tools.feed(session, update)
        return [] if tool is None else [tool]

    def add_fact(self, fact: Fact) -> list[Event]:
        """
        Take in a fact about the turn that Kiro reports, and return the events.
        """
        events = self._read_fact(fact)
        notices = sum(isinstance(event, Notice) for event in events)
        self._notices += notices
        return events if not notices or self._notices <= MAX_NOTICES else []

    def _read_fact(self, fact: Fact) -> list[Event]:
        match fact:
            case Notice(kind):
                if kind == "compaction":
                    # The agent tries again to summarize the conversation.
                    self.ending = None
                return [fact]
            case Spent(credits, context):
                if credits is not None:
                    self._usage = evolve(self._usage, credits=credits)
                if context is not None:
                    self._usage = evolve(self._usage, context_percent=context)
            case Filtered(detail):
                self._filtered = detail
            case ServiceError():
                known = self._service_error
                if fact.rate_limit or known is None or not known.rate_limit:
                    self._service_error = fact
            case TurnFailed(failed):
                self._failed = failed
            case StreamDiscarded():
                self.ending = None
                return self._text.discard()
            case StreamRetried(notice):
                self._text.expect_repetition()
                return [notice]
            case CompactionFailed(reason):
                detail = reason or "the agent could not summarize the conversation"
                failure = find_failure(self._patterns, detail)
                self.ending = failure or AgentFailure(FailureKind.CONTEXT_FULL, detail)
                return [Notice("compaction", detail)]
            case McpProblem(detail, waits=True) if detail != self._told_wait:
                # Engine v3 repeats the state of all servers.
                self._told_wait = detail
                return [Notice("stall", detail)]
        return []

    def end(self, result: Mapping[str, Any], error: Mapping[str, Any] | None) -> Event:
        """
        Return what the response to the prompt means: the answer, or a failure.
        """
        if error is not None:
            return self._failure(error_text(error))
        reason = result.get("stopReason")
        if reason == "end_turn":
            if self._filtered:
                return AgentFailure(FailureKind.REFUSAL, self._filtered)
            if self._failed and self._service_error is not None:
                return self._failure("the turn failed")
            return Answered(self._text.get(), "response", usage=self._usage)
        kind = next((kind for kind in _STOP_REASONS if kind == reason), None)
        if kind is not None:
            return AgentFailure(kind, _STOP_REASONS[kind])
        detail = f"the turn ended with stop reason {str(reason)[:100]}"
        return AgentFailure(FailureKind.AGENT_ERROR, detail)

    def _failure(self, text: str) -> AgentFailure:
        """
        Return the failure that `text` describes, or the one that was reported before it.

        An error may not say what went wrong, because a notification already said so.
        """
        failure = find_failure(self._patterns, text)
        if failure is None and self._filtered:
            return AgentFailure(FailureKind.REFUSAL, self._filtered)
        service_error = self._service_error
        if failure is None and service_error is not None:
            failure = find_failure(self._patterns, service_error.text)
            if failure is None and service_error.rate_limit:
                failure = AgentFailure(FailureKind.THROTTLED, service_error.text)
        if failure is None:
            return AgentFailure(FailureKind.AGENT_ERROR, text[:MAX_DETAIL_LENGTH])
        if failure.retry_after is None and service_error is not None:
            failure = evolve(failure, retry_after=service_error.retry_after)
        return failure


class _TurnText:
    """
    Join the chunks of an answer.  The agent may take back some of them.
    """

    def __init__(self) -> None:
        self._text = StringIO()
        # The piece that the last chunk was part of, and where it begins.
        self._piece = ""
        self._piece_start = 0
        self._repetition_expected = False
        self._repetitions = 0

    def get(self) -> str:
        """
        Return the text.
        """
        return repair_surrogates(self._text.getvalue())

    def expect_repetition(self) -> None:
        """
        Note that the service is asked again, so that the last piece may be repeated.
        """
        self._repetition_expected = True

    def append(self, text: str, piece: str) -> list[Event]:
        """
        Append a chunk of `piece`, and return the events.
        """
        events: list[Event] = []
        if piece != self._piece or not piece:
            self._piece, self._piece_start = piece, self._text.tell()
        elif self._repetition_expected and self._repetitions < _MAX_REPETITIONS:
            self._repetitions += 1
            events += self._restart_piece()
        self._repetition_expected = False
        self._text.write(text)
        return [*events, TextChunk(text)]

    def discard(self) -> list[Event]:
        """
        Forget the text, and return the events.
        """
        had_text = self._text.tell() > 0
        self._text = StringIO()
        self._piece, self._piece_start = "", 0
        self._repetition_expected = False
        return [TextDiscarded()] if had_text else []

    def _restart_piece(self) -> list[Event]:
        """
        Forget the last piece, and return the events.
        """
        self._text.seek(self._piece_start)
        self._text.truncate()
        before = self._text.getvalue()
        return [TextDiscarded(), TextChunk(before)] if before else [TextDiscarded()]
