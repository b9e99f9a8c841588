"""
Agents side by side: each has a pool of its own, with its workers, its queue and
its outages, and knows nothing of the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attrs import frozen

from kiroworkers.agents import Agent
from kiroworkers.errors import InvalidInput
from kiroworkers.pool.dispatcher import Dispatcher


@frozen
class AgentGroup:
    """
    An agent, and the pool of its workers.
    """

    agent: Agent
    pool: Dispatcher

    @property
    def name(self) -> str:
        return self.agent.name


class AgentGroups:
    """
    At least one group, each of another name.
    """

    def __init__(self, groups: Iterable[AgentGroup]) -> None:
        self._groups = tuple(groups)

    def __iter__(self) -> Iterator[AgentGroup]:
        return iter(self._groups)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(each.name for each in self)

    @property
    def default(self) -> AgentGroup:
        """
        The first: it answers where nobody is named.
        """
        return self._groups[0]

    def named(self, name: object, field: str = "agent") -> AgentGroup:
        """
        The group called `name`, which stood in `field` of a request.

        Raises:
            InvalidInput: when there is none.
        """
        for group in self:
            if group.name == name:
                return group
        raise InvalidInput(field, f"{field} must be one of: {', '.join(self.names)}")

    def chosen(self, name: str | None) -> tuple[AgentGroup, ...]:
        """
        The group called `name`, or all without one.

        Raises:
            InvalidInput: when there is none of that name.
        """
        return tuple(self) if name is None else (self.named(name),)

    async def drain(self, timeout: float) -> bool:
        """
        Take no new work; were all requests finished within `timeout` seconds?
        """
        drained = [group.pool.drain(timeout) for group in self]
        return all([await each for each in drained])

    def hurry(self) -> None:
        """
        Wait for no request, and for no agent to quit.
        """
        for group in self:
            group.pool.hurry()
            group.pool.worker_pool.stop_now()

    def renew(self, reason: str) -> None:
        """
        A new session for every worker, one at a time in each group.
        """
        for group in self:
            group.pool.worker_pool.renew_all(reason)
