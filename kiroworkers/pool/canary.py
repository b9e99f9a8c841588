"""
Let a version of an agent serve only after one of its sessions has answered a canary.

A canary is one turn, of a session that serves no client.  Until it passes, nothing replaces the
sessions of earlier versions, and no other session starts.  `Canary.may_start` is asked before
each start; a version goes from *new* to *on trial*, and then is *accepted*, *refused* or, for
reasons that are not its own, *inconclusive*.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from kiroworkers.agents import Agent
from kiroworkers.pool.accepted_versions import AcceptedVersions, ProgramVersion
from kiroworkers.pool.agent_source import AgentChanged, AgentSource, FileIdentity
from kiroworkers.pool.canary_turn import CanaryTurn, Inconclusive, Outcome, Passed, Refused
from kiroworkers.pool.versions import VersionOwner, VersionSnapshot, VersionState

#: The seconds until a version that did not pass is tried again, if the attempt has cost a turn and
#: if it has not, and the maximum after doubling.
_RETRY_DELAY, _FREE_RETRY_DELAY, _MAX_RETRY_DELAY = 300.0, 30.0, 6 * 3600.0

#: The largest exponent of a delay, so that it cannot overflow.
_MAX_DOUBLINGS = 32

#: Returns a turn that is not started yet, for the given agent.
NewTurn: TypeAlias = Callable[[Agent], CanaryTurn]

#: Returns a Deferred of the reason why a version needs no canary; None if it needs one.
FindReason: TypeAlias = Callable[[Agent], Deferred[str | None]]


class Canary:
    """
    Decide which versions of one agent may serve; it is a `VersionGate`.

    Args:
        clock: The reactor's clock.
        source: Has the agent that is installed.
        accepted: The versions that passed before.
        find_reason: Finds out whether the version needs no canary.
        new_turn: Makes the turn of a trial.
        on_accepted: Called with the agent whenever its version has become the accepted one.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        source: AgentSource,
        accepted: AcceptedVersions,
        find_reason: FindReason,
        new_turn: NewTurn,
        on_accepted: Callable[[Agent], None],
    ) -> None:
        self._clock = clock
        self._source = source
        self._passed_before = accepted
        self._find_reason = find_reason
        self._new_turn = new_turn
        self._on_accepted = on_accepted
        self._owner: VersionOwner | None = None
        self._state: VersionState = "new"
        self._detail = "it was not tried yet"
        # The version that serves, and the file that was tried last.
        self._current: ProgramVersion | None = None
        self._tried: FileIdentity | None = None
        # Whether the file changed during the last trial.
        self._overtaken = False
        # Whether the program that is installed could be chosen.
        self._is_chosen = True
        self._failures = 0
        self._turns = self._turns_before = 0
        self._timer: IDelayedCall | None = None
        self._turn: CanaryTurn | None = None
        self._stopped = False

    # What the pool asks; see `VersionGate`.

    @property
    def problem(self) -> str | None:
        """
        Return why no session may be started, or None if one may be, or may be soon.
        """
        if self._state not in ("refused", "inconclusive"):
            return None
        return f"{self._name()} is not accepted (--canary): {self._detail}"

    @property
    def next_attempt(self) -> float | None:
        """
        Return when a version that did not pass is tried again.
        """
        waits = self._timer is not None and self._state in ("refused", "inconclusive")
        return self._timer.getTime() if waits and self._timer is not None else None

    @property
    def gone(self) -> bool:
        """
        Return whether no session of a trial is running.
        """
        return self._turn is None

    def own(self, owner: VersionOwner, /) -> None:
        """
        Report decisions to `owner` from now on.
        """
        self._owner = owner

    def may_start(self) -> bool:
        """
        Return whether a new session may run the version that is installed.

        If that is not known, begin to find it out.  A version that did not pass is tried again
        when its time has come, or when the file has changed.
        """
        if self._state == "accepted" and self._current == self._installed():
            return True
        waits = self._timer is not None and self._source.file_identity() == self._tried
        if self._state != "on_trial" and not waits and not self._stopped:
            self._begin()
        return False

    def retry(self) -> None:
        """
        Allow another trial at once, if the last one was inconclusive.
        """
        if self._state == "inconclusive":
            self._cancel_timer()

    def stop(self) -> None:
        """
        End the session of a trial, and begin no other.
        """
        self._stopped = True
        self._cancel_timer()
        if self._turn is not None:
            self._turn.stop()

    def snapshot(self) -> VersionSnapshot | None:
        """
        Return what is known about the version that is installed.
        """
        seconds = None if self.next_attempt is None else self.next_attempt - self._clock.seconds()
        return VersionSnapshot(
            self._state,
            self._version(),
            self._detail,
            None if seconds is None else max(0, math.ceil(seconds)),
            self._turns,
        )

    # How a version is tried.

    def _begin(self) -> None:
        self._cancel_timer()
        if self._source.file_identity() != self._tried:
            self._failures = 0
        self._tried = self._source.file_identity()
        self._turns_before = self._turns
        self._state, self._detail = "on_trial", "its canary is under way"
        # Not at once: the pool is asking, and a decision changes its workers.
        self._timer = self._clock.callLater(0, self._start_trial)

    def _start_trial(self) -> None:
        self._timer = None
        Deferred.fromCoroutine(self._try()).addErrback(self._on_bug)

    def _on_bug(self, failure: Failure) -> None:
        self._log.failure("canary: internal error", failure)
        self._decline("inconclusive", "internal error; see the log")

    async def _try(self) -> None:
        checked = self._source.check()
        try:
            if checked is not None:
                await checked
        except AgentChanged:
            pass
        except OSError as error:
            # `source.agent` is still the one before.
            self._is_chosen = False
            if not self._stopped:
                self._decline("refused", str(error))
            return
        self._is_chosen = True
        agent, version = self._source.agent, self._installed()
        # It may be in another folder now.
        self._tried = self._source.file_identity()
        reason: str | None = "it has passed before"
        if version is None or version not in self._passed_before:
            reason = await self._find_reason(agent)
        if self._stopped or self._has_changed(version):
            return
        assert version is not None, "it has not changed, so its file exists"
        if reason is not None:
            self._accept(agent, version, reason)
            return
        self._log.info("canary: {version}: trial started; it costs one turn", version=self._name())
        outcome = await self._ask(agent)
        if self._stopped or self._has_changed(version):
            return
        match outcome:
            case Passed():
                self._passed_before.add(version)
                self._accept(agent, version, "its canary has passed")
            case Refused(reason):
                self._decline("refused", reason)
            case Inconclusive(reason, failure, at_start):
                if failure is not None and self._owner is not None:
                    # First: it is what requests without a session are told.
                    self._owner.canary_failed(failure, at_start)
                self._decline("inconclusive", reason)

    async def _ask(self, agent: Agent) -> Outcome:
        if self._owner is not None and not self._owner.has_memory_for_canary():
            return Inconclusive("there is too little memory for another session")
        self._turn = turn = self._new_turn(agent)
        turn.start()
        outcome = await turn.finished
        self._turn = None
        self._turns += turn.cost
        if self._stopped and self._owner is not None:
            # It waits for this session as for the others.
            self._owner.version_decided()
        return outcome

    def _has_changed(self, version: ProgramVersion | None) -> bool:
        """
        Return whether the file is another one than `version`, and begin again if so.

        That is done once at a time: a program may change its own file whenever it runs, and each
        trial may cost a turn.
        """
        if version is not None and self._installed() == version:
            return False
        if self._source.file_identity() is None:
            self._decline("inconclusive", "its program is gone")
        elif self._overtaken:
            self._tried = self._source.file_identity()
            self._decline("inconclusive", "its file changed during its canary again")
            self._overtaken = True
        else:
            self._overtaken = True
            self._begin()
        return True

    def _accept(self, agent: Agent, version: ProgramVersion, reason: str) -> None:
        self._current, self._failures, self._overtaken = version, 0, False
        self._state, self._detail = "accepted", reason
        self._log.info("canary: {version} may serve: {why}", version=self._name(), why=reason)
        self._on_accepted(agent)
        self._decided()

    def _decline(self, state: VersionState, reason: str) -> None:
        """
        Keep the version from serving, and try it again later.
        """
        if self._stopped:
            return
        self._state, self._detail, self._overtaken = state, reason, False
        delay = _RETRY_DELAY if self._turns > self._turns_before else _FREE_RETRY_DELAY
        delay = min(_MAX_RETRY_DELAY, delay * 2.0 ** min(self._failures, _MAX_DOUBLINGS))
        self._failures += 1
        self._timer = self._clock.callLater(delay, self._begin)
        self._log.error(
            "canary: {version} {what}: {why}; no session starts with it; next attempt in "
            "{delay:.0f} s",
            version=self._name(),
            what="is refused" if state == "refused" else "cannot be tried",
            why=reason,
            delay=delay,
        )
        self._decided()

    def _decided(self) -> None:
        if self._owner is not None:
            self._owner.version_decided()

    # What is installed.

    def _installed(self) -> ProgramVersion | None:
        """
        Return the version that is installed, as far as its file shows; None if it has none.
        """
        agent, file = self._source.agent, self._source.file_identity()
        if file is None:
            return None
        return ProgramVersion(
            agent.name, agent.dialect.label, agent.version, file.size, file.modified
        )

    def _name(self) -> str:
        return f"{self._source.agent.name} ({self._version() or 'version unknown'})"

    def _version(self) -> str:
        return self._source.agent.version if self._is_chosen else ""

    def _cancel_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
