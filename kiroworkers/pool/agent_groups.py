"""
Run several agents side by side, each with a dispatcher of its own.

A group shares nothing with the others: it has its own workers, queue and circuit
breaker.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from attrs import define

from kiroworkers.agents import Agent
from kiroworkers.errors import InvalidInput
from kiroworkers.pool.dispatcher import Dispatcher
from kiroworkers.proof.shipped import UNPROVEN, Proof
from kiroworkers.session.end_cause import EndReason


@define
class AgentGroup:
    """
    Hold an agent and the dispatcher of its workers.

    Attributes:
        agent: The agent that new sessions run; another one when its program was replaced.
        dispatcher: The dispatcher of its workers.
        model_patterns: The models that clients may choose, as names or shell patterns.
        proof: What was proven about the agent's version.
    """

    agent: Agent
    dispatcher: Dispatcher
    model_patterns: tuple[str, ...] = ()
    proof: Proof = UNPROVEN

    @property
    def name(self) -> str:
        """
        Return the agent's name, as used in ``X-Agent`` and as a model's name.
        """
        return self.agent.name

    def offers_model(self, name: str) -> bool:
        """
        Return whether the agent may offer the model `name`.

        Until a session of the agent has named its models, the agent may offer any.
        """
        sessions = self.dispatcher.worker_pool.sessions()
        # It is unknown what a session that is still starting can do.
        ready = [session for session in sessions if session.was_ready]
        if ready and not any(session.selects_models for session in ready):
            return False
        offered = self._offered_models()
        return not offered or name in offered

    def allows_model(self, name: str) -> bool:
        """
        Return whether clients may choose the model `name`, and the agent offers it.
        """
        return self._matches(name) and self.offers_model(name)

    def models(self) -> tuple[str, ...]:
        """
        Return the models that clients may choose, as far as the agent has named its models.
        """
        return tuple(name for name in self._offered_models() if self._matches(name))

    @property
    def accepts_images(self) -> bool:
        """
        Return whether the agent may accept images.

        Until a session has been ready, an agent that speaks ACP may.
        """
        if self.agent.dialect.transport != "acp":
            return False
        sessions = self.dispatcher.worker_pool.sessions()
        ready = [session for session in sessions if session.was_ready]
        return not ready or any(session.accepts_images for session in ready)

    def _offered_models(self) -> tuple[str, ...]:
        sessions = self.dispatcher.worker_pool.sessions()
        return tuple(dict.fromkeys(name for session in sessions for name in session.models))

    def _matches(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.model_patterns)


class AgentGroups:
    """
    Hold one or more agent groups with distinct names.
    """

    def __init__(self, groups: Iterable[AgentGroup]) -> None:
        self._groups = tuple(groups)

    def __iter__(self) -> Iterator[AgentGroup]:
        return iter(self._groups)

    @property
    def names(self) -> tuple[str, ...]:
        """
        Return the names of all groups, in the order in which they were configured.
        """
        return tuple(group.name for group in self)

    @property
    def default(self) -> AgentGroup:
        """
        Return the first group, which serves requests that name no agent.
        """
        return self._groups[0]

    def find(self, name: object, field: str = "agent") -> AgentGroup:
        """
        Return the group called `name`.

        Args:
            name: The name that a request gave; anything but a known name is refused.
            field: The request's field or header that held the name.

        Raises:
            InvalidInput: No group has this name.
        """
        for group in self:
            if group.name == name:
                return group
        raise InvalidInput(field, f"{field} must be one of: {', '.join(self.names)}")

    def select(self, name: str | None) -> tuple[AgentGroup, ...]:
        """
        Return the group called `name` alone, or all groups if `name` is None.

        Raises:
            InvalidInput: No group has this name.
        """
        return tuple(self) if name is None else (self.find(name),)

    def announce_drain(self) -> None:
        """
        Report that no group is ready for more requests, though they are still accepted.
        """
        for group in self:
            group.dispatcher.announce_drain()

    async def drain(self, timeout: float) -> bool:
        """
        Accept no more requests, and wait until those in progress are finished.

        Args:
            timeout: The longest wait, in seconds.

        Returns:
            Whether all requests were finished in time.
        """
        drains = [group.dispatcher.drain(timeout) for group in self]
        return all([await drained for drained in drains])

    def stop_now(self) -> None:
        """
        Stop waiting for requests to finish and for agents to quit.
        """
        for group in self:
            group.dispatcher.stop_now()

    def restart_workers(self, reason: EndReason) -> None:
        """
        Give every worker a new session, one worker at a time in each group.

        Args:
            reason: Why, for the log.
        """
        for group in self:
            group.dispatcher.restart_workers(reason)
