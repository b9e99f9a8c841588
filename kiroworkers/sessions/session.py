"""
The life of one process: from its start to its end, one turn at a time.

::

    starting ──▶ idle ──ask──▶ busy ──answered──▶ clearing ──▶ idle
                  │             │ given up                ▲
                  └─ strayed ──▶└──▶ interrupting ──▶ settling

What happens in which state is the table `_REACTIONS`.  An event that is not in
it was not to be expected, so the session is no longer understood: it is ended,
and its worker starts another.  The only way back to idle after anything but a
plain answer leads through a proven prompt and a confirmed clear, so late output
has nobody to answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from kiroworkers.errors import (
    AgentRefused,
    AgentUnavailable,
    OutputTooLong,
    SessionLost,
    WorkError,
)
from kiroworkers.sessions.process import Groups, TerminalProcess
from kiroworkers.terminal import (
    Answered,
    Cleared,
    Conversation,
    Event,
    NeedsApproval,
    NeedsChoice,
    NeedsConfirmation,
    Overflowed,
    Ready,
    Strayed,
    Submitted,
    Troubled,
)

#: Troubles that are the prompt's, not the agent's.
_OF_THE_PROMPT = {"context_full"}


class State(Enum):
    """
    Where in its life a session is; the values are what `/health` says.
    """

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    CLEARING = "clearing"
    INTERRUPTING = "interrupting"
    SETTLING = "settling"
    STOPPING = "stopping"
    GONE = "gone"


@frozen
class Limits:
    """
    How long a session may take, in seconds.

    @ivar startup: from its start to its prompt.
    @ivar cancel: for the prompt to come back after an interrupt or a clear.
    @ivar stop: from SIGTERM to SIGKILL.
    @ivar settle: after an interrupt, how long the prompt must stay before
        anything is typed: when an answer and the interrupt cross, the interrupt
        is read at the prompt and draws a second one.
    """

    startup: float
    cancel: float
    stop: float
    settle: float = 0.2


class Session:
    """
    One process and its conversation.

    @param name: for the log.
    @param launch: starts the process on its PTY; may raise `OSError`.
    @param on_idle: called whenever the session can be asked.
    @param on_gone: called once, when the process is gone, with the reason.
    """

    _log = Logger()

    def __init__(
        self,
        name: str,
        clock: IReactorTime,
        conversation: Conversation,
        launch: Callable[[TerminalProcess], None],
        groups: Groups,
        limits: Limits,
        on_idle: Callable[[], None],
        on_gone: Callable[[str], None],
    ) -> None:
        self.name = name
        self.state = State.STARTING
        self.since = self.last_activity = clock.seconds()
        self._clock = clock
        self._conversation = conversation
        self._launch = launch
        self._limits = limits
        self._on_idle = on_idle
        self._on_gone = on_gone
        self._process = TerminalProcess(
            clock, groups, limits.stop, heard=self._heard, ended=self._ended
        )
        self._alarm: IDelayedCall | None = None
        self._reply: Deferred[str] | None = None
        self._end_reason: str | None = None
        self._was_ready = False

    @property
    def pid(self) -> int | None:
        """
        The process's id, which is its group's too; None without a process.
        """
        return self._process.pid

    # What others may ask of it.

    def start(self) -> None:
        """
        Start the process.

        @raise OSError: when it cannot be started; the session is gone then.
        """
        try:
            self._launch(self._process)
        except OSError:
            self.state = State.GONE
            raise
        self._enter(State.STARTING, self._limits.startup, "it showed no prompt")

    def ask(self, prompt: str) -> Deferred[str]:
        """
        Ask `prompt` of an idle session.  Fires with the text of the turn, or
        fails with a `WorkError`; cancelling it interrupts the turn.
        """
        assert self.state is State.IDLE, f"{self.name} is {self.state.value}, not idle"
        typed = self._conversation.ask(prompt)
        reply: Deferred[str] = Deferred(lambda _: self._give_up())
        self._reply = reply
        self.last_activity = self._clock.seconds()
        self._enter(State.BUSY)
        self._process.write(typed)
        return reply

    def stop(self, reason: str) -> None:
        """
        End the process, whatever it is doing.
        """
        if self.state not in (State.STOPPING, State.GONE):
            self._end_reason = reason
            self._enter(State.STOPPING)
            self._process.hang_up()

    # What happens to it.

    def _heard(self, data: bytes) -> None:
        self.last_activity = self._clock.seconds()
        try:
            for event in self._conversation.feed(data):
                self._happened(event)
        except Exception:
            # A fault of ours must not leave a session that nobody understands.
            self._log.failure("{name}: while reading its output", name=self.name)
            self.stop("a fault while reading its output")

    def _happened(self, event: Event) -> None:
        if self.state in (State.STOPPING, State.GONE):
            return
        react = _REACTIONS.get((self.state, type(event)))
        if react is None:
            self.stop(f"unexpected while {self.state.value}: {event}")
        else:
            react(self, event)

    def _rest(self, _: Event) -> None:
        self._was_ready = True
        self._enter(State.IDLE)
        self._on_idle()

    def _deliver(self, event: Any) -> None:
        reply, self._reply = self._reply, None
        self._clear()
        if reply is not None:
            reply.callback(event.text)

    def _fail(self, trouble: Any) -> None:
        """
        No answer comes.  A prompt may be there already, or a menu that waits.
        """
        self._log.warn("{name}: {trouble}", name=self.name, trouble=trouble)
        reply, self._reply = self._reply, None
        if self._conversation.at_prompt:
            self._clear()
        else:
            self._interrupt()
        if reply is not None:
            reply.errback(_problem(trouble))

    def _give_in(self, _: Any) -> None:
        self.stop("it waits for somebody")

    def _choose(self, event: Any) -> None:
        self._log.info("{name}: at a menu: {question}", name=self.name, question=event.question)
        self._process.write(event.keys)

    def _deny(self, event: Any) -> None:
        self._log.warn("{name}: denied: {question}", name=self.name, question=event.question)
        self._process.write(self._conversation.deny())

    def _cut_off(self, event: Any) -> None:
        reply, self._reply = self._reply, None
        self._interrupt()
        if reply is not None:
            reply.errback(OutputTooLong(event.limit))

    def _give_up(self) -> None:
        self._reply = None
        if self.state is State.BUSY:
            self._interrupt()

    def _interrupt(self) -> None:
        typed = self._conversation.interrupt()
        if self._conversation.at_prompt:
            self._settle()
        else:
            self._await_prompt()
            self._process.write(typed)

    def _interrupt_now(self, _: Event) -> None:
        self._process.write(self._conversation.interrupt())

    def _await_prompt(self, _: Event | None = None) -> None:
        self._enter(State.INTERRUPTING, self._limits.cancel, "its prompt did not come back")

    def _settle(self, _: Event | None = None) -> None:
        self._enter(State.SETTLING)
        self._alarm = self._clock.callLater(self._limits.settle, self._clear)

    def _clear(self) -> None:
        if self._conversation.at_prompt:
            self._enter(State.CLEARING, self._limits.cancel, "it confirmed no clear")
            self._process.write(self._conversation.clear())
        else:
            self._await_prompt()

    def _confirm(self, _: Event) -> None:
        self._process.write(self._conversation.confirm_clear())

    def _ended(self, how: str) -> None:
        trouble = self._conversation.trouble
        self._enter(State.GONE)
        reason = self._end_reason or how
        if trouble is None:
            reason += self._last_words()
        else:
            reason = f"{trouble.kind}: {trouble.detail} ({reason})"
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.errback(SessionLost(reason) if trouble is None else _problem(trouble))
        self._on_gone(reason)

    def _last_words(self) -> str:
        """
        What it said last, if it never came to its prompt: later, that may be
        what a client said.
        """
        last = self._conversation.last_seen.rpartition("\n")[2][-200:]
        return f", after {last!r}" if last and not self._was_ready else ""

    def _enter(self, state: State, limit: float | None = None, otherwise: str = "") -> None:
        """
        Be in `state`, for at most `limit` seconds; `otherwise` says what then
        went wrong.
        """
        if self._alarm is not None and self._alarm.active():
            self._alarm.cancel()
        self._alarm = None
        self.state = state
        self.since = self._clock.seconds()
        if limit is not None:
            reason = f"{otherwise} within {limit:g} s"
            self._alarm = self._clock.callLater(limit, self.stop, reason)


def _problem(trouble: Troubled) -> WorkError:
    if trouble.kind in _OF_THE_PROMPT:
        return AgentRefused(trouble.kind, trouble.detail)
    return AgentUnavailable(trouble.kind, trouble.detail, trouble.retry_after)


_REACTIONS: Mapping[tuple[State, type[Any]], Callable[[Session, Any], None]] = {
    (State.STARTING, Ready): Session._rest,
    (State.STARTING, NeedsChoice): Session._choose,
    (State.STARTING, Troubled): Session._give_in,
    (State.IDLE, Strayed): Session._await_prompt,
    (State.BUSY, Submitted): lambda session, event: None,
    (State.BUSY, Answered): Session._deliver,
    (State.BUSY, NeedsApproval): Session._deny,
    (State.BUSY, Troubled): Session._fail,
    (State.BUSY, Overflowed): Session._cut_off,
    (State.CLEARING, NeedsConfirmation): Session._confirm,
    (State.CLEARING, Cleared): Session._rest,
    (State.INTERRUPTING, Submitted): Session._interrupt_now,
    (State.INTERRUPTING, Ready): Session._settle,
    (State.SETTLING, Ready): Session._settle,
    (State.SETTLING, Strayed): Session._await_prompt,
}
