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
has nobody to answer.  A session whose agent cannot forget, or shall not be asked
to, is spent by its first turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Protocol

from attrs import evolve, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from kiroworkers.conversations import (
    AgentFailure,
    Answered,
    Cleared,
    Completion,
    Conversation,
    Event,
    LateOutput,
    LineTooLong,
    NeedsApproval,
    NeedsChoice,
    NeedsConfirmation,
    NeedsEmptying,
    Overflowed,
    PromptLost,
    Ready,
    Source,
    Submitted,
    TextChunk,
    Working,
)
from kiroworkers.errors import (
    AgentRefused,
    AgentUnavailable,
    AnswerUnreadable,
    OutputTooLong,
    PromptTooLarge,
    SessionLost,
    WorkError,
)
from kiroworkers.process.agent_process import AgentProcess, ProcessGroups

#: How often an answer is asked to be put right.
_MOST_REPAIRS = 1

#: Troubles that are the prompt's, not the agent's.
_OF_THE_PROMPT = {
    "context_full",
    "refusal",
    "max_tokens",
    "max_turn_requests",
    "cancelled",
    "agent_error",
}


class SessionState(Enum):
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


class Reset(Enum):
    """
    What keeps a request from what was said in earlier ones: the agent forgets
    the conversation, or each has a new process, or nothing does.
    """

    CLEAR = "clear"
    RECYCLE = "recycle"
    NONE = "none"


@frozen
class Reply:
    """
    What a session said in a turn.

    Attributes:
        text: all of it, as a reader would have seen it.
        completion: how the end of the turn was known.
        wrapped: a line's end in `text` may be the agent's, where the answer
            has none.
        source: where the text was read.
        denied, allowed: the questions of tools that were answered so.
        repairs: how often it was asked once more because it did not fit.
        unfit: it still does not.
        more_may_follow: output of the turn may still be on its way, so nothing is
            decided yet.
    """

    text: str
    completion: Completion
    wrapped: bool = False
    source: Source = "terminal"
    denied: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()
    repairs: int = 0
    unfit: bool = False
    more_may_follow: bool = False


class ReplyValidator(Protocol):
    """
    Whoever asked looks at what was said, while the conversation still knows it.
    """

    def __call__(self, reply: Reply, /) -> str | None:
        """
        What to ask to have `reply` put right; None where that is not needed, or
        would be in vain.
        """


def accept_any(reply: Reply) -> str | None:
    """
    As a `ReplyValidator`: whatever was said is good.
    """
    return None


class Journal(Protocol):
    """
    What an agent writes down of its sessions.
    """

    def marked(self, prompt: str) -> str:
        """
        `prompt`, so that no other session was ever asked the same.
        """

    def answer(self, prompt: str, since: float) -> str | None:
        """
        What was answered to the marked `prompt`, asked at `since` (seconds since
        the epoch); None where that is not written, or not for certain.
        """


@frozen
class SessionTimeouts:
    """
    How long a session may take, in seconds.

    Attributes:
        startup: from its start to its prompt.
        cancel: for the prompt to come back after an interrupt or a clear.
        stop: from SIGTERM to SIGKILL.
        settle: after an interrupt, how long the prompt must stay before
            anything is typed: when an answer and the interrupt cross, the interrupt
            is read at the prompt and draws a second one.
        late: how long output of a turn may arrive after its end, where the
            conversation can send it late.
    """

    startup: float
    cancel: float
    stop: float
    settle: float = 0.2
    late: float = 0.3


