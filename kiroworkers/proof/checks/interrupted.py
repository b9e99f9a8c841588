"""
Check what follows a turn that does not end.

The client hangs up, the deadline passes, or the agent is killed.  Each time the next answers
must be right, and the agent must not go on with the model.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from twisted.internet.defer import CancelledError, Deferred, TimeoutError

from kiroworkers.model_server.reply import ModelReply
from kiroworkers.model_server.request import ModelRequest
from kiroworkers.process.supervisor import descendants
from kiroworkers.proof.case import Case
from kiroworkers.proof.checks.asking import judge, probe, require_right
from kiroworkers.proof.checks.check import Check, CheckFailed, Finding, failed, passed, skipped
from kiroworkers.proof.http import Response
from kiroworkers.proof.report import Level, Outcome
from kiroworkers.proof.run import ProofRun

#: The beginning of an answer that does not go on.
_BEGINNING = "I will copy the text. "

#: The deadline of a turn that must not end: so many usual turns, and at least this many seconds.
_USUAL_TURNS, _MIN_LIMIT = 4, 4.0

#: How many times a turn is tried whose deadline passed before the agent asked its model, and by
#: how much the deadline grows.  A busy machine may need that.
_ATTEMPTS, _GROWTH = 3, 3

#: Seconds in which the agent must hang up on the model after its turn was interrupted.
_HANG_UP_LIMIT = 30.0


class _TooEarly(CheckFailed):
    """
    Raised when there is a response before the agent has asked its model.
    """

    def __init__(self, response: Response) -> None:
        code, body = response.code, response.body
        super().__init__(
            failed(
                f"{code} before the agent asked its model: {body}",
                received={"status": code, "body": body},
            )
        )
        self.response = response


async def cancel(proof: ProofRun) -> Finding:
    """
    Hang up in the middle of an answer.
    """
    mark = len(proof.model.requests)
    case, answer, worker = await _begin(proof)
    cancelled_at = proof.reactor.seconds()
    answer.cancel()
    with suppress(CancelledError):
        await answer
    await _hung_up(proof, case)
    seconds = proof.reactor.seconds() - cancelled_at
    return await _goes_on(
        proof, mark, worker, f"the agent left the model after {seconds:.2f} s", seconds
    )


async def timeout(proof: ProofRun) -> Finding:
    """
    Let the deadline of a request pass.
    """
    mark = len(proof.model.requests)
    usual = proof.new_case("a usual turn")
    response = await proof.ask(usual)
    require_right(proof, usual, response)
    limit = round(max(_MIN_LIMIT, _USUAL_TURNS * response.seconds), 1)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            case, answer, worker = await _begin(proof, limit)
            break
        except _TooEarly as early:
            if early.response.code != 504 or attempt == _ATTEMPTS:
                raise
            limit *= _GROWTH
    late = await answer
    if late.code != 504:
        raise CheckFailed(
            failed(
                f"expected 504 after {limit:g} s, received {late.code} after {late.seconds:.1f} s",
                received={"status": late.code, "body": late.body},
            )
        )
    await _hung_up(proof, case)
    return await _goes_on(proof, mark, worker, f"504 after {late.seconds:.1f} s", late.seconds)


async def kill(proof: ProofRun) -> Finding:
    """
    Kill the agent in the middle of an answer.

    The server may retry; then it must give the right answer.  Otherwise it must give an error.
    """
    mark = len(proof.model.requests)
    case, answer, worker = await _begin(proof, endless_requests=1)
    log_mark = proof.server.log.count
    supervisor = (await proof.server.health())["workers"][worker]["pid"]
    processes = descendants(supervisor)
    if not processes:
        answer.cancel()
        answer.addErrback(lambda _: None)
        return skipped("this system does not list the processes below another one")
    os.kill(processes[0], signal.SIGKILL)
    response = await answer
    if response.code == 200:
        require_right(proof, case, response)
        outcome = "retried, and the answer was right"
    else:
        outcome = f"{response.code} {response.body.get('code')}"
    await proof.server.wait_ready([worker], log_mark)
    return await _goes_on(proof, mark, worker, outcome, response.seconds)


async def _begin(
    proof: ProofRun, limit: float | None = None, endless_requests: int | None = None
) -> tuple[Case, Deferred[Response], str]:
    """
    Ask a case whose answer begins and does not end.

    Args:
        proof: The proof.
        limit: The deadline of the request, in seconds; None for the server's own.
        endless_requests: How many of the requests to the model get no end; None for all.

    Returns:
        The case, its response and the worker that runs it.

    Raises:
        _TooEarly: If the server responds before the model is asked.
    """
    seen = 0

    def never_end(request: ModelRequest) -> ModelReply:
        nonlocal seen
        seen += 1
        if endless_requests is not None and seen > endless_requests:
            return proof.model.copy(request)
        return ModelReply(_BEGINNING, endless=True)

    case = proof.new_case("a text whose copy never ends", never_end)
    requested = proof.model.requested(case)
    answer = Deferred.fromCoroutine(proof.ask(case, limit))
    early: list[Response] = []

    def stop_waiting(response: Response) -> Response:
        early.append(response)
        requested.cancel()
        return response

    answer.addCallback(stop_waiting)
    try:
        await requested
    except CancelledError:
        if not early:
            answer.cancel()
            answer.addErrback(lambda _: None)
            raise
        raise _TooEarly(early[0]) from None
    return case, answer, await proof.running_worker()


async def _hung_up(proof: ProofRun, case: Case) -> None:
    """
    Wait until the agent has left the model.

    Raises:
        CheckFailed: If it does not.
    """
    abandoned = proof.model.abandoned(case)
    abandoned.addTimeout(_HANG_UP_LIMIT, proof.reactor)
    try:
        await abandoned
    except TimeoutError:
        reason = f"the agent still waited for the model after {_HANG_UP_LIMIT:g} s"
        raise CheckFailed(failed(reason)) from None


async def _goes_on(proof: ProofRun, mark: int, worker: str, what: str, seconds: float) -> Finding:
    """
    Check that the next answers, of `worker` and of another one, are right and fresh.
    """
    await probe(proof, worker)
    await probe(proof, next(name for name in proof.server.workers if name != worker))
    finding = judge(proof, mark, "the requests after it")
    if finding.outcome is Outcome.FAILED:
        return finding
    return passed(f"{what}; the next answers were right and fresh", seconds=round(seconds, 2))


CHECKS = (
    Check("cancel", Level.LOSSY, cancel),
    Check("timeout", Level.LOSSY, timeout),
    Check("kill", Level.LOSSY, kill),
)
