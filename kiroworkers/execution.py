"""
One request to one task: from what a client wants to an answer that fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from attrs import frozen
from twisted.logger import Logger

from kiroworkers.errors import AgentRefused, AnswerUnfit, AnswerUnreadable, Evidence
from kiroworkers.pool.agent_groups import Group
from kiroworkers.pool.dispatcher import Answer, Terms
from kiroworkers.pool.progress import Retrying, Watch, nobody_watches
from kiroworkers.session.session import Reply
from kiroworkers.tasks import Found
from kiroworkers.tasks.repair import repair_prompt
from kiroworkers.tasks.task import Layout

_log = Logger()


class Askable(Protocol):
    """
    What can be asked: a task, or a conversation that is to go on.
    """

    def prompt(self, asked: Mapping[str, Any], layout: Layout) -> str:
        """
        What to type.
        """

    def answer(self, asked: Mapping[str, Any], text: str, wrapped: bool) -> Found:
        """
        The answer in what an agent said.

        @raise AnswerUnfit: saying why none was found.
        @raise AnswerUnreadable: when it cannot be told for certain.
        """

    def answer_schema_for(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        """
        What the answer must fit.
        """


@frozen
class Outcome:
    """
    What was found in what an agent said.
    """

    found: Found
    answer: Answer


async def ask(
    group: Group,
    task: Askable,
    asked: Mapping[str, Any],
    terms: Terms,
    watch: Watch = nobody_watches,
) -> Outcome:
    """
    Ask an agent of `group`; `asked` was accepted by `task`.  An answer that does
    not fit is asked for once more in its own conversation, then of another worker.

    @raise WorkError: when there is no answer, or none that fits.
    """
    layout = group.agent.dialect.layout
    reading = _Reading(task, asked, watch, layout)
    answer = await group.pool.submit(task.prompt(asked, layout), terms, reading.judge, watch)
    return Outcome(reading.found(answer), answer)


class _Reading:
    """
    Reads each reply to one request, and remembers what the last one means.
    """

    def __init__(self, task: Askable, asked: Mapping[str, Any], watch: Watch, layout: Any) -> None:
        self._task = task
        self._asked = asked
        self._watch = watch
        self._layout = layout
        self._read: Found | AnswerUnfit | AnswerUnreadable | None = None
        self._reasons: list[str] = []

    def judge(self, reply: Reply) -> str | None:
        """
        As `sessions.session.Judge`.
        """
        try:
            self._read = self._task.answer(self._asked, reply.text, reply.wrapped)
        except AnswerUnreadable as problem:
            # It would be drawn the same way again.
            self._read = problem
        except AnswerUnfit as problem:
            self._read = problem
            if reply.more_may_follow:
                return problem.reason
            self._reasons.append(problem.reason)
            if reply.repairs == 0:
                self._watch(Retrying(f"its answer does not fit: {problem.reason}"))
            schema = self._task.answer_schema_for(self._asked)
            return repair_prompt(problem.reason, schema, self._layout)
        return None

    def found(self, answer: Answer) -> Found:
        """
        What the last reply, in `answer`, means.

        @raise WorkError: when it means nothing that fits.
        """
        reply = answer.reply
        evidence = Evidence(answer.worker, answer.number, reply.text)
        match self._read:
            case Found() as found:
                return found
            case AnswerUnfit() if reply.denied:
                raise AgentRefused("approval_denied", reply.denied[-1])
            case AnswerUnfit(reason):
                self._note(answer, reason)
                raise AnswerUnfit(reason, tuple(self._reasons), evidence=evidence)
            case AnswerUnreadable(reason):
                self._note(answer, reason)
                raise AnswerUnreadable(reason, evidence=evidence)
        raise AssertionError("each reply is judged")

    def _note(self, answer: Answer, reason: str) -> None:
        _log.warn(
            "{worker}: its answer to request {number} is of no use: {reason}",
            worker=answer.worker,
            number=answer.number,
            reason=reason,
        )
