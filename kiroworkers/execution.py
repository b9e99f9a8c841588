"""
One request to one task: from what a client wants to an answer that fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from attrs import frozen
from twisted.logger import Logger

from kiroworkers.errors import AgentRefused, AnswerSchemaMismatch, AnswerUnreadable, Evidence
from kiroworkers.pool.agent_groups import AgentGroup
from kiroworkers.pool.dispatcher import RequestOptions, TurnResult
from kiroworkers.pool.progress import OnProgress, Retrying
from kiroworkers.session.session import Reply
from kiroworkers.tasks import ParsedAnswer
from kiroworkers.tasks.repair import repair_prompt
from kiroworkers.tasks.task import AnswerLayout

_log = Logger()


class Promptable(Protocol):
    """
    What can be asked: a task, or a conversation that is to go on.
    """

    def prompt(self, payload: Mapping[str, Any], layout: AnswerLayout) -> str:
        """
        What to type.
        """

    def answer(self, payload: Mapping[str, Any], text: str, wrapped: bool) -> ParsedAnswer:
        """
        The answer in what an agent said.

        Raises:
            AnswerSchemaMismatch: saying why none was found.
            AnswerUnreadable: when it cannot be told for certain.
        """

    def answer_schema_for(self, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        """
        What the answer must fit.
        """


@frozen
class ExecutionResult:
    """
    What was found in what an agent said.
    """

    found: ParsedAnswer
    answer: TurnResult


async def execute(
    group: AgentGroup,
    task: Promptable,
    payload: Mapping[str, Any],
    options: RequestOptions,
    on_progress: OnProgress | None = None,
) -> ExecutionResult:
    """
    Ask an agent of `group`; `payload` was accepted by `task`.  An answer that does
    not fit is asked for once more in its own conversation, then of another worker.

    Raises:
        WorkError: when there is no answer, or none that fits.
    """
    layout = group.agent.dialect.layout
    reading = _Reading(task, payload, on_progress, layout)
    answer = await group.pool.submit(
        task.prompt(payload, layout), options, reading.validate, on_progress
    )
    return ExecutionResult(reading.found(answer), answer)


class _Reading:
    """
    Reads each reply to one request, and remembers what the last one means.
    """

    def __init__(
        self,
        task: Promptable,
        payload: Mapping[str, Any],
        on_progress: OnProgress | None,
        layout: Any,
    ) -> None:
        self._task = task
        self._asked = payload
        self._on_progress = on_progress
        self._layout = layout
        self._read: ParsedAnswer | AnswerSchemaMismatch | AnswerUnreadable | None = None
        self._reasons: list[str] = []

    def validate(self, reply: Reply) -> str | None:
        """
        As `sessions.session.Judge`.
        """
        try:
            self._read = self._task.answer(self._asked, reply.text, reply.wrapped)
        except AnswerUnreadable as problem:
            # It would be drawn the same way again.
            self._read = problem
        except AnswerSchemaMismatch as problem:
            self._read = problem
            if reply.more_may_follow:
                return problem.reason
            self._reasons.append(problem.reason)
            if reply.repairs == 0 and self._on_progress is not None:
                self._on_progress(Retrying(f"its answer does not fit: {problem.reason}"))
            schema = self._task.answer_schema_for(self._asked)
            return repair_prompt(problem.reason, schema, self._layout)
        return None

    def found(self, answer: TurnResult) -> ParsedAnswer:
        """
        What the last reply, in `answer`, means.

        Raises:
            WorkError: when it means nothing that fits.
        """
        reply = answer.reply
        evidence = Evidence(answer.worker, answer.number, reply.text)
        match self._read:
            case ParsedAnswer() as found:
                return found
            case AnswerSchemaMismatch() if reply.denied:
                raise AgentRefused("approval_denied", reply.denied[-1])
            case AnswerSchemaMismatch(reason):
                self._note(answer, reason)
                raise AnswerSchemaMismatch(reason, tuple(self._reasons), evidence=evidence)
            case AnswerUnreadable(reason):
                self._note(answer, reason)
                raise AnswerUnreadable(reason, evidence=evidence)
        raise AssertionError("each reply is judged")

    def _note(self, answer: TurnResult, reason: str) -> None:
        _log.warn(
            "{worker}: its answer to request {number} is of no use: {reason}",
            worker=answer.worker,
            number=answer.number,
            reason=reason,
        )
