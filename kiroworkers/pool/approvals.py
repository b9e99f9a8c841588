"""
Keep the agents' questions about tools until an operator has decided.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kiroworkers.errors import UnknownApproval


@frozen
class Approval:
    """
    Represent an agent's question whether it may use a tool, until it is decided.

    Times are in seconds on the reactor's clock.

    Attributes:
        id: The identifier that operators use.
        agent: The name of the agent.
        worker: The name of the worker.
        request: The number of the request, as in the log.
        question: The question in the agent's words.
        asked_at: When the agent asked.
        deadline: When the request ends and the use is denied; None if it has no deadline.
    """

    id: str
    agent: str
    worker: str
    request: int
    question: str
    asked_at: float
    deadline: float | None


class Approvals:
    """
    Hold the undecided questions of all agents.

    Each session has at most one undecided question here.

    Attributes:
        on_change: Called when a question has come or is no longer undecided.

    Args:
        clock: The reactor's clock.
        new_id: Returns a new identifier, which nobody can guess.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, new_id: Callable[[], str]) -> None:
        self._clock = clock
        self._new_id = new_id
        self.on_change: Callable[[], None] = lambda: None
        self._pending: dict[str, tuple[Approval, Callable[[bool], None]]] = {}

    def pending(self) -> list[Approval]:
        """
        Return the undecided questions, the oldest first.
        """
        return [approval for approval, _ in self._pending.values()]

    def add(
        self,
        agent: str,
        worker: str,
        request: int,
        question: str,
        deadline: float | None,
        on_decision: Callable[[bool], None],
    ) -> Callable[[], None]:
        """
        Add `question`, for operators to decide.

        Args:
            agent: The name of the agent.
            worker: The name of the worker.
            request: The number of the request.
            question: The question in the agent's words.
            deadline: When the request ends.
            on_decision: Called once, with whether the use is allowed.

        Returns:
            A function that withdraws the question; it does nothing once the question is decided.
        """
        id, now = self._new_id(), self._clock.seconds()
        approval = Approval(id, agent, worker, request, question, now, deadline)
        self._pending[id] = approval, on_decision
        self._log.warn(
            "{worker}: an operator must decide about a tool (approval {id}): {question}",
            worker=worker,
            id=id,
            question=question,
        )

        def withdraw() -> None:
            if self._pending.pop(id, None) is not None:
                self.on_change()

        self.on_change()
        return withdraw

    def decide(self, id: str, allow: bool) -> None:
        """
        Decide the question `id`.

        Raises:
            UnknownApproval: If it is not pending: it was never added, was decided or withdrawn.
        """
        try:
            _, on_decision = self._pending.pop(id)
        except KeyError:
            raise UnknownApproval(id) from None
        on_decision(allow)
        self.on_change()
