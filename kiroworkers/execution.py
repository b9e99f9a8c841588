"""
Execute one request for one task, from an accepted payload to a valid answer.

This module alone decides what happens after a reply: it is the answer, the agent is asked
to correct it in the same conversation, another worker is asked, or the request fails.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, NoReturn, Protocol, TypeVar

from attrs import define, evolve, field, frozen
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kiroworkers.clean_text import without_quotes
from kiroworkers.errors import (
    AgentRefused,
    AnswerSchemaMismatch,
    AnswerUnreadable,
    Evidence,
    FailureKind,
    RequestTimedOut,
    SessionLost,
    ShuttingDown,
    WorkError,
)
from kiroworkers.images import Image, check_accepted
from kiroworkers.offload.call import Call, Runner, run_here
from kiroworkers.pool.agent_groups import AgentGroup
from kiroworkers.pool.dispatcher import Dispatcher, Request, RequestOptions
from kiroworkers.pool.progress import OnProgress, Retrying
from kiroworkers.session.session import CannotAskAgain
from kiroworkers.session.turn import Reply
from kiroworkers.tasks import ParsedAnswer, Task
from kiroworkers.tasks.repair import repair_prompt
from kiroworkers.tasks.task import AnswerLayout

T = TypeVar("T")

#: The number of workers that a request is sent to at most.
_MAX_ATTEMPTS = 2

#: How often each worker is asked to correct its answer.
_MAX_REPAIRS = 1

#: The values of `Retrying.where`, for the log.
_PLACES = {
    "same_turn": "the same turn",
    "same_conversation": "the same conversation",
    "new_conversation": "a new conversation",
}

_log = Logger()


class Search(Call[ParsedAnswer], Protocol):
    """
    Represent the search for the answer in a reply.
    """

    @property
    def is_cheap(self) -> bool:
        """
        Return whether the search is certain to take no more than a few milliseconds.
        """

    def find(self) -> ParsedAnswer:
        """
        Return the answer.

        Raises:
            AnswerSchemaMismatch: No part of the reply matches the answer schema.
            AnswerUnreadable: It is not certain from the terminal what the agent answered.
        """


class Promptable(Protocol):
    """
    Represent what an agent can be asked: a task, or a chat to continue.
    """

    @property
    def images(self) -> tuple[Image, ...]:
        """
        Return the images that go with the prompt.
        """

    def prompt(self, payload: Mapping[str, Any], layout: AnswerLayout) -> str:
        """
        Return the prompt to send to the agent.

        Args:
            payload: The accepted input.
            layout: The JSON layout that the agent's terminal shows intact.
        """

    def answer_search(
        self,
        payload: Mapping[str, Any],
        text: str,
        wrapped: bool,
        styled: tuple[int, ...] = (),
    ) -> Search:
        """
        Return the search for the answer that an agent's reply contains.

        Args:
            payload: The accepted input.
            text: The complete reply, as a reader of the terminal sees it.
            wrapped: Whether the terminal may have broken long lines.
            styled: The offsets in `text` at which the terminal rendered it; an answer that
                contains one is unreadable.
        """

    def answer_schema_for(self, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        """
        Return the JSON schema that the answer to `payload` must match.
        """


@frozen
class Result:
    """
    Hold a valid answer, and how it was obtained.

    Attributes:
        answer: The answer, which matches the schema.
        reply: The agent's reply that contains it.
        worker: The name of the worker that answered.
        attempts: The number of workers that were tried, this one included.
        repairs: How often this worker was asked to correct its answer.
        seconds: The duration of the last attempt.
        credits: The credits that all turns of the request used; None if the agent does not say.
        sample: Whether the agent says that its answer is only a sample.
    """

    answer: ParsedAnswer
    reply: Reply
    worker: str
    attempts: int
    repairs: int
    seconds: float
    credits: float | None = None
    sample: bool = False


async def accept(
    task: Task, body: Any, options: RequestOptions, offload: Runner, clock: IReactorTime
) -> tuple[dict[str, Any], RequestOptions]:
    """
    Return the request to `task` in `body`, as `Task.accept` does, and its options.

    Args:
        task: The task.
        body: The request's body, as parsed JSON.
        options: The options of the request; see `within_deadline`.
        offload: Runs a check that may take long.
        clock: Measures the time that the check takes.

    Raises:
        InvalidInput: The body does not fit the input schema; names the field.
        NoWorkerFree: Too many other checks wait.
        RequestTimedOut: The deadline has passed.
    """
    check = task.input_check(body)
    if check.is_cheap:
        return check.find(), options
    checked = offload(check, options.client, refusable=True)
    return await within_deadline(checked, options, clock)


async def within_deadline(
    check: Awaitable[T], options: RequestOptions, clock: IReactorTime
) -> tuple[T, RequestOptions]:
    """
    Return the result of the check of a request, and the request's options for its execution.

    The client's deadline includes the check, which may have to wait for others.

    Args:
        check: The check.
        options: The options of the request.
        clock: Measures the time that the check takes.

    Raises:
        RequestTimedOut: The deadline has passed.
    """
    if options.timeout is None:
        result = await check
        options.record.report("checked")
        return result, options

    async def run() -> T:
        return await check

    began = clock.seconds()
    result = await Deferred.fromCoroutine(run()).addTimeout(options.timeout, clock, _on_timeout)
    options.record.report("checked")
    left = options.timeout - (clock.seconds() - began)
    return result, evolve(options, timeout=max(0.001, round(left, 3)))


def _on_timeout(result: object, timeout: float) -> NoReturn:
    raise RequestTimedOut(timeout)


async def execute(
    group: AgentGroup,
    task: Promptable,
    payload: Mapping[str, Any],
    options: RequestOptions,
    on_progress: OnProgress | None = None,
    offload: Runner = run_here,
) -> Result:
    """
    Ask an agent of `group` to do `task`, and return its valid answer.

    An answer that does not match the schema is corrected once in its own conversation; if
    that fails, or if the session ends, another worker is asked once.

    Args:
        group: The agent to ask.
        task: The task; it has accepted `payload`.
        payload: The task's input.
        options: The deadline, the priority and the client of the request.
        on_progress: Called with each `Progress` of the request.
        offload: Runs a search for the answer that may take long.

    Raises:
        WorkError: There is no answer, or none that matches the schema.
    """
    if task.images:
        # Before it waits for a worker, if that is known.
        check_accepted(task.images, group.accepts_images, group.name)
    layout, sample = group.agent.dialect.answer.layout, group.agent.dialect.answer.sample
    dispatcher = group.dispatcher
    request = dispatcher.submit(task.prompt(payload, layout), options, on_progress, task.images)
    try:
        result = await _Execution(dispatcher, request, task, payload, layout, offload).run()
        return evolve(result, sample=sample is not None and bool(sample.search(result.reply.text)))
    except (AnswerSchemaMismatch, AnswerUnreadable) as problem:
        if problem.evidence is not None:
            _log.warn(
                "{worker}: the answer to request {number} is unusable: {reason}"
                + (" (request {requestId})" if options.record.id else ""),
                worker=problem.evidence.worker,
                number=problem.evidence.request,
                requestId=options.record.id,
                reason=without_quotes(problem.reason),
            )
        raise
    finally:
        dispatcher.end(request)


@define
class _Execution:
    """
    Decide what to do after each reply to one request.

    Attributes:
        repairs: How often the current worker was asked to correct its answer.
        reasons: What was wrong with each answer, over all workers.
        credits: The credits of the turns that have ended; None if the agent does not say.
    """

    dispatcher: Dispatcher
    request: Request
    task: Promptable
    payload: Mapping[str, Any]
    layout: AnswerLayout
    offload: Runner
    repairs: int = 0
    reasons: list[str] = field(factory=list)
    credits: float | None = None

    async def run(self) -> Result:
        """
        Return the first valid answer.

        Raises:
            WorkError: There is none, and nobody else is asked.
        """
        pending = self.request.reply
        while True:
            try:
                reply = await pending
            except SessionLost as problem:
                lost = SessionLost(problem.reason, self.request.attempts)
                why = f"the session ended: {problem.cause or problem.reason}"
                pending = self._retry(why, lost)
                continue
            assert self.request.worker is not None, "it has answered"
            worker = self.request.worker.name
            evidence = Evidence(worker, self.request.number, reply.text)
            # Until another turn begins, each reply has the credits of the same turn.
            record = self.request.options.record
            record.credits = _added(self.credits, reply.usage.credits)
            try:
                answer = await self._find_answer(reply)
            except AnswerUnreadable as problem:
                # If asked again, the agent would draw it in the same way.
                raise AnswerUnreadable(problem.reason, evidence=evidence) from None
            except AnswerSchemaMismatch as problem:
                pending = self._after_mismatch(problem.reason, reply, evidence)
            else:
                if self.repairs:
                    record.report("repaired", repairs=self.repairs)
                return Result(
                    answer,
                    reply,
                    worker,
                    self.request.attempts,
                    self.repairs,
                    self.request.seconds,
                    record.credits,
                )

    async def _find_answer(self, reply: Reply) -> ParsedAnswer:
        """
        Return the answer in `reply`.  The agent waits in the meantime.

        Raises:
            AnswerSchemaMismatch: There is none that matches the schema.
            AnswerUnreadable: It is not certain what the agent answered.
            WorkError: The deadline of the request passed, or the server stops.
        """
        search = self.task.answer_search(self.payload, reply.text, reply.wrapped, reply.styled)
        if search.is_cheap:
            return search.find()
        request = self.request
        request.check = Deferred.fromCoroutine(self._offload(search))
        try:
            answer: ParsedAnswer = await request.check
            return answer
        except CancelledError:
            if request.problem is not None:
                # The dispatcher has cancelled it at its deadline, not the submitter.
                await fail(request.problem)
            raise
        finally:
            request.check = None

    async def _offload(self, search: Search) -> ParsedAnswer:
        return await self.offload(search, self.request.options.client)

    def _after_mismatch(self, reason: str, reply: Reply, evidence: Evidence) -> Deferred[Reply]:
        """
        Return the next reply, after an answer that does not match the schema.

        Args:
            reason: What is wrong with the answer.
            reply: The reply that has the answer.
            evidence: What an operator needs in order to investigate it.

        Raises:
            WorkError: Nobody is asked again.
        """
        if reply.more_may_follow:
            return self.dispatcher.read_on(self.request)
        self.reasons.append(reason)
        self.credits = self.request.options.record.credits
        why = f"the answer does not match the schema: {reason}"
        if self.repairs < _MAX_REPAIRS:
            schema = self.task.answer_schema_for(self.payload)
            prompt = repair_prompt(reason, schema, self.layout)
            try:
                pending = self.dispatcher.ask_again(self.request, prompt)
            except CannotAskAgain:
                pass
            else:
                self.repairs += 1
                self.request.options.record.repairs += 1
                self._report(Retrying(why, "same_conversation"))
                return pending
        if reply.denied:
            return self._retry(why, AgentRefused(FailureKind.APPROVAL_DENIED, reply.denied[-1]))
        reasons = tuple(self.reasons)
        return self._retry(why, AnswerSchemaMismatch(reason, reasons, evidence=evidence))

    def _retry(self, reason: str, failure: WorkError) -> Deferred[Reply]:
        """
        Ask another worker, and return its reply.

        Args:
            reason: Why, for the client.
            failure: What to raise if no other worker may be asked.
        """
        if self.request.attempts >= _MAX_ATTEMPTS:
            raise failure
        refusal = self.dispatcher.retry_refusal(self.request)
        if isinstance(refusal, ShuttingDown) and not isinstance(failure, SessionLost):
            # There was an answer; the client can do more with what is wrong with it.
            raise failure
        if refusal is not None:
            raise refusal
        self.repairs = 0
        self._report(Retrying(reason, "new_conversation"))
        return self.dispatcher.retry(self.request)

    def _report(self, retrying: Retrying) -> None:
        record = self.request.options.record
        _log.info(
            "request {number}: retrying in {where}: {reason}"
            + (" (request {requestId})" if record.id else ""),
            number=self.request.number,
            requestId=record.id,
            worker=record.worker,
            where=_PLACES[retrying.where],
            reason=without_quotes(retrying.reason),
        )
        record.report("retry", reason=retrying.reason, where=retrying.where)
        self.request.report(retrying)


def _added(total: float | None, more: float | None) -> float | None:
    """
    Return the sum of two numbers of credits, each of which may be unknown.
    """
    return more if total is None else total + (more or 0.0)
