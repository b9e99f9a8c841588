"""
Drive one agent process from its start to its exit, one turn at a time.

::

    starting ──▶ idle ──ask──▶ busy ──answered──▶ clearing ──▶ idle
                  │             │ cancelled               ▲
                  └─ prompt ───▶└──▶ interrupting ──▶ settling
                     lost

The table `_HANDLERS` at the end of this module says what each state does with each
event.  An event that is not in it is unexpected: the session can no longer be trusted,
so it is ended and its worker starts another.

After anything but a plain answer, the only way back to idle leads through a confirmed
prompt and a confirmed clear, so late output can never become the answer to another
request.  If the agent cannot forget a conversation, or must not be asked to, the session
ends after its first turn.
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
    ComposerNotEmpty,
    Conversation,
    Event,
    LateOutput,
    LineTooLong,
    NeedsApproval,
    NeedsChoice,
    NeedsConfirmation,
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

#: How many times in a turn the agent is asked to repair its answer.
_MAX_REPAIRS = 1

#: How many characters of the last screen line go into the reason for an exit.
_MAX_LAST_LINE = 200

#: Kinds of failure that are caused by the prompt, not by the agent.
_PROMPT_FAILURES = {
    "context_full",
    "refusal",
    "max_tokens",
    "max_turn_requests",
    "cancelled",
    "agent_error",
}


class SessionState(Enum):
    """
    Represent the state of a session; `/health` shows the values.
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
    Represent how a session is reset between two requests.

    `CLEAR` makes the agent forget the conversation, `RECYCLE` gives each request a new
    process, and `NONE` keeps the conversation.
    """

    CLEAR = "clear"
    RECYCLE = "recycle"
    NONE = "none"


@frozen
class Reply:
    """
    Represent what the agent answered in one turn.

    Attributes:
        text: The whole text, as a reader would have seen it.
        completion: How the end of the turn was recognized.
        wrapped: Whether the agent may have wrapped long lines, so that a line break in
            `text` need not be part of the answer.
        source: Where the text was read.
        denied: The agent's requests to use a tool that were denied.
        allowed: The agent's requests to use a tool that were allowed.
        repairs: How many times the agent was asked to repair its answer.
        rejected: Whether the validator rejects even the final text.
        more_may_follow: Whether output of the turn may still be on its way, so that a
            rejection is not final.
    """

    text: str
    completion: Completion
    wrapped: bool = False
    source: Source = "terminal"
    denied: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()
    repairs: int = 0
    rejected: bool = False
    more_may_follow: bool = False


class ReplyValidator(Protocol):
    """
    Check a reply while the agent still remembers the conversation.
    """

    def __call__(self, reply: Reply, /) -> str | None:
        """
        Return a prompt that asks the agent to repair `reply`, or None to accept it.

        Return None also where a repair would be pointless.
        """


def accept_any(reply: Reply) -> str | None:
    """
    Accept every reply; this is the `ReplyValidator` that validates nothing.
    """
    return None


class Journal(Protocol):
    """
    Read the answers that an agent records in a file of its own.
    """

    def mark_prompt(self, prompt: str) -> str:
        """
        Return `prompt` with a mark that makes it different from every other prompt.
        """

    def find_answer(self, prompt: str, since: float) -> str | None:
        """
        Return the recorded answer to a marked prompt.

        Args:
            prompt: A prompt that `mark_prompt` returned.
            since: When it was submitted, in seconds since the epoch.

        Returns:
            The answer, or None if the journal has none or more than one candidate.
        """


@frozen
class SessionTimeouts:
    """
    Hold the time limits of a session, in seconds.

    Attributes:
        startup: From the start of the process to its first prompt.
        cancel: From an interrupt or a clear until the prompt is back.
        stop: From SIGTERM to SIGKILL.
        settle: How long the prompt must stay after an interrupt before anything is
            typed.  When an answer and the interrupt cross, the agent reads the interrupt
            at its prompt and draws another prompt.
        late_output: How long to wait for output that arrives after the end of its turn,
            if the conversation can send any.
    """

    startup: float
    cancel: float
    stop: float
    settle: float = 0.2
    late_output: float = 0.3


class Session:
    """
    Drive one agent process through its conversation.

    Args:
        name: Name of the worker, for the log.
        clock: Schedules the timeouts.
        conversation: Translates between prompts, bytes and events.
        launch: Starts the process; may raise `OSError`.
        groups: Registers and signals the process group.
        timeouts: The session's time limits.
        on_idle: Called each time the session becomes ready for a prompt.
        on_gone: Called once, when the process is gone, with the reason.
        allow_tools: Whether the agent may use a tool when it asks.
        journal: Where to read the text of answers; None to read the agent's output.
        reset: What happens between two turns.

    Attributes:
        name: Name of the worker.
        state: The current state.
        started_at: When the session was created, in seconds on the clock.
        since: When the current state began, in seconds on the clock.
        last_activity: When the agent last produced output or got a prompt.
        exhausted: Whether the session ended because it can serve no further turn.
        turns: How many turns were started.
        answers: How many turns ended with an answer.
    """

    _log = Logger()

    def __init__(
        self,
        name: str,
        clock: IReactorTime,
        conversation: Conversation,
        launch: Callable[[AgentProcess], None],
        groups: ProcessGroups,
        timeouts: SessionTimeouts,
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
        self._timeouts = timeouts
        self._on_idle = on_idle
        self._on_gone = on_gone
        self._process = AgentProcess(
            clock,
            groups,
            timeouts.stop,
            on_output=self._feed_output,
            on_stderr=conversation.feed_stderr,
            on_exit=self._process_exited,
        )
        self._allow_tools = allow_tools
        self._journal = journal
        self._reset = reset
        self.exhausted = False
        self.turns = self.answers = 0
        self._timer: IDelayedCall | None = None
        self._quiet_timer: IDelayedCall | None = None
        self._reply: Deferred[Reply] | None = None
        self._validate: ReplyValidator = accept_any
        self._on_text: Callable[[str], None] | None = None
        self._prompt = ""
        self._submitted_at = 0.0
        self._repairs = 0
        self._incomplete_reply: Reply | None = None
        self._had_late_output = False
        self._approvals: list[NeedsApproval] = []
        self._stop_reason: str | None = None
        self._was_ready = False

    @property
    def pid(self) -> int | None:
        """
        Return the process id, which is also the process group's; None without a process.
        """
        return self._process.pid

    @property
    def busy(self) -> bool:
        """
        Return whether a caller waits for the reply to a prompt.
        """
        return self._reply is not None

    @property
    def single_use(self) -> bool:
        """
        Return whether the session ends after its first turn.
        """
        if self._reset is Reset.CLEAR:
            return not self._conversation.can_clear
        return self._reset is Reset.RECYCLE

    @property
    def aborted(self) -> bool:
        """
        Return whether the server, not the agent, ended the session after at least one turn.
        """
        return self._stop_reason is not None and self.turns > 0

    @property
    def failure(self) -> AgentFailure | None:
        """
        Return the failure that the agent reported, or None if it has gone on since.
        """
        return self._conversation.failure

    @property
    def last_screen(self) -> str:
        """
        Return the last output of an agent that never showed its prompt.

        It is empty once the prompt was shown, because later output may quote a client.
        """
        return "" if self._was_ready else self._conversation.recent_output

    # Called by the worker.

    def start(self) -> None:
        """
        Start the process.

        Raises:
            OSError: If it cannot be started; the session is gone then.
        """
        try:
            self._launch(self._process)
        except OSError:
            self.state = SessionState.GONE
            raise
        self._enter_state(SessionState.STARTING, self._timeouts.startup, "no prompt")
        self._write(self._conversation.data_to_send())

    def ask(
        self,
        prompt: str,
        validate: ReplyValidator = accept_any,
        on_text: Callable[[str], None] | None = None,
    ) -> Deferred[Reply]:
        """
        Submit `prompt`.  The session must be idle.

        Args:
            prompt: The text of the prompt.
            validate: Checks the reply before the conversation is cleared.
            on_text: Called with each part of the answer as soon as it is final.

        Returns:
            A Deferred that fires with the reply or fails with a `WorkError`.  Cancelling
            it interrupts the turn.

        Raises:
            PromptTooLarge: If the agent cannot be given a prompt of this size.
        """
        assert self.state is SessionState.IDLE, f"{self.name} is {self.state.value}, not idle"
        try:
            data = self._encode_prompt(prompt)
        except LineTooLong as error:
            raise PromptTooLarge(error.length, error.limit) from None
        reply: Deferred[Reply] = Deferred(lambda _: self._cancel_turn())
        self._reply = reply
        self._validate, self._on_text = validate, on_text
        self._incomplete_reply = None
        self._had_late_output = False
        self._conversation.streaming = on_text is not None
        self._repairs = 0
        self.turns += 1
        self._approvals.clear()
        self._enter_state(SessionState.BUSY)
        self._write(data)
        return reply

    def _encode_prompt(self, prompt: str) -> bytes:
        """
        Return the bytes that submit `prompt`, and remember it for the journal.
        """
        if self._journal is not None:
            prompt = self._journal.mark_prompt(prompt)
        data = self._conversation.ask(prompt)
        self._prompt = prompt
        self._submitted_at = self.last_activity = self._clock.seconds()
        return data

    def stop(self, reason: str) -> None:
        """
        Terminate the process, whatever it is doing.
        """
        if self.state is SessionState.GONE:
            return
        if self.state is not SessionState.STOPPING:
            self._stop_reason = reason
            self._enter_state(SessionState.STOPPING)
        self._process.terminate()

    def quit(self, reason: str) -> None:
        """
        Ask an idle agent to quit, and terminate it if it does not; stop a busy one at once.
        """
        data = self._conversation.quit() if self.state is SessionState.IDLE else b""
        if not data:
            self.stop(reason)
            return
        self._stop_reason = reason
        self._enter_state(SessionState.STOPPING)
        self._timer = self._clock.callLater(self._timeouts.stop, self._process.terminate)
        self._process.write(data)

    # Called by the process and the timers.

    def _feed_output(self, data: bytes) -> None:
        self.last_activity = self._clock.seconds()
        self._process_events(lambda: self._conversation.feed(data))

    def _on_quiet(self) -> None:
        self._quiet_timer = None
        self._process_events(self._conversation.on_quiet)

    def _process_events(self, read_events: Callable[[], list[Event]]) -> None:
        try:
            for event in read_events():
                self._handle_event(event)
            self._write(self._conversation.data_to_send())
        except Exception:
            # After an internal error the state of the session is unknown: end it.
            self._log.failure("{name}: internal error while reading its output", name=self.name)
            self.stop("internal error while reading its output")
        self._restart_quiet_timer()

    def _restart_quiet_timer(self) -> None:
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
            self._restart_quiet_timer()

    def _handle_event(self, event: Event) -> None:
        if self.state in (SessionState.STOPPING, SessionState.GONE):
            return
        handler = _HANDLERS[self.state].get(type(event))
        if handler is None:
            self.stop(f"unexpected event while {self.state.value}: {event}")
        else:
            handler(self, event)

    # Handlers of events, as listed in `_HANDLERS`.

    def _ignore(self, event: Event) -> None:
        pass

    def _become_idle(self, event: Ready | Cleared | None = None) -> None:
        self._was_ready = True
        if not self._conversation.at_prompt:
            # The prompt appeared and went away within one read.
            self._await_prompt()
            return
        self._enter_state(SessionState.IDLE)
        self._on_idle()

    def _finish_turn(self, event: Answered) -> None:
        recorded = self._read_journal()
        self._validate_reply(
            Reply(
                event.text,
                event.completion,
                event.wrapped,
                self._conversation.source,
                repairs=self._repairs,
            )
            if recorded is None
            else Reply(recorded, event.completion, source="journal", repairs=self._repairs)
        )

    def _read_journal(self) -> str | None:
        """
        Return the answer of this turn that the agent's journal has, or None.
        """
        if self._journal is None:
            return None
        return self._journal.find_answer(self._prompt, self._submitted_at)

    def _validate_reply(self, reply: Reply, more_may_follow: bool | None = None) -> None:
        """
        Validate `reply`, then deliver it, request a repair, or wait for late output.

        Args:
            reply: What the agent answered so far.
            more_may_follow: Whether output of the turn may still be on its way; None to
                take this from the conversation.
        """
        if more_may_follow is None:
            more_may_follow = self._conversation.sends_late
        if self._reply is not None:
            repair_prompt = self._validate(evolve(reply, more_may_follow=more_may_follow))
            if repair_prompt is not None:
                if more_may_follow:
                    self._await_late_output(reply)
                    return
                if self._request_repair(repair_prompt, reply):
                    return
                reply = evolve(reply, rejected=True)
        self._deliver_reply(reply)

    def _deliver_reply(self, reply: Reply) -> None:
        """
        End the turn: fire the caller's Deferred, and clear or keep the conversation.
        """
        waiting, self._reply = self._reply, None
        # A turn without text may be one that has not begun: the prompt was lost just when
        # it was typed at.  Only a clear proves that such a turn is over.  Nor is a turn
        # over for certain if the conversation sends late and its answer came late, needed
        # a repair or was rejected.
        suspicious = self._had_late_output or self._repairs > 0 or reply.rejected
        is_over = reply.text.strip() != "" and not (self._conversation.sends_late and suspicious)
        keeps_conversation = self._reset is Reset.NONE and is_over
        if not keeps_conversation:
            self._clear()
        if waiting is not None:
            self.answers += 1
            questions = tuple(approval.question for approval in self._approvals)
            if questions and self._allow_tools:
                reply = evolve(reply, allowed=questions)
            elif questions:
                reply = evolve(reply, denied=questions)
            waiting.callback(reply)
        # The callback may have stopped the session.
        if keeps_conversation and self.state is SessionState.BUSY:
            self._keep_conversation()

    def _keep_conversation(self) -> None:
        """
        Become idle without a clear, once no more late output is expected.
        """
        if not self._conversation.sends_late:
            self._become_idle()
            return
        self._enter_state(SessionState.CLEARING)
        self._timer = self._clock.callLater(self._timeouts.late_output, self._become_idle)

    def _await_late_output(self, reply: Reply) -> None:
        """
        Wait for output that may still be on its way before `reply` is rejected.
        """
        self._cancel_timer()
        self._incomplete_reply = reply
        self._timer = self._clock.callLater(
            self._timeouts.late_output, self._stop_awaiting_late_output, reply
        )

    def _stop_awaiting_late_output(self, reply: Reply) -> None:
        self._incomplete_reply = None
        self._validate_reply(reply, more_may_follow=False)

    def _append_late_output(self, event: LateOutput) -> None:
        """
        Append late output to the reply that waits for it, and validate that again.
        """
        self._had_late_output = True
        if self._incomplete_reply is not None:
            reply, self._incomplete_reply = self._incomplete_reply, None
            self._stream_text(event)
            self._validate_reply(evolve(reply, text=reply.text + event.text))

    def _clear_after_late_output(self, event: LateOutput) -> None:
        """
        Clear a conversation whose turn went on after its end.

        Otherwise the output of the next turn could not be told from the last one's.
        """
        self._log.warn(
            "{name}: output arrived after the end of its turn, clearing the conversation",
            name=self.name,
        )
        self._clear()

    def _request_repair(self, repair_prompt: str, reply: Reply) -> bool:
        """
        Submit `repair_prompt` in the same conversation, and return whether that was possible.

        It is not if the turn already had its repair, or the agent cannot take the prompt.
        """
        # A turn without text may not have begun.
        can_submit = self._conversation.at_prompt and reply.text.strip() != ""
        if self._repairs >= _MAX_REPAIRS or not can_submit:
            return False
        try:
            data = self._encode_prompt(repair_prompt)
        except LineTooLong:
            return False
        self._repairs += 1
        self._log.info("{name}: answer rejected, requesting a repair", name=self.name)
        self._write(data)
        return True

    def _stream_text(self, event: TextChunk | LateOutput) -> None:
        if self._reply is not None and self._on_text is not None:
            self._on_text(event.text)

    def _fail_turn(self, failure: AgentFailure) -> None:
        """
        Fail the turn; the agent may be at its prompt already, or wait at a menu.
        """
        if failure.kind == "unreadable":
            recorded = self._read_journal()
            if recorded is not None:
                completion = self._conversation.completion
                self._validate_reply(
                    Reply(recorded, completion, source="journal", repairs=self._repairs)
                )
                return
        self._log.warn("{name}: turn failed: {failure}", name=self.name, failure=failure)
        waiting, self._reply = self._reply, None
        if self._conversation.at_prompt:
            self._clear()
        else:
            self._interrupt()
        if waiting is not None:
            waiting.errback(_work_error(failure))

    def _fail_startup(self, failure: AgentFailure) -> None:
        self.stop("the agent cannot start")

    def _choose_from_menu(self, event: NeedsChoice) -> None:
        self._log.info(
            "{name}: answering menu: {question}", name=self.name, question=event.question
        )
        self._write(event.keys)

    def _log_tool_use(self, event: Working) -> None:
        self._log.info("{name}: using tool: {tool}", name=self.name, tool=event.what)

    def _answer_approval(self, event: NeedsApproval) -> None:
        # A menu repeats its question for each step of the cursor.
        if event not in self._approvals[-1:]:
            self._approvals.append(event)
            self._log.warn(
                "{name}: tool use {decision}: {question}",
                name=self.name,
                decision="allowed" if self._allow_tools else "denied",
                question=event.question,
            )
        conversation = self._conversation
        self._write(conversation.allow() if self._allow_tools else conversation.deny())

    def _fail_overflowed_turn(self, event: Overflowed) -> None:
        waiting, self._reply = self._reply, None
        if self._conversation.desynchronized:
            self.stop("too much output to follow")
        else:
            self._interrupt()
        if waiting is not None:
            waiting.errback(OutputTooLong(event.limit))

    def _abort_overflow(self, event: Overflowed) -> None:
        self.stop("too much output after an interrupt")

    def _cancel_turn(self) -> None:
        self._reply = None
        if self.state is SessionState.BUSY:
            self._interrupt()

    def _interrupt(self) -> None:
        if not self._can_clear:
            self._exhaust()
            return
        data = self._conversation.interrupt()
        if self._conversation.at_prompt:
            self._settle()
        else:
            self._await_prompt()
            self._write(data)

    def _interrupt_submitted(self, event: Submitted) -> None:
        self._write(self._conversation.interrupt())

    def _empty_composer(self, event: ComposerNotEmpty) -> None:
        self._write(self._conversation.empty_composer())

    def _exhaust(self) -> None:
        """
        End a session that cannot forget its turn, or must not be asked to.
        """
        self.exhausted = True
        self.stop("a single-use session has served its request")

    def _await_prompt(self, event: PromptLost | None = None) -> None:
        self._enter_state(
            SessionState.INTERRUPTING, self._timeouts.cancel, "the prompt did not come back"
        )

    def _settle(self, event: Ready | None = None) -> None:
        """
        Wait until the prompt has stayed for a moment after an interrupt, then clear.
        """
        if event is not None and not self._conversation.interrupt_can_race:
            self._clear()
            return
        self._enter_state(SessionState.SETTLING)
        self._timer = self._clock.callLater(self._timeouts.settle, self._clear)

    @property
    def _can_clear(self) -> bool:
        return self._conversation.can_clear and self._reset is not Reset.RECYCLE

    def _clear(self) -> None:
        if not self._can_clear:
            self._exhaust()
        elif self._conversation.at_prompt:
            timeouts = self._timeouts
            timeout = timeouts.startup if self._conversation.slow_clear else timeouts.cancel
            self._enter_state(SessionState.CLEARING, timeout, "the clear was not confirmed")
            self._write(self._conversation.clear())
        else:
            self._await_prompt()

    def _confirm_clear(self, event: NeedsConfirmation) -> None:
        self._write(self._conversation.confirm_clear())

    def _process_exited(self, description: str) -> None:
        failure = self._conversation.failure
        self._enter_state(SessionState.GONE)
        self._restart_quiet_timer()
        reason = self._stop_reason or description
        if failure is None:
            reason += self._last_line()
        else:
            reason = f"{failure.kind}: {failure.detail} ({reason})"
        waiting, self._reply = self._reply, None
        if waiting is not None:
            waiting.errback(SessionLost(reason) if failure is None else _work_error(failure))
        self._on_gone(reason)

    def _last_line(self) -> str:
        line = self.last_screen.rpartition("\n")[2][-_MAX_LAST_LINE:]
        return f", after {line!r}" if line else ""

    def _enter_state(
        self, state: SessionState, timeout: float | None = None, problem: str = ""
    ) -> None:
        """
        Enter `state`, and stop the session if it is still there after `timeout` seconds.

        Args:
            state: The new state.
            timeout: Seconds that the session may stay in it; None for any time.
            problem: What went wrong when the time is over, for the reason.
        """
        self._cancel_timer()
        self.state = state
        self.since = self._clock.seconds()
        if timeout is not None:
            reason = f"{problem} within {timeout:g} s"
            self._timer = self._clock.callLater(timeout, self.stop, reason)

    def _cancel_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None


def _work_error(failure: AgentFailure) -> WorkError:
    if failure.kind == "unreadable":
        return AnswerUnreadable(failure.detail)
    if failure.kind in _PROMPT_FAILURES:
        return AgentRefused(failure.kind, failure.detail)
    return AgentUnavailable(failure.kind, failure.detail, failure.retry_after)


#: What each state does with each event.  The session is ended by an event that is not
#: listed for its state.  While stopping or gone, all events are ignored.
_HANDLERS: Mapping[SessionState, Mapping[type[Any], Callable[[Session, Any], None]]] = {
    SessionState.STARTING: {
        Ready: Session._become_idle,
        NeedsChoice: Session._choose_from_menu,
        AgentFailure: Session._fail_startup,
    },
    SessionState.IDLE: {
        PromptLost: Session._await_prompt,
        LateOutput: Session._clear_after_late_output,
    },
    SessionState.BUSY: {
        Submitted: Session._ignore,
        TextChunk: Session._stream_text,
        Working: Session._log_tool_use,
        NeedsApproval: Session._answer_approval,
        Answered: Session._finish_turn,
        LateOutput: Session._append_late_output,
        AgentFailure: Session._fail_turn,
        Overflowed: Session._fail_overflowed_turn,
    },
    SessionState.CLEARING: {
        NeedsConfirmation: Session._confirm_clear,
        Cleared: Session._become_idle,
        LateOutput: Session._clear_after_late_output,
    },
    SessionState.INTERRUPTING: {
        Submitted: Session._interrupt_submitted,
        ComposerNotEmpty: Session._empty_composer,
        Ready: Session._settle,
        Overflowed: Session._abort_overflow,
        PromptLost: Session._ignore,
        LateOutput: Session._ignore,
        # These may come from the same read as the event that made the caller cancel.
        TextChunk: Session._ignore,
        Working: Session._ignore,
    },
    SessionState.SETTLING: {
        Ready: Session._settle,
        PromptLost: Session._await_prompt,
        LateOutput: Session._ignore,
    },
}