class Session:
    """
    One process and its conversation.

    Attributes:
        exhausted: did it end because a turn was its last?
        turns: how often it was asked.
        answers: how often it answered.

    Args:
        name: for the log.
        launch: starts the process on its PTY; may raise `OSError`.
        on_idle: called whenever the session can be asked.
        on_gone: called once, when the process is gone, with the reason.
        allow_tools: the answer to the agent's questions for a tool.
        journal: asked for the text of a turn, where the agent keeps one.
        reset: what comes between two turns.
    """

    _log = Logger()

    def __init__(
        self,
        name: str,
        clock: IReactorTime,
        conversation: Conversation,
        launch: Callable[[AgentProcess], None],
        groups: ProcessGroups,
        limits: SessionTimeouts,
        on_idle: Callable[[], None],
        on_gone: Callable[[str], None],
        allow_tools: bool = False,
        journal: Journal | None = None,
        reset: Reset = Reset.CLEAR,
    ) -> None:
        self.name = name
        self.state = SessionState.STARTING
        self.started_at = self.since = self.last_activity = clock.seconds()
        self._clock = clock
        self._conversation = conversation
        self._launch = launch
        self._limits = limits
        self._on_idle = on_idle
        self._on_gone = on_gone
        self._process = AgentProcess(
            clock,
            groups,
            limits.stop,
            heard=self._heard,
            on_stderr=conversation.feed_stderr,
            ended=self._ended,
        )
        self._allow_tools = allow_tools
        self._journal = journal
        self._reset = reset
        self.exhausted = False
        self.turns = self.answers = 0
        self._alarm: IDelayedCall | None = None
        self._quiet_timer: IDelayedCall | None = None
        self._reply: Deferred[Reply] | None = None
        self._validate: ReplyValidator = accept_any
        self._on_text: Callable[[str], None] | None = None
        self._prompt = ""
        self._repairs = 0
        self._unjudged: Reply | None = None
        self._output_was_late = False
        self._asked = 0.0
        self._questions: list[NeedsApproval] = []
        self._end_reason: str | None = None
        self._was_ready = False

    @property
    def pid(self) -> int | None:
        """
        The process's id, which is its group's too; None without a process.
        """
        return self._process.pid

    @property
    def busy(self) -> bool:
        """
        Does somebody wait for what it says?
        """
        return self._reply is not None

    @property
    def single_use(self) -> bool:
        """
        Is its first turn its last?
        """
        if self._reset is Reset.CLEAR:
            return not self._conversation.can_clear
        return self._reset is Reset.RECYCLE

    @property
    def aborted(self) -> bool:
        """
        Was it ended because of what a turn left behind?
        """
        return self._end_reason is not None and self.turns > 0

    @property
    def failure(self) -> AgentFailure | None:
        """
        What its agent says is wrong, if that is the last it said.
        """
        return self._conversation.failure

    @property
    def last_screen(self) -> str:
        """
        What it showed last, if it never came to its prompt: later, that may be
        what a client said.
        """
        return "" if self._was_ready else self._conversation.last_seen

    # What others may ask of it.

    def start(self) -> None:
        """
        Start the process.

        Raises:
            OSError: when it cannot be started; the session is gone then.
        """
        try:
            self._launch(self._process)
        except OSError:
            self.state = SessionState.GONE
            raise
        self._enter(SessionState.STARTING, self._limits.startup, "it showed no prompt")
        self._write(self._conversation.data_to_send())

    def ask(
        self,
        prompt: str,
        validate: ReplyValidator = accept_any,
        on_text: Callable[[str], None] | None = None,
    ) -> Deferred[Reply]:
        """
        Ask `prompt` of an idle session.  Fires with what it said in the turn, or
        fails with a `WorkError`; cancelling it interrupts the turn.

        Args:
            validate: looks at each answer, before it is forgotten.
            on_text: called with each piece of an answer, as soon as it is certain.

        Raises:
            PromptTooLarge: if the agent cannot be given so much.
        """
        assert self.state is SessionState.IDLE, f"{self.name} is {self.state.value}, not idle"
        try:
            typed = self._typed(prompt)
        except LineTooLong as problem:
            raise PromptTooLarge(problem.length, problem.limit) from None
        reply: Deferred[Reply] = Deferred(lambda _: self._give_up())
        self._reply = reply
        self._validate, self._on_text = validate, on_text
        self._unjudged = None
        self._output_was_late = False
        self._conversation.streaming = on_text is not None
        self._repairs = 0
        self.turns += 1
        self._questions.clear()
        self._enter(SessionState.BUSY)
        self._write(typed)
        return reply

    def _typed(self, prompt: str) -> bytes:
        """
        What to write to ask `prompt`.
        """
        if self._journal is not None:
            prompt = self._journal.marked(prompt)
        typed = self._conversation.ask(prompt)
        self._prompt = prompt
        self._asked = self.last_activity = self._clock.seconds()
        return typed

    def stop(self, reason: str) -> None:
        """
        End the process, whatever it is doing.
        """
        if self.state is SessionState.GONE:
            return
        if self.state is not SessionState.STOPPING:
            self._end_reason = reason
            self._enter(SessionState.STOPPING)
        self._process.hang_up()

    def quit(self, reason: str) -> None:
        """
        End the process: an idle agent is told to, and has some time for it.
        """
        typed = self._conversation.quit() if self.state is SessionState.IDLE else b""
        if not typed:
            self.stop(reason)
            return
        self._end_reason = reason
        self._enter(SessionState.STOPPING)
        self._alarm = self._clock.callLater(self._limits.stop, self._process.hang_up)
        self._process.write(typed)

    # What happens to it.

    def _heard(self, data: bytes) -> None:
        self.last_activity = self._clock.seconds()
        self._process_events(lambda: self._conversation.feed(data))

    def _on_quiet(self) -> None:
        self._quiet_timer = None
        self._process_events(self._conversation.on_quiet)

    def _process_events(self, read: Callable[[], list[Event]]) -> None:
        try:
            for event in read():
                self._handle_event(event)
            self._write(self._conversation.data_to_send())
        except Exception:
            # A fault of ours must not leave a session that nobody understands.
            self._log.failure("{name}: while reading its output", name=self.name)
            self.stop("a fault while reading its output")
        self._await_quiet()

    def _await_quiet(self) -> None:
        if self._quiet_timer is not None:
            self._quiet_timer.cancel()
            self._quiet_timer = None
        quiet_timeout = self._conversation.quiet_timeout
        if quiet_timeout is not None and self.state not in (
            SessionState.STOPPING,
            SessionState.GONE,
        ):
            self._quiet_timer = self._clock.callLater(quiet_timeout, self._on_quiet)

    def _write(self, data: bytes) -> None:
        if data:
            self._process.write(data)
            self._await_quiet()

    def _handle_event(self, event: Event) -> None:
        if self.state in (SessionState.STOPPING, SessionState.GONE):
            return
        react = _REACTIONS.get((self.state, type(event)))
        if react is None:
            self.stop(f"unexpected while {self.state.value}: {event}")
        else:
            react(self, event)

    def _become_idle(self, _: Event | None = None) -> None:
        self._was_ready = True
        if not self._conversation.at_prompt:
            # It came and went in one read.
            self._await_prompt()
            return
        self._enter(SessionState.IDLE)
        self._on_idle()

    def _finish_turn(self, event: Any) -> None:
        written = self._written()
        self._end_turn(
            Reply(
                event.text,
                event.completion,
                event.wrapped,
                self._conversation.source,
                repairs=self._repairs,
            )
            if written is None
            else Reply(written, event.completion, source="journal", repairs=self._repairs)
        )

    def _written(self) -> str | None:
        """
        What the agent's journal says of this turn.
        """
        if self._journal is None:
            return None
        return self._journal.answer(self._prompt, self._asked)

    def _end_turn(self, said: Reply, more_may_follow: bool | None = None) -> None:
        """
        Judge what was said, and deliver it, ask for a repair, or wait for the rest.

        Args:
            more_may_follow: output of the turn may still be on its way; None for
                what is usual of the conversation.
        """
        if more_may_follow is None:
            more_may_follow = self._conversation.sends_late
        if self._reply is not None:
            repair = self._validate(evolve(said, more_may_follow=more_may_follow))
            if repair is not None and more_may_follow:
                self._await_late_output(said)
                return
            if repair is not None and self._repair(repair, said):
                return
            if repair is not None:
                said = evolve(said, unfit=True)
        reply, self._reply = self._reply, None
        # A turn in which nothing was said may be one that has not begun: a prompt
        # that strayed just when it was typed at.  Only a clear proves that it is over.
        # Nor is it over when its answer came late, or did not fit where it could.
        strange = self._output_was_late or self._repairs > 0 or said.unfit
        ended = said.text.strip() != "" and not (self._conversation.sends_late and strange)
        keeps = self._reset is Reset.NONE and ended
        if not keeps:
            self._clear()
        if reply is not None:
            self.answers += 1
            questions = tuple(each.question for each in self._questions)
            if questions and self._allow_tools:
                said = evolve(said, allowed=questions)
            elif questions:
                said = evolve(said, denied=questions)
            reply.callback(said)
        if keeps and self.state is SessionState.BUSY:
            self._keep()

    def _keep(self) -> None:
        """
        Go on in the same conversation, once no late output can be expected.
        """
        if not self._conversation.sends_late:
            self._become_idle()
            return
        self._enter(SessionState.CLEARING)
        self._alarm = self._clock.callLater(self._limits.late, self._become_idle)

    def _await_late_output(self, said: Reply) -> None:
        """
        Wait for output that is still on its way before an answer is rejected.
        """
        self._cancel_alarm()
        self._unjudged = said
        self._alarm = self._clock.callLater(self._limits.late, self._stop_waiting, said)

    def _stop_waiting(self, said: Reply) -> None:
        self._unjudged = None
        self._end_turn(said, more_may_follow=False)

    def _append_late_output(self, event: Any) -> None:
        """
        Add late output to the answer that waits for it.
        """
        self._output_was_late = True
        if self._unjudged is not None:
            said, self._unjudged = self._unjudged, None
            self._pass_on_text(event)
            self._end_turn(evolve(said, text=said.text + event.text))

    def _clear_after_late_output(self, _: Event) -> None:
        """
        Leave a conversation that went on after the end of its turn: the output of the
        next turn could not be told from the last one's.
        """
        self._log.warn("{name}: output came after the end of its turn", name=self.name)
        self._clear()

    def _repair(self, prompt: str, said: Reply) -> bool:
        """
        Ask `prompt` in the same conversation, unless that was done before, or is
        not to be had.
        """
        # Where nothing was said, the turn may not have begun.
        at_prompt = self._conversation.at_prompt and said.text.strip() != ""
        if self._repairs >= _MOST_REPAIRS or not at_prompt:
            return False
        try:
            typed = self._typed(prompt)
        except LineTooLong:
            return False
        self._repairs += 1
        self._log.info("{name}: its answer did not fit: asking once more", name=self.name)
        self._write(typed)
        return True

    def _pass_on_text(self, event: Any) -> None:
        if self._reply is not None and self._on_text is not None:
            self._on_text(event.text)

    def _fail(self, failure: Any) -> None:
        """
        No answer comes.  A prompt may be there already, or a menu that waits.
        """
        if failure.kind == "unreadable":
            written = self._written()
            if written is not None:
                completion = self._conversation.completion
                self._end_turn(Reply(written, completion, source="journal", repairs=self._repairs))
                return
        self._log.warn("{name}: {trouble}", name=self.name, failure=failure)
        reply, self._reply = self._reply, None
        if self._conversation.at_prompt:
            self._clear()
        else:
            self._interrupt()
        if reply is not None:
            reply.errback(_problem(failure))

    def _fail_startup(self, _: Any) -> None:
        self.stop("it cannot go on")

    def _choose(self, event: Any) -> None:
        self._log.info("{name}: at a menu: {question}", name=self.name, question=event.question)
        self._write(event.keys)

    def _tell(self, event: Any) -> None:
        self._log.info("{name}: at work: {what}", name=self.name, what=event.what)

    def _answer_for_tool(self, event: Any) -> None:
        # A menu asks again for each step of the cursor.
        if event not in self._questions[-1:]:
            self._questions.append(event)
            said = "allowed" if self._allow_tools else "denied"
            self._log.warn("{name}: {said}: {q}", name=self.name, said=said, q=event.question)
        conversation = self._conversation
        self._write(conversation.allow() if self._allow_tools else conversation.deny())

    def _cut_off(self, event: Any) -> None:
        reply, self._reply = self._reply, None
        if self._conversation.lost:
            self.stop("it printed too much to be followed")
        else:
            self._interrupt()
        if reply is not None:
            reply.errback(OutputTooLong(event.limit))

    def _abort_overflow(self, _: Event) -> None:
        self.stop("it printed too much after its interrupt")

    def _give_up(self) -> None:
        self._reply = None
        if self.state is SessionState.BUSY:
            self._interrupt()

    def _interrupt(self) -> None:
        if not self._can_clear:
            self._exhaust()
            return
        typed = self._conversation.interrupt()
        if self._conversation.at_prompt:
            self._settle()
        else:
            self._await_prompt()
            self._write(typed)

    def _interrupt_now(self, _: Event) -> None:
        self._write(self._conversation.interrupt())

    def _empty(self, _: Event) -> None:
        self._write(self._conversation.empty())

    def _exhaust(self) -> None:
        """
        The agent cannot forget this turn, or shall not try, so it is its last.
        """
        self.exhausted = True
        self.stop("it served its one request")

    def _await_prompt(self, _: Event | None = None) -> None:
        self._enter(SessionState.INTERRUPTING, self._limits.cancel, "its prompt did not come back")

    def _settle(self, prompted: Event | None = None) -> None:
        if prompted is not None and not self._conversation.interrupts_cross:
            self._clear()
            return
        self._enter(SessionState.SETTLING)
        self._alarm = self._clock.callLater(self._limits.settle, self._clear)

    @property
    def _can_clear(self) -> bool:
        return self._conversation.can_clear and self._reset is not Reset.RECYCLE

    def _clear(self) -> None:
        if not self._can_clear:
            self._exhaust()
        elif self._conversation.at_prompt:
            limits = self._limits
            limit = limits.startup if self._conversation.clears_as_it_starts else limits.cancel
            self._enter(SessionState.CLEARING, limit, "it confirmed no clear")
            self._write(self._conversation.clear())
        else:
            self._await_prompt()

    def _confirm(self, _: Event) -> None:
        self._write(self._conversation.confirm_clear())

    def _ended(self, how: str) -> None:
        failure = self._conversation.failure
        self._enter(SessionState.GONE)
        self._await_quiet()
        reason = self._end_reason or how
        if failure is None:
            reason += self._last_words()
        else:
            reason = f"{failure.kind}: {failure.detail} ({reason})"
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.errback(SessionLost(reason) if failure is None else _problem(failure))
        self._on_gone(reason)

    def _last_words(self) -> str:
        last = self.last_screen.rpartition("\n")[2][-200:]
        return f", after {last!r}" if last else ""

    def _enter(self, state: SessionState, limit: float | None = None, otherwise: str = "") -> None:
        """
        Be in `state`, for at most `limit` seconds; `otherwise` says what then
        went wrong.
        """
        self._cancel_alarm()
        self.state = state
        self.since = self._clock.seconds()
        if limit is not None:
            reason = f"{otherwise} within {limit:g} s"
            self._alarm = self._clock.callLater(limit, self.stop, reason)

    def _cancel_alarm(self) -> None:
        if self._alarm is not None and self._alarm.active():
            self._alarm.cancel()
        self._alarm = None


