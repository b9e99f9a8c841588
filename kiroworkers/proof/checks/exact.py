"""
Check that answers arrive as the model wrote them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from attrs import evolve, frozen

from kiroworkers.errors import ErrorCode, FailureKind
from kiroworkers.proof.case import Form, Problem
from kiroworkers.proof.checks.asking import all_of
from kiroworkers.proof.checks.check import Check, Finding, failed, passed, skipped
from kiroworkers.proof.hard_strings import CARELESS, HARD_STRINGS, grouped, joined
from kiroworkers.proof.report import Level
from kiroworkers.proof.run import ProofRun, TurnsSpent, turns_of

#: The codes of the errors that refuse an answer because it may have been altered.  Any other error
#: says that there was none.
_REFUSALS = (ErrorCode.ANSWER_UNFIT, FailureKind.UNREADABLE)

#: How many wrong answers the details show.
_SHOWN = 10


async def exact(proof: ProofRun) -> Finding:
    """
    Ask for copies of the hard strings, from a model that does as it is asked.
    """
    asked = await _ask_classes(proof, HARD_STRINGS, Form.AS_ASKED)
    if not asked.names:
        return skipped("no turns of --spend were left")
    if asked.problems:
        return _failure(asked.problems, asked)
    words = f"{asked.count} of {len(HARD_STRINGS)} texts are equal{asked.remark}"
    return passed(words, **asked.details)


async def careless(proof: ProofRun) -> Finding:
    """
    Ask for copies from a model that leaves out the fence and the escapes.

    The agent or the server may refuse such an answer, but must not alter it.
    """
    if proof.model_kind == "service":
        return skipped("the agent's own model cannot be told to be careless")
    asked = await _ask_classes(proof, CARELESS, Form.CARELESS)
    altered = {
        name: problem for name, problem in asked.problems.items() if not _is_refusal(problem)
    }
    if altered:
        return _failure(altered, asked)
    refused = [*asked.problems]
    equal, count = asked.count - len(refused), asked.count
    words = f", {len(refused)} refused ({', '.join(refused)})" if refused else asked.remark
    return passed(f"{equal} of {count} texts are equal{words}", **asked.details, refused=refused)


def _is_refusal(problem: Problem) -> bool:
    """
    Return whether the server refused the answer because it may have been altered.
    """
    body = problem.details["received"].get("body")
    code = body.get("code") if isinstance(body, dict) else None
    return problem.level is Level.LOSSY and code in _REFUSALS


@frozen
class _Asked:
    """
    Hold the results of cases.

    Attributes:
        groups: The classes in each text, by its name.
        names: The names of the texts that were asked for.
        problems: The problems, by the name of the text or the class.
        repaired: The names of the texts whose answer was right only after another turn.
    """

    groups: Mapping[str, tuple[str, ...]]
    names: list[str]
    problems: dict[str, Problem]
    repaired: list[str]

    @property
    def count(self) -> int:
        """
        Return how many classes of texts were asked for.
        """
        return sum(len(self.groups[name]) for name in self.names)

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
        return {"answered": self.count, "repaired": self.repaired}


async def _ask_classes(proof: ProofRun, classes: Collection[str], form: Form) -> _Asked:
    """
    Ask for copies of `classes`, several of them in one text.

    If a copy is wrong, they are asked for one by one, so that the problems are those of the classes
    that are altered.
    """
    groups = grouped(classes)
    asked = await _ask_all(proof, groups, form)
    suspects = [name for text in asked.problems if len(groups[text]) > 1 for name in groups[text]]
    if not suspects:
        return asked
    alone = await _ask_all(proof, {name: (name,) for name in suspects}, form)
    return evolve(asked, problems=_narrowed(asked.problems, alone.problems, groups))


def _narrowed(
    problems: dict[str, Problem],
    alone: dict[str, Problem],
    groups: Mapping[str, tuple[str, ...]],
) -> dict[str, Problem]:
    """
    Return `problems`, those of the classes in place of their group's.

    A group keeps its problem if no class shows it alone, or none is as bad.

    Args:
        problems: The problems of groups and of single classes.
        alone: The problems of the classes of these groups, which were asked for one by one.
        groups: The classes of each group.
    """
    narrowed = {}
    for name, problem in problems.items():
        classes = {each: alone[each] for each in groups[name] if each in alone}
        narrowed.update(classes)
        if all(each.level < problem.level for each in classes.values()):
            narrowed[name] = problem
    return narrowed


async def _ask_all(proof: ProofRun, groups: Mapping[str, tuple[str, ...]], form: Form) -> _Asked:
    """
    Ask for a text for each of `groups`, as many at a time as there are workers.
    """
    cases = {name: proof.new_case(joined(classes), form=form) for name, classes in groups.items()}
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
    return _Asked(groups, names, in_order, repaired)


def _failure(problems: dict[str, Problem], asked: _Asked) -> Finding:
    name, first = next(iter(problems.items()))
    worst = max(problem.level for problem in problems.values())
    return failed(
        f"{len(problems)} of {asked.count} texts are not equal; {name}: {first.sentence}",
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
