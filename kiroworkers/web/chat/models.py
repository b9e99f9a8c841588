"""
Find the agent and its model that the name of a model stands for.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from kiroworkers.errors import ErrorCode, UnknownModel
from kiroworkers.pool.agent_groups import AgentGroup, AgentGroups
from kiroworkers.web.errors import HttpError
from kiroworkers.web.request_options import may_choose, model_names

#: Models that stand for the default agent, unless an agent has that name.
DEFAULT_MODELS = ("default", "kiroworkers")

#: Longest name of an unknown model that an error quotes, in characters.
_MAX_QUOTED_NAME = 100


@frozen
class ChatModels:
    """
    Know the models that clients may name.

    Each agent is a model with the agent's name, and ``AGENT/MODEL`` is a model of the agent.
    """

    _groups: AgentGroups

    def names(self) -> Iterator[str]:
        """
        Yield the names of the models that are listed.
        """
        yield from dict.fromkeys((*self._groups.names, *DEFAULT_MODELS))
        yield from model_names(self._groups)

    def resolve(self, model: str) -> tuple[AgentGroup, str]:
        """
        Return the group of the agent that `model` names, and the name of the agent's own model.

        The name of the own model is empty if `model` only names the agent.  It is not checked.

        Raises:
            HttpError: There is no such agent.
        """
        group = self._find_group(model)
        if group is not None:
            return group, ""
        agent, _, own_model = model.partition("/")
        group = self._find_group(agent)
        if group is not None and own_model:
            return group, own_model
        names = ", ".join((*self._groups.names, DEFAULT_MODELS[0]))
        raise HttpError(
            ErrorCode.MODEL_NOT_FOUND,
            f"Unknown model {model[:_MAX_QUOTED_NAME]!r}; the models are {names}",
        )

    def check(self, model: str) -> None:
        """
        Check that clients may name `model`.

        Raises:
            HttpError: They may not.
        """
        group, own_model = self.resolve(model)
        if own_model and not may_choose(group, own_model):
            reason = UnknownModel("model", own_model, group.name)
            raise HttpError(ErrorCode.MODEL_NOT_FOUND, str(reason))

    def _find_group(self, agent: str) -> AgentGroup | None:
        for group in self._groups:
            if group.name == agent:
                return group
        return self._groups.default if agent in DEFAULT_MODELS else None
