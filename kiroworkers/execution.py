"""
Execute one request for one task, from an accepted payload to a valid answer.
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
    Represent what an agent can be asked: a task, or a chat to be continued.
    """

    def prompt(self, payload: Mapping[str, Any], layout: AnswerLayout) -> str:
        """
        Return the prompt to send to the agent.

        Args:
            payload: The accepted input.
            layout: The JSON layout that the agent's terminal shows unharmed.
        """

    def parse_answer(self, payload: Mapping[str, Any], text: str, wrapped: bool) -> ParsedAnswer:
        """
        Return the answer that an agent's reply contains.

        Args:
            payload: The accepted input.
            text: The complete reply, as a reader of the terminal sees it.
            wrapped: Whether the terminal may have broken long lines.

        Raises:
            AnswerSchemaMismatch: No part of the reply matches the answer schema.
            AnswerUnreadable: The terminal does not show for certain what was said.
        """

    def answer_schema_for(self, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        """
        Return the JSON schema that the answer to `payload` must match.
        """


@frozen
class ExecutionResult:
    """
    Hold a valid answer and the turn that produced it.
    """

    parsed: ParsedAnswer
    turn: TurnResult


async def execute(
    group: AgentGroup,
    task: Promptable,
    payload: Mapping[str, Any],
    options: RequestOptions,
    on_progress: OnProgress | None = None,
) -> ExecutionResult:
    """
    Ask an agent of `group` to do `task`, and return its valid answer.

    An answer that does not match the schema is corrected once in its own
    conversation; if that fails, another worker is asked.

    Args:
        group: The agent to ask.
        task: The task; it has accepted `payload`.
        payload: The task's input.
        options: The deadline and priority of the request, and whose it is.
        on_progress: Called with each `Progress` of the request.

    Raises:
        WorkError: There is no answer, or none that matches the schema.
    """
    layout = group.agent.dialect.layout
    parser = _ReplyParser(task, payload, on_progress, layout)
    prompt = task.prompt(payload, layout)
    turn = await group.dispatcher.submit(prompt, options, parser.validate, on_progress)
    return ExecutionResult(parser.result(turn), turn)


class _ReplyParser:
    """
    Parse each reply to one request, and keep the result of the last one.
    """

    def __init__(
        self,
        task: Promptable,
        payload: Mapping[str, Any],
        on_progress: OnProgress | None,
        layout: AnswerLayout,
    ) -> None:
        self._task = task
        self._payload = payload
        self._on_progress = on_progress
        self._layout = layout
        self._last: ParsedAnswer | AnswerSchemaMismatch | AnswerUnreadable | None = None
        self._reasons: list[str] = []

    def validate(self, reply: Reply) -> str | None:
        """
        Return the prompt that asks for a correction of `reply`, or None, as a `ReplyValidator`.
        """
        try:
            self._last = self._task.parse_answer(self._payload, reply.text, reply.wrapped)
        except AnswerUnreadable as problem:
            # Asking again would draw it in the same way.
            self._last = problem
        except AnswerSchemaMismatch as problem:
            self._last = problem
            if reply.more_may_follow:
                return problem.reason
            self._reasons.append(problem.reason)
            if reply.repairs == 0 and self._on_progress is not None:
                self._on_progress(
                    Retrying(f"the answer does not match the schema: {problem.reason}")
                )
            schema = self._task.answer_schema_for(self._payload)
            return repair_prompt(problem.reason, schema, self._layout)
        return None

    def result(self, turn: TurnResult) -> ParsedAnswer:
        """
        Return the answer parsed from the last reply, which `turn` holds.

        Raises:
            WorkError: The last reply has no valid answer.
        """
        reply = turn.reply
        evidence = Evidence(turn.worker, turn.number, reply.text)
        match self._last:
            case ParsedAnswer() as parsed:
                return parsed
            case AnswerSchemaMismatch() if reply.denied:
                raise AgentRefused("approval_denied", reply.denied[-1])
            case AnswerSchemaMismatch(reason):
                self._log_unusable(turn, reason)
                raise AnswerSchemaMismatch(reason, tuple(self._reasons), evidence=evidence)
            case AnswerUnreadable(reason):
                self._log_unusable(turn, reason)
                raise AnswerUnreadable(reason, evidence=evidence)
        raise AssertionError("every reply is validated before its turn ends")

    def _log_unusable(self, turn: TurnResult, reason: str) -> None:
        _log.warn(
            "{worker}: the answer to request {number} is unusable: {reason}",
            worker=turn.worker,
            number=turn.number,
            reason=reason,
        )
