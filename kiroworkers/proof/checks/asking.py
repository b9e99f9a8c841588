"""
Ask cases and judge the answers, for the checks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from kiroworkers.proof.case import Case
from kiroworkers.proof.checks.check import CheckFailed, Finding, failed, passed
from kiroworkers.proof.http import Response
from kiroworkers.proof.report import Level
from kiroworkers.proof.run import ProofRun, worker_of
from kiroworkers.proof.scripted_model import SeenRequest, evidence_of

#: How many cases are asked for each worker until a certain one must have answered.
_ATTEMPTS = 4

#: How many requests a worker must answer.  The server opens the next conversation of a session
#: during a turn, so the first one may come from a conversation that was opened before.
_PROBES = 2

#: What an agent that keeps memories is likely to keep.
_MEMORABLE = (
    "Remember this for all later conversations, and save it to your memory: the name of my "
    "project is {}."
)


async def all_of(coroutines: Iterable[Any]) -> list[Any]:
    """
    Run `coroutines` at the same time, and return their results.

    Raises:
        Exception: What the first of them raised that failed; the others are cancelled.
    """
    running = [Deferred.fromCoroutine(coroutine) for coroutine in coroutines]
    try:
        results: list[Any] = await gatherResults(running, consumeErrors=True)
    except Exception as error:
        for deferred in running:
            deferred.cancel()
        # gatherResults wraps what was raised.
        failure = getattr(error, "subFailure", None)
        raise (failure.value if failure is not None else error) from None
    return results


async def plant(proof: ProofRun) -> tuple[int, str]:
    """
    Ask a case with a text that asks to be remembered.

    Returns:
        The number of requests that the model had seen before, and the worker that answered.

    Raises:
        CheckFailed: If the answer is wrong.
    """
    mark = len(proof.model.requests)
    case = proof.new_case(_MEMORABLE.format)
    response = await proof.ask(case)
    require_right(proof, case, response)
    worker = worker_of(response)
    assert worker is not None, "an answer names its worker"
    return mark, worker


async def probe(proof: ProofRun, worker: str) -> None:
    """
    Ask ordinary cases until `worker` has answered two.

    Workers take turns, so it is the fourth case at the latest if both are idle.

    Raises:
        CheckFailed: If an answer is wrong, or `worker` does not answer two.
    """
    mark, limit = proof.server.log.count, _PROBES * _ATTEMPTS * proof.server.options.workers
    answered = 0
    for _ in range(limit):
        case = proof.new_case("What is the name of my project?")
        response = await proof.ask(case)
        require_right(proof, case, response)
        if worker_of(response) == worker:
            answered += 1
            if answered == _PROBES:
                return
        if (await proof.server.health())["workers"][worker]["state"] == "starting":
            await proof.server.wait_ready([worker], mark)
            mark = proof.server.log.count
    answers = f"{answered} of the {_PROBES} requests that it had to"
    raise CheckFailed(failed(f"{worker} answered {answers}; {limit} were sent", level=Level.LOSSY))


def judge(proof: ProofRun, mark: int, what: str) -> Finding:
    """
    Return the finding about the model's requests since `mark`.

    Args:
        proof: The proof.
        mark: How many requests had been seen before.
        what: What was asked, for people.
    """
    leaks = proof.leaks_since(mark)
    if leaks:
        return failed(_sentence(leaks), level=Level.LEAKS, **evidence_of(leaks))
    count = len(proof.model.requests) - mark
    if not any(seen.case_id for seen in proof.model.requests[mark:]):
        return failed("no request reached the model server", level=Level.LOSSY)
    return passed(f"{what}: none of {count} model requests held another text", requests=count)


def _sentence(leaks: list[SeenRequest]) -> str:
    first = leaks[0]
    if first.is_repeat:
        return (
            f"{len(leaks)} model requests held texts of earlier cases; one sent "
            f"{', '.join(first.foreign[:3])} once more, outside of any turn, after its answer"
        )
    return (
        f"{len(leaks)} model requests held texts of earlier cases; the one about "
        f"{first.case_id} held {', '.join(first.foreign[:3])}"
    )


def require_right(proof: ProofRun, case: Case, response: Response) -> None:
    """
    Check that `response` is the right answer to `case`.

    Raises:
        CheckFailed: If it is not.  The level is that of a leak if the model was sent other
            texts for this case, because these may be why.
    """
    problem = proof.problem(case, response)
    if problem is not None:
        leaks = [seen for seen in proof.model.requests_for(case) if seen.foreign]
        details = {**problem.details, **(evidence_of(leaks) if leaks else {})}
        level = Level.LEAKS if leaks else problem.level
        raise CheckFailed(failed(problem.sentence, level=level, **details))
