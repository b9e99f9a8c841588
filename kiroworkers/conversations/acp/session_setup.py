"""
Open an ACP session, with the options that each of our sessions needs.

Opening takes several requests.  `SessionSetup` says which one comes next, and takes in the
response to it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from attrs import define, evolve, field, frozen

from kiroworkers.conversations.acp.texts import error_text, printable
from kiroworkers.conversations.dialects.dialect import Engine
from kiroworkers.conversations.events import AgentFailure
from kiroworkers.conversations.failures import FailurePattern, find_failure
from kiroworkers.errors import FailureKind

#: The longest identifier that is accepted, in characters.
_MAX_ID_LENGTH = 500

#: The maximum number of models, and of values of an option, that are read.
_MAX_CHOICES = 300

#: How often an option is set until the agent confirms it.  The response to one request may
#: still list the options from before the request.
_MAX_ATTEMPTS = 4

_NO_SESSION_ID = "the agent returned no session ID"

#: The option of Kiro v3 that makes it use tools without asking.
_AUTOPILOT = "autopilot"


@frozen
class Option:
    """
    Represent an option of a session.

    Attributes:
        id: Its identifier.
        value: Its current value.
        choices: The values that the agent offers.
        category: The kind of option, such as ``model``; empty if the agent does not say.
    """

    id: str
    value: str
    choices: tuple[str, ...] = ()
    category: str = ""


@frozen
class AcpSession:
    """
    Represent a session that the agent has opened.

    Attributes:
        id: The session's identifier.
        mode: The mode, which is the agent's configuration; empty if the agent names none.
        model: The model that answers; empty if it is unknown.
        models: The models that the agent offers; empty if it names none.
        options: The session's options, by their identifiers.
    """

    id: str
    mode: str = ""
    model: str = ""
    models: tuple[str, ...] = ()
    options: Mapping[str, Option] = field(factory=dict)

    def with_options(self, update: Mapping[str, Any]) -> AcpSession:
        """
        Return the session with the options that an update or a response lists.
        """
        options = {option.id: option for option in _read_options(update.get("configOptions"))}
        if not options:
            return self
        session = evolve(self, options=options)
        model = session.model_option
        if model is not None:
            session = evolve(session, model=model.value, models=model.choices)
        return session

    @property
    def model_option(self) -> Option | None:
        """
        Return the option that selects the model; None if there is none.
        """
        for option in self.options.values():
            if "model" in (option.id, option.category):
                return option
        return None

    def select_model(self, model: str, engine: Engine) -> tuple[str, Mapping[str, Any]]:
        """
        Return the method and the parameters of the request that selects `model`.
        """
        option = self.model_option
        if option is not None or engine == "v3":
            # Engine v3 has the option from the beginning, but may list it late.
            return self.set_option("model" if option is None else option.id, model)
        return "session/set_model", {"sessionId": self.id, "modelId": model}

    def set_option(self, option: str, value: str) -> tuple[str, Mapping[str, Any]]:
        """
        Return the method and the parameters of the request that sets an option.
        """
        params = {"sessionId": self.id, "configId": option, "value": value}
        return "session/set_config_option", params


@frozen
class SessionNeeds:
    """
    Hold what each session of an agent needs.

    Attributes:
        folder: The working directory, as an absolute path.
        engine: The engine behind the protocol.
        agent_name: The configuration that must run; empty for any.
        model: The model to select; empty for the agent's own choice.
        effort: The reasoning effort to select; empty for the agent's own choice.
        meta: The ``_meta`` of the request for a session; None for none.
        failures: The texts by which a failure is recognized.
        remedy: What an operator can do if the agent resumes earlier sessions.
    """

    folder: str
    engine: Engine = ""
    agent_name: str = ""
    model: str = ""
    effort: str = ""
    meta: Mapping[str, Any] | None = None
    failures: tuple[FailurePattern, ...] = ()
    remedy: str = ""


@define
class _Step:
    """
    Represent a request that changes a setting of the open session.

    Attributes:
        method: The method.
        params: The parameters.
        required: Whether the session cannot be used without the setting.
        confirmed: Whether the response must list the option with its new value.
        failure: The kind of failure if the setting is refused.
        attempts: How often the request was sent.
    """

    method: str
    params: Mapping[str, Any]
    required: bool = True
    confirmed: bool = False
    failure: FailureKind = FailureKind.PROTOCOL
    attempts: int = 0


class SessionSetup:
    """
    Open one session.

    Attributes:
        session: The session, as soon as the agent has opened it; None before.
        failure: Why the session cannot be used; None if it can, or is not open yet.
        refused: Whether the agent refused to open a session.
    """

    def __init__(self, needs: SessionNeeds) -> None:
        self._needs = needs
        self._steps: deque[_Step] = deque()
        self.session: AcpSession | None = None
        self.failure: AgentFailure | None = None
        self.refused = False

    def next_request(self) -> tuple[str, Mapping[str, Any]] | None:
        """
        Return the method and the parameters of the next request; None if none is left.
        """
        needs = self._needs
        if self.session is None:
            params = {"cwd": needs.folder, "mcpServers": []}
            return "session/new", params if needs.meta is None else {**params, "_meta": needs.meta}
        if not self._steps or self.failure is not None:
            return None
        step = self._steps[0]
        step.attempts += 1
        return step.method, step.params

    def take_response(self, result: Mapping[str, Any], error: Mapping[str, Any] | None) -> None:
        """
        Take in the response to the last request.
        """
        if self._steps:
            self._finish_step(self._steps[0], result, error)
        elif error is not None:
            self.refused = True
            self.failure = self._failure_from(error_text(error), FailureKind.AGENT_ERROR)
        else:
            session = _read_session(result)
            if session is None:
                self.fail(_NO_SESSION_ID)
            else:
                self.session = session
                self._steps.extend(self._needed_steps(session))

    def note_missing_agent(self, detail: str) -> None:
        """
        Note that the agent's configuration does not exist.
        """
        if self._needs.agent_name and self.failure is None:
            self.fail(detail)

    def update_options(self, id: Any, update: Mapping[str, Any]) -> None:
        """
        Take in the options of the session `id`, if it is the one that is being opened.
        """
        if self.session is not None and self.session.id == id:
            self.session = self.session.with_options(update)

    def _needed_steps(self, session: AcpSession) -> Iterator[_Step]:
        needs = self._needs
        # Engine v3 has the option, whether it lists it or not.
        if _AUTOPILOT in session.options or needs.engine == "v3":
            yield _Step(*session.set_option(_AUTOPILOT, "off"))
        if needs.agent_name and session.mode != needs.agent_name:
            mode = session.options.get("mode")
            if mode is None:
                self.fail(
                    f"the agent runs {session.mode or 'an unknown configuration'} instead of "
                    f"{needs.agent_name}"
                )
                return
            yield _Step(*session.set_option("mode", needs.agent_name), confirmed=True)
        if needs.model and session.models and needs.model not in session.models:
            self.failure = model_gone(needs.model)
        elif needs.model and needs.model != session.model:
            yield _Step(
                *session.select_model(needs.model, needs.engine), failure=FailureKind.MODEL_GONE
            )
        if needs.effort:
            yield _Step(*session.set_option("effortLevel", needs.effort), required=False)

    def _finish_step(
        self, step: _Step, result: Mapping[str, Any], error: Mapping[str, Any] | None
    ) -> None:
        """
        Take in the response to a setting, and go on to the next one if it was made.
        """
        if error is not None:
            if step.required:
                self.failure = self._failure_from(error_text(error), step.failure)
            else:
                self._steps.popleft()
            return
        session = self.session
        assert session is not None, "settings are made after the session was opened"
        session = session.with_options(result)
        if step.failure is FailureKind.MODEL_GONE:
            session = evolve(session, model=self._needs.model)
        self.session = session
        wanted = step.params.get("value")
        listed = {option.id: option.value for option in _read_options(result.get("configOptions"))}
        value = listed.get(step.params.get("configId", ""))
        # If the result lists no options, the setting counts as made.
        unlisted = "configOptions" not in result and not step.confirmed
        if value == wanted or not step.required or unlisted:
            self._steps.popleft()
        elif step.attempts >= _MAX_ATTEMPTS:
            name = step.params.get("configId")
            self.failure = AgentFailure(
                step.failure,
                f"the agent did not set its option {name} to {wanted}; it is {value or 'unknown'}",
            )

    def fail(self, detail: str) -> None:
        """
        Give up the session, because the agent violates its protocol.
        """
        self.failure = AgentFailure(FailureKind.PROTOCOL, detail)

    def _failure_from(self, text: str, kind: FailureKind) -> AgentFailure:
        return find_failure(self._needs.failures, text) or AgentFailure(kind, text[:300])


def model_gone(model: str) -> AgentFailure:
    """
    Return the failure of a model that the agent does not offer.
    """
    return AgentFailure(FailureKind.MODEL_GONE, f"the agent offers no model {_short(model)}")


def _read_session(result: Mapping[str, Any]) -> AcpSession | None:
    """
    Return the session in the response to ``session/new``; None if it has no identifier.
    """
    id = result.get("sessionId")
    if not isinstance(id, str) or not 0 < len(id) <= _MAX_ID_LENGTH:
        return None
    session = AcpSession(id)
    match result:
        case {"modes": {"currentModeId": str(mode)}}:
            session = evolve(session, mode=_short(mode))
    match result:
        case {"models": {"currentModelId": str(model)}}:
            session = evolve(session, model=_short(model))
    match result:
        case {"models": {"availableModels": [*models]}}:
            ids = (model.get("modelId") for model in models if isinstance(model, dict))
            session = evolve(session, models=_choices(ids))
    return session.with_options(result)


def _read_options(value: Any) -> Iterator[Option]:
    for entry in value[:_MAX_CHOICES] if isinstance(value, list) else ():
        match entry:
            case {"id": str(id), "currentValue": str(current)}:
                category = entry.get("category")
                yield Option(
                    _short(id),
                    _short(current),
                    _choices(_option_values(entry.get("options"))),
                    category if isinstance(category, str) else "",
                )


def _option_values(options: Any) -> Iterator[Any]:
    """
    Yield the values of an option, which may be in groups.
    """
    for entry in options[:_MAX_CHOICES] if isinstance(options, list) else ():
        match entry:
            case {"options": [*members]}:
                yield from (member.get("value") for member in members if isinstance(member, dict))
            case {"value": value}:
                yield value


def _choices(values: Iterator[Any]) -> tuple[str, ...]:
    names = (value for value in values if isinstance(value, str) and len(value) <= _MAX_ID_LENGTH)
    return tuple(name for name, _ in zip(names, range(_MAX_CHOICES), strict=False))


def _short(text: str) -> str:
    return printable(text, _MAX_ID_LENGTH)
