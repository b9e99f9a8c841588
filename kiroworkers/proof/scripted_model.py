"""
Answer the agents' requests to their model, and remember what each request contained.

The identifier of a case in a prompt selects the reply.  A request that holds the identifiers of
two cases proves a leak, because each case is asked for in a conversation of its own: the agent's
model was sent another client's text.  No request of a correct agent holds two.

So does a request that repeats a case that was answered before: one to sum up its conversation, as
some agents send when the next one begins, or any other that comes several cases later.  No answer
can contain that text, but it goes to the model once more, after its client was served.  What a
conversation asks for by itself a moment after its answer, such as its title, is no leak.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

from attrs import frozen
from twisted.internet.defer import Deferred

from kiroworkers.model_server.reply import ModelReply
from kiroworkers.model_server.request import ModelRequest
from kiroworkers.proof.case import Case, foreign_ids

#: Returns the reply to a request that belongs to a case.
Script: TypeAlias = Callable[[ModelRequest], ModelReply]

#: Matches in requests for a title of the conversation, which agents send besides the prompt.
_TITLE = re.compile(r"\btitle generator\b|\bGenerate a title\b|\bconcise title\b", re.IGNORECASE)

#: Matches in requests for a summary of a conversation.
_SUMMARY = re.compile(
    r"\bSummary \(max\b|\bsummari[sz]e (?:the|this) (?:conversation|session)\b"
    r"|\b(?:in|of) (?:the|this) (?:conversation|session) in one sentence\b",
    re.IGNORECASE,
)

#: After how many more answers a request cannot belong to a turn any more: with two workers, each
#: has answered others since.
_LATER_ANSWERS = 4

#: The roles of the messages that say what a request is for.
_INSTRUCTING = ("system", "user")

#: The reply to a request that is not for an answer.
_FEW_WORDS = "A few words"


@frozen(eq=False)
class SeenRequest:
    """
    Hold what is remembered of a request to the model.

    Attributes:
        number: How many requests came before it.
        at: When it came, in seconds.
        path: The path that it was sent to.
        case_id: The case that it is about; None if it holds no identifier of a known case.
        foreign: The identifiers of other cases that it holds.
        tools: The names of the tools that the agent offers.
        size: The length of its text, in characters.
        is_background: Whether it asks for something else than an answer, such as a title.
        is_repeat: Whether it sends only cases once more that were answered before; those are the
            foreign ones.
        excerpt: Some text before and after the first foreign identifier; empty without one.
    """

    number: int
    at: float
    path: str
    case_id: str | None
    foreign: tuple[str, ...]
    tools: tuple[str, ...]
    size: int
    is_background: bool = False
    is_repeat: bool = False
    excerpt: str = ""


@frozen(eq=False)
class _Awaited:
    case_id: str
    event: Deferred[SeenRequest]


class ScriptedModel:
    """
    Reply to the requests of all cases.

    Args:
        seconds: Returns the time.

    Attributes:
        requests: The requests so far.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self.requests: list[SeenRequest] = []
        self._seconds = seconds
        self._cases: dict[str, Case] = {}
        self._scripts: dict[str, Script] = {}
        self._open: dict[str, None] = {}
        # How many cases were answered before each.
        self._answered: dict[str, int] = {}
        self._latest: tuple[ModelRequest, SeenRequest] | None = None
        self._endless: list[tuple[ModelRequest, SeenRequest]] = []
        self._abandoned: list[SeenRequest] = []
        self._awaiting_request: list[_Awaited] = []
        self._awaiting_hang_up: list[_Awaited] = []

    def add(self, case: Case, script: Script | None = None) -> None:
        """
        Add a case that is about to be asked.

        Args:
            case: The case.
            script: Returns the reply to each request for an answer to it; by default a copy of
                its text.
        """
        self._cases[case.id] = case
        self._open[case.id] = None
        if script is not None:
            self._scripts[case.id] = script

    def close(self, case: Case) -> None:
        """
        Note that `case` was answered: later requests are rather about other cases.
        """
        self._open.pop(case.id, None)
        self._answered.setdefault(case.id, len(self._answered))

    def note(self, request: ModelRequest) -> SeenRequest:
        """
        Remember `request`, which may ask for something else than an answer.
        """
        seen = self._seen(request)
        self.requests.append(seen)
        self._latest = (request, seen)
        return seen

    def reply_to(self, request: ModelRequest) -> ModelReply:
        """
        Return the reply to `request`, and remember the request unless `note` has done it.
        """
        if self._latest is not None and self._latest[0] is request:
            seen = self._latest[1]
        else:
            seen = self.note(request)
        case_id, is_background = seen.case_id, seen.is_background
        if is_background:
            reply = ModelReply("{}" if request.structured else _FEW_WORDS)
        elif case_id is None:
            reply = ModelReply(_FEW_WORDS)
        elif case_id in self._scripts:
            reply = self._scripts[case_id](request)
        else:
            reply = self.copy(request)
        if reply.endless:
            self._endless.append((request, seen))
        if not is_background:
            _fire(self._awaiting_request, seen)
        return reply

    def copy(self, request: ModelRequest) -> ModelReply:
        """
        Return the right answer to the case that `request` is about.
        """
        case_id = self._current(request)
        if case_id is None:
            return ModelReply(_FEW_WORDS)
        return ModelReply(self._cases[case_id].model_text(request.text))

    def note_abandoned(self, request: ModelRequest) -> None:
        """
        Note that the agent hung up on the endless reply to `request`.
        """
        for pair in self._endless:
            if pair[0] is request:
                self._endless.remove(pair)
                self._abandoned.append(pair[1])
                _fire(self._awaiting_hang_up, pair[1])
                return

    def requested(self, case: Case) -> Deferred[SeenRequest]:
        """
        Return a Deferred that fires when the model was asked for the answer to `case`.
        """
        requests = [
            seen for seen in self.requests if seen.case_id == case.id and not seen.is_background
        ]
        return self._wait(self._awaiting_request, case, requests)

    def abandoned(self, case: Case) -> Deferred[SeenRequest]:
        """
        Return a Deferred that fires when the agent hung up on the endless reply to `case`.
        """
        requests = [seen for seen in self._abandoned if seen.case_id == case.id]
        return self._wait(self._awaiting_hang_up, case, requests)

    def requests_for(self, case: Case) -> list[SeenRequest]:
        """
        Return the requests that were about `case`.
        """
        return [seen for seen in self.requests if seen.case_id == case.id]

    def was_asked(self, case: Case) -> bool:
        """
        Return whether there was a request for the answer to `case`.
        """
        return any(not seen.is_background for seen in self.requests_for(case))

    def leaks_since(self, number: int) -> list[SeenRequest]:
        """
        Return the requests from `number` on that hold the text of a case besides their own.
        """
        return [seen for seen in self.requests[number:] if seen.foreign]

    def _wait(
        self, waiting: list[_Awaited], case: Case, seen: list[SeenRequest]
    ) -> Deferred[SeenRequest]:
        def forget(_: Deferred[SeenRequest]) -> None:
            waiting.remove(awaited)

        event: Deferred[SeenRequest] = Deferred(forget)
        awaited = _Awaited(case.id, event)
        if seen:
            event.callback(seen[0])
        else:
            waiting.append(awaited)
        return event

    def _current(self, request: ModelRequest) -> str | None:
        """
        Return the case that `request` is about: the last one that is still open.

        An agent may add text of earlier cases before the prompt, and also after it.
        """
        ids = [
            case_id
            for message in request.messages
            for case_id in foreign_ids(message.text, None)
            if case_id in self._cases
        ]
        still_open = [case_id for case_id in ids if case_id in self._open]
        return next(reversed(still_open or ids), None)

    def _seen(self, request: ModelRequest) -> SeenRequest:
        text, case_id = request.text, self._current(request)
        instructions = "\n".join(
            message.text for message in request.messages if message.role in _INSTRUCTING
        )
        # With tools it is a turn, whatever its instructions mention.
        may_be_other = not request.tools
        is_summary = may_be_other and _SUMMARY.search(instructions) is not None
        is_title = may_be_other and _TITLE.search(instructions) is not None
        is_repeat = case_id in self._answered and (
            (is_summary and not is_title)
            or len(self._answered) - self._answered[case_id] > _LATER_ANSWERS
        )
        if is_repeat:
            case_id = None  # Then every case in it is another one's.
        foreign = [other for other in foreign_ids(text, case_id) if other in self._cases]
        return SeenRequest(
            len(self.requests),
            self._seconds(),
            request.path,
            case_id,
            tuple(foreign),
            request.tools,
            len(text),
            request.structured or is_title or is_summary,
            is_repeat,
            _excerpt(text, foreign[0]) if foreign else "",
        )


def _excerpt(text: str, case_id: str) -> str:
    start = text.index(case_id)
    return text[max(0, start - 100) : start + 100]


def _fire(waiting: list[_Awaited], seen: SeenRequest) -> None:
    for awaited in list(waiting):
        # One that has fired may have cancelled others.
        if awaited.case_id == seen.case_id and awaited in waiting:
            waiting.remove(awaited)
            awaited.event.callback(seen)


def evidence_of(leaks: list[SeenRequest]) -> Mapping[str, object]:
    """
    Return what a report says about `leaks`.
    """
    return {
        "leaks": [
            {
                "request": seen.number,
                "case": seen.case_id,
                "repeat": seen.is_repeat,
                "foreign": list(seen.foreign),
                "excerpt": seen.excerpt,
            }
            for seen in leaks[:10]
        ]
    }
