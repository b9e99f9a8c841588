"""
Own the ACP sessions of an agent: the current one, and the next one.

Opening a session may take seconds, so the next one is opened while a turn runs.  At most one
session is being opened at a time, and at most one is prepared.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any, TypeGuard

from attrs import evolve

from kiroworkers.conversations.acp.known_sessions import KnownSessions, resumed
from kiroworkers.conversations.acp.requests import PendingRequests, RequestKind
from kiroworkers.conversations.acp.session_setup import (
    AcpSession,
    SessionNeeds,
    SessionSetup,
)
from kiroworkers.conversations.events import AgentFailure, Cleared, NotCleared, Ready

#: The maximum number of this conversation's own session identifiers that are remembered.
MAX_USED_SESSIONS = 1000


class _Purpose(Enum):
    """
    Name what a session is opened for.
    """

    START = auto()
    CLEAR = auto()
    PREPARE = auto()
    #: A session that was to be prepared, and is needed before it is open.
    PREPARED_CLEAR = auto()


class Sessions:
    """
    Open sessions, switch between them, and end those that are no longer used.

    Bytes that a method returns must be written to the agent.

    Args:
        needs: What each session needs.
        requests: Numbers the requests.
        known: The identifiers of all sessions of this agent.

    Attributes:
        ways_to_leave: The requests that the agent offers to end a session.
        own_model: The model of the current session when no request chooses another one; empty
            if it is unknown.
    """

    def __init__(
        self, needs: SessionNeeds, requests: PendingRequests, known: KnownSessions
    ) -> None:
        self._needs = needs
        self._requests = requests
        self._known = known
        self._current: AcpSession | None = None
        self._prepared: AcpSession | None = None
        self._setup: SessionSetup | None = None
        self._purpose = _Purpose.START
        self._prepares = True
        # In the order in which they were opened.
        self._used: dict[str, None] = {}
        self.ways_to_leave: tuple[str, ...] = ()
        self.own_model = ""
        # The model that was selected last in the current session.
        self._chosen_model = ""

    @property
    def any_current(self) -> bool:
        """
        Return whether there is a current session.
        """
        return self._current is not None

    @property
    def current(self) -> AcpSession:
        """
        Return the current session.  Call it only if there is one.
        """
        assert self._current is not None, "there is no session yet"
        return self._current

    @property
    def offers_models(self) -> bool:
        """
        Return whether a session can be given another model.
        """
        return self._needs.engine != "" or (
            self._current is not None and self._current.models != ()
        )

    @property
    def can_restore_model(self) -> bool:
        """
        Return whether the current session can be given its own model again.
        """
        has_failed = self._chosen_model == self.own_model and self.current.model == ""
        return not self._chosen_model or (self.knows_own_model and not has_failed)

    @property
    def knows_own_model(self) -> bool:
        """
        Return whether the current session's own model is known, and can be selected.
        """
        offered = self.current.models
        return self.own_model != "" and (not offered or self.own_model in offered)

    def is_current(self, id: Any) -> bool:
        """
        Return whether `id` is the current session.
        """
        return self._current is not None and id == self._current.id

    def is_unknown(self, id: Any) -> TypeGuard[str]:
        """
        Return whether `id` is a session that the agent has opened by itself.
        """
        return isinstance(id, str) and id not in self._used

    def was_left(self, id: Any) -> TypeGuard[str]:
        """
        Return whether `id` is a session that was used before.
        """
        opened = None if self._setup is None else self._setup.session
        present = (self._current, self._prepared, opened)
        return (
            isinstance(id, str)
            and id in self._used
            and all(session is None or session.id != id for session in present)
        )

    def select_model(self, model: str) -> bytes:
        """
        Select the model of the current session.
        """
        self._chosen_model = model
        request = self.current.select_model(model, self._needs.engine)
        return self._requests.send(RequestKind.MODEL, *request)

    def take_model(self, result: Mapping[str, Any], error: Mapping[str, Any] | None) -> bool:
        """
        Take in the response to `select_model`, and return whether the model was selected.
        """
        if error is not None:
            # It is unknown which model answers now.
            self._current = evolve(self.current, model="")
            return False
        listed = self.current.with_options(result)
        if listed is self.current:
            self._current = evolve(listed, model=self._chosen_model)
            return True
        self._current = listed
        return listed.model == self._chosen_model

    def open_first(self) -> bytes:
        """
        Open the first session.
        """
        return self._open(_Purpose.START)

    def prepare(self) -> bytes:
        """
        Open the next session, unless it is open or being opened, or an attempt has failed.
        """
        if self._prepares and self._prepared is None and self._setup is None:
            return self._open(_Purpose.PREPARE)
        return b""

    def take_prepared(self) -> bytes | None:
        """
        Use the prepared session; return None if there is none.
        """
        if self._prepared is None:
            return None
        prepared, self._prepared = self._prepared, None
        return self._enter(prepared)

    def replace(self) -> bytes:
        """
        Use the session that is being opened, or open another one, and use it.
        """
        if self._setup is not None:
            self._purpose = _Purpose.PREPARED_CLEAR
            return b""
        return self._open(_Purpose.CLEAR)

    def take_response(
        self, result: Mapping[str, Any], error: Mapping[str, Any] | None
    ) -> tuple[bytes, Ready | Cleared | NotCleared | AgentFailure | None]:
        """
        Take in the response to a request of this object.

        Return what to write, and the event that results; None if there is no event yet.
        """
        setup = self._setup
        assert setup is not None, "a session is being opened"
        was_created = setup.session is not None
        setup.take_response(result, error)
        if setup.session is not None and not was_created:
            self._check_new(setup, setup.session)
        if setup.failure is None:
            data = self._next_request(setup)
            if data:
                return data, None
        self._setup = None
        if setup.failure is not None:
            data = b"" if setup.session is None else self._leave(setup.session)
            return self._give_up(data, setup, setup.failure)
        assert setup.session is not None, "without a failure, a session was opened"
        if self._purpose is _Purpose.PREPARE:
            self._prepared = setup.session
            return b"", None
        data = self._enter(setup.session)
        return data, Ready() if self._purpose is _Purpose.START else Cleared()

    def note_missing_agent(self, detail: str) -> None:
        """
        Note that the agent's configuration does not exist, if a session is being opened.
        """
        if self._setup is not None:
            self._setup.note_missing_agent(detail)

    def update_options(self, id: Any, update: Mapping[str, Any]) -> None:
        """
        Take in the options of the session `id`, among them the models that it offers.
        """
        if self._current is not None and id == self._current.id:
            self._current = self._current.with_options(update)
            if not self._chosen_model:
                self.own_model = self._current.model
        elif self._prepared is not None and id == self._prepared.id:
            self._prepared = self._prepared.with_options(update)
        elif self._setup is not None:
            self._setup.update_options(id, update)

    def _open(self, purpose: _Purpose) -> bytes:
        self._purpose, self._setup = purpose, SessionSetup(self._needs)
        return self._next_request(self._setup)

    def _next_request(self, setup: SessionSetup) -> bytes:
        request = setup.next_request()
        return b"" if request is None else self._requests.send(RequestKind.SESSION, *request)

    def _check_new(self, setup: SessionSetup, session: AcpSession) -> None:
        """
        Remember a new session, and give it up if any conversation had its identifier before.

        Such a session may remember the earlier conversation.  It is not ended, because another
        conversation may be using it.
        """
        if not self._known.add(session.id):
            setup.session = None
            setup.fail(resumed(session.id, self._needs.remedy))
        self._used[session.id] = None
        if len(self._used) > MAX_USED_SESSIONS:
            del self._used[next(iter(self._used))]

    def _give_up(
        self, data: bytes, setup: SessionSetup, failure: AgentFailure
    ) -> tuple[bytes, NotCleared | AgentFailure | None]:
        match self._purpose:
            case _Purpose.PREPARE:
                self._prepares = False
                return data, None
            case _Purpose.PREPARED_CLEAR:
                self._prepares = False
                return data + self._open(_Purpose.CLEAR), None
            case _Purpose.CLEAR if setup.refused:
                return data, NotCleared(failure.detail)
        return data, failure

    def _enter(self, session: AcpSession) -> bytes:
        """
        Use `session` from now on, and return the request that ends the previous one.
        """
        data = b"" if self._current is None else self._leave(self._current)
        self._current, self.own_model = session, session.model
        self._chosen_model = ""
        return data

    def _leave(self, session: AcpSession) -> bytes:
        """
        Return the requests that end `session`; empty if the agent has no such request.
        """
        methods = self.ways_to_leave
        if not methods and self._needs.engine == "v2":
            methods = ("_kiro.dev/session/terminate",)
        params = {"sessionId": session.id}
        return b"".join(self._requests.send(None, method, params) for method in methods)
