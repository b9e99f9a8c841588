"""
Check that answers arrive as the model wrote them.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen

from kiroworkers.proof.case import Case, Form, Problem
from kiroworkers.proof.checks.asking import all_of
from kiroworkers.proof.checks.check import Check, Finding, failed, passed, skipped
from kiroworkers.proof.hard_strings import CARELESS, HARD_STRINGS
from kiroworkers.proof.proof import Proof, TurnsSpent, turns_of
from kiroworkers.proof.report import Level

#: How many wrong answers the details show.
_SHOWN = 10


async def exact(proof: Proof) -> Finding:
    """
    Ask for a copy of each of the hard strings, from a model that does as it is asked.
    """
    cases = {name: proof.new_case(text) for name, text in HARD_STRINGS.items()}
    asked = await _ask_all(proof, cases)
    if not asked.names:
        return skipped("no turns of --spend were left")
    if asked.problems:
        return _failure(asked.problems, asked)
    count = len(asked.names)
    return passed(f"{count} of {len(cases)} texts are equal{asked.remark}", **asked.details)


async def careless(proof: Proof) -> Finding:
    """
    Ask for copies from a model that forgets the fence and the escapes.

    The agent or the server may refuse such an answer, but must not alter it.
    """
    if proof.model_kind == "service":
        return skipped("the agent's own model cannot be told to be careless")
    cases = {name: proof.new_case(HARD_STRINGS[name], form=Form.CARELESS) for name in CARELESS}
    asked = await _ask_all(proof, cases)
    altered = {
        name: problem
        for name, problem in asked.problems.items()
        if problem.details["received"]["status"] == 200 or problem.level is not Level.LOSSY
    }
    if altered:
        return _failure(altered, asked)
    refused = [*asked.problems]
    equal, count = len(asked.names) - len(refused), len(asked.names)
    words = f", {len(refused)} refused ({', '.join(refused)})" if refused else asked.remark
    return passed(f"{equal} of {count} texts are equal{words}", **asked.details, refused=refused)


@frozen
class _Asked:
    """
    Hold what became of cases.

    Attributes:
        names: The names of the cases that were asked.
        problems: The problems by the name of their case.
        repaired: The names of those whose answer was right only after another turn.
    """

    names: list[str]
    problems: dict[str, Problem]
    repaired: list[str]

    @property
    def remark(self) -> str:
        """
        Return what the evidence adds.
        """
        if not self.repaired:
            return ""
        return f", {len(self.repaired)} after another turn ({', '.join(self.repaired)})"

    @property
    def details(self) -> dict[str, Any]:
        """
        Return the details of a finding.
        """
        return {"answered": len(self.names), "repaired": self.repaired}


async def _ask_all(proof: Proof, cases: dict[str, Case]) -> _Asked:
    """
    Ask `cases`, as many at a time as there are workers.
    """
    problems: dict[str, Problem] = {}
    names: list[str] = []
    repaired: list[str] = []
    # Shared, so that each of the loops takes the case that is next.
    remaining = list(cases.items())

    async def ask_some() -> None:
        while remaining:
            name, case = remaining.pop(0)
            try:
                response = await proof.ask(case)
            except TurnsSpent:
                return
            names.append(name)
            problem = proof.problem(case, response)
            if problem is not None:
                problems[name] = problem
                if remaining:  # What follows may be out of order.
                    await proof.prepare(case for _, case in remaining)
            elif turns_of(response) > 1:
                repaired.append(name)

    await proof.prepare(cases.values())
    await all_of(ask_some() for _ in range(proof.server.options.workers))
    in_order = {name: problems[name] for name in cases if name in problems}
    return _Asked(names, in_order, repaired)


def _failure(problems: dict[str, Problem], asked: _Asked) -> Finding:
    name, first = next(iter(problems.items()))
    worst = max(problem.level for problem in problems.values())
    return failed(
        f"{len(problems)} of {len(asked.names)} texts are not equal; {name}: {first.sentence}",
        level=worst,
        **asked.details,
        wrong={name: problem.details for name, problem in [*problems.items()][:_SHOWN]},
        classes=[*problems],
    )


CHECKS = (
    Check("exact", Level.LOSSY, exact, needs_model_server=False, time_limit=1800.0),
    Check(
        "exact: careless model",
        Level.LOSSY,
        careless,
        needs_model_server=False,
    ),
)
