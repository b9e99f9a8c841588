"""
Agents side by side: each has a pool of its own, with its workers, its queue and
its outages, and knows nothing of the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attrs import frozen

from kiroworkers.agents import Agent
from kiroworkers.errors import BadInput
from kiroworkers.pool.dispatcher import Pool


@frozen
class Group:
    """
    An agent, and the pool of its workers.
    """

    agent: Agent
    pool: Pool

    @property
    def name(self) -> str:
        return self.agent.name


class Groups:
    """
    At least one group, each of another name.
    """

    def __init__(self, groups: Iterable[Group]) -> None:
        self._groups = tuple(groups)

    def __iter__(self) -> Iterator[Group]:
        return iter(self._groups)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(each.name for each in self)

    @property
    def default(self) -> Group:
        """
        The first: it answers where nobody is named.
        """
        return self._groups[0]

    def named(self, name: object, field: str = "agent") -> Group:
        """
        The group called `name`, which stood in `field` of a request.

        @raise BadInput: when there is none.
        """
        for group in self:
            if group.name == name:
                return group
        raise BadInput(field, f"{field} must be one of: {', '.join(self.names)}")

    def chosen(self, name: str | None) -> tuple[Group, ...]:
        """
        The group called `name`, or all without one.

        @raise BadInput: when there is none of that name.
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
            group.pool.crew.stop_now()

    def renew(self, reason: str) -> None:
        """
        A new session for every worker, one at a time in each group.
        """
        for group in self:
            group.pool.crew.renew_all(reason)
