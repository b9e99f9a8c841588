"""
Define a check of an agent and what it finds.

A check is an ``async`` function that gets the `ProofRun`, asks the server through it and returns
a `Finding`::

    async def next_answer_is_right(proof: ProofRun) -> Finding:
        case = proof.new_case("a text to copy")
        require_right(proof, case, await proof.ask(case))
        return passed("the copy was equal to the text")

    CHECKS = (Check("next answer", Level.LOSSY, next_answer_is_right),)

The prover cancels a check that takes longer than its limit, and starts a new server after a
check that failed, so a check need not clean up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import field, frozen

from kiroworkers.proof.report import Level, Outcome

if TYPE_CHECKING:
    from kiroworkers.proof.run import ProofRun


@frozen
class Finding:
    """
    Hold what a check found.

    Attributes:
        outcome: How the check ended.
        evidence: What was seen, in one sentence for people.
        details: What was seen, for programs: values that JSON can hold.
        level: The level of the agent after this failure; None for the level of the check.
    """

    outcome: Outcome
    evidence: str
    details: Mapping[str, Any] = field(factory=dict)
    level: Level | None = None


def passed(evidence: str, **details: Any) -> Finding:
    """
    Return the finding of a check that saw what it demands.
    """
    return Finding(Outcome.PASSED, evidence, details)


def failed(evidence: str, *, level: Level | None = None, **details: Any) -> Finding:
    """
    Return the finding of a check that saw the opposite; `level` replaces that of the check.
    """
    return Finding(Outcome.FAILED, evidence, details, level)


def skipped(reason: str, **details: Any) -> Finding:
    """
    Return the finding of a check that could see nothing, for `reason`.
    """
    return Finding(Outcome.SKIPPED, reason, details)


class CheckFailed(Exception):
    """
    Raised to end a check with a finding, from any depth.
    """

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.evidence)
        self.finding = finding


#: Runs a check.
Run: TypeAlias = "Callable[[ProofRun], Awaitable[Finding]]"


@frozen
class Check:
    """
    Describe one check.

    Attributes:
        name: Its name, such as ``fresh: next process``.  ``--checks`` selects by the whole name
            or by the part before the colon.
        level: The level of the agent if the check fails; None for a check that only measures.
        run: Runs it.
        needs_model_server: Whether it must see what the model sees or choose what the model
            answers.  If it need not, it also runs with an agent's own service.
        time_limit: Seconds after which it counts as failed.
    """

    name: str
    level: Level | None
    run: Run
    needs_model_server: bool = True
    time_limit: float = 300.0

    @property
    def group(self) -> str:
        """
        Return the part of the name before the colon.
        """
        return self.name.partition(":")[0]