def _problem(failure: AgentFailure) -> WorkError:
    if failure.kind == "unreadable":
        return AnswerUnreadable(failure.detail)
    if failure.kind in _OF_THE_PROMPT:
        return AgentRefused(failure.kind, failure.detail)
    return AgentUnavailable(failure.kind, failure.detail, failure.retry_after)


_REACTIONS: Mapping[tuple[SessionState, type[Any]], Callable[[Session, Any], None]] = {
    (SessionState.STARTING, Ready): Session._become_idle,
    (SessionState.STARTING, NeedsChoice): Session._choose,
    (SessionState.STARTING, AgentFailure): Session._fail_startup,
    (SessionState.IDLE, PromptLost): Session._await_prompt,
    (SessionState.IDLE, LateOutput): Session._clear_after_late_output,
    (SessionState.BUSY, Submitted): lambda session, event: None,
    (SessionState.BUSY, TextChunk): Session._pass_on_text,
    (SessionState.BUSY, Working): Session._tell,
    (SessionState.BUSY, Answered): Session._finish_turn,
    (SessionState.BUSY, NeedsApproval): Session._answer_for_tool,
    (SessionState.BUSY, AgentFailure): Session._fail,
    (SessionState.BUSY, Overflowed): Session._cut_off,
    (SessionState.BUSY, LateOutput): Session._append_late_output,
    (SessionState.CLEARING, LateOutput): Session._clear_after_late_output,
    (SessionState.CLEARING, NeedsConfirmation): Session._confirm,
    (SessionState.CLEARING, Cleared): Session._become_idle,
    # Of the same read as what had the turn given up.
    (SessionState.INTERRUPTING, TextChunk): lambda session, event: None,
    (SessionState.INTERRUPTING, Working): lambda session, event: None,
    (SessionState.INTERRUPTING, Overflowed): Session._abort_overflow,
    (SessionState.INTERRUPTING, Submitted): Session._interrupt_now,
    (SessionState.INTERRUPTING, PromptLost): lambda session, event: None,
    (SessionState.INTERRUPTING, NeedsEmptying): Session._empty,
    (SessionState.INTERRUPTING, Ready): Session._settle,
    (SessionState.INTERRUPTING, LateOutput): lambda session, event: None,
    (SessionState.SETTLING, Ready): Session._settle,
    (SessionState.SETTLING, LateOutput): lambda session, event: None,
    (SessionState.SETTLING, PromptLost): Session._await_prompt,
}
