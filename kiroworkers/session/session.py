"""
Drive one agent process from its start to its exit, one turn at a time.

`TABLE` at the end of this module is the state machine: for each state and event, what is
done and which state follows.  ``docs/architecture.rst`` shows it as a diagram.  An event
that is not in the table is unexpected: the session can no longer be trusted, so it is
ended and its worker starts another.

While a turn is `answered`, the conversation is kept open and the caller decides: it asks
again in the same conversation, reads on, or ends the turn.

After anything but a plain answer, the only way back to idle leads through a confirmed
prompt and a confirmed clear, so late output can never become the answer to another
request.  If the agent cannot forget a conversation, or must not be asked to, the session
ends after its first turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, TypeAlias

from attrs import evolve, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from kiroworkers.conversations import (
    AgentFailure,
    Answered,
    Cleared,
    ComposerNotEmpty,
    Conversation,
    Event,
    LateOutput,
    LineTooLong,
    NeedsApproval,
    NeedsChoice,
    NeedsConfirmation,
    NotCleared,
    Notice,
    Overflowed,
    PromptLost,
    Ready,
    Submitted,
    TextChunk,
    TextDiscarded,
    ToolUsed,
    Usage,
    Working,
)
from kiroworkers.errors import (
    AgentRefused,
    AgentUnavailable,
    FailureKind,
    OutputTooLong,
    PromptTooLarge,
    SessionLost,
    WorkError,
)
from kiroworkers.images import Image, without_base64, without_images
from kiroworkers.process.agent_process import AgentProcess
from kiroworkers.request_record import RequestRecord
from kiroworkers.session.client_words import ClientWords
from kiroworkers.session.end_cause import EndCause, EndReason
from kiroworkers.session.journal import Journal
from kiroworkers.session.last_output import LastOutput, last_line, quoted
from kiroworkers.session.observer import SessionObserver
from kiroworkers.session.state import SessionState
from kiroworkers.session.tool_policy import ToolPolicy
from kiroworkers.session.tools import AskOperator, TurnTools
from kiroworkers.session.turn import OnEvent, Reply, Turn

#: The longest reason for the end of a session, in characters.
_MAX_REASON = 2000


class Input(Enum):
    """
    Represent what happens to a session besides the events of its conversation.

    The values are the labels in the diagram.
    """

    ASK = "ask()"
    ASK_AGAIN = "ask_again()"
    READ_ON = "read_on()"
    END_TURN = "end_turn()"
    CANCEL = "cancelled"
    RECORDED = "answer in the journal"
    QUIET = "a quiet moment"
    QUIT = "quit()"
    TOOL_NOT_PERMITTED = "tool not permitted"
    STOP = "stop(), time limit, unexpected event"
    NOT_STARTED = "cannot start"
    EXITED = "process ended"


#: What a session reacts to: an input, or the type of an event of its conversation.
Trigger: TypeAlias = Input | type[Event]


class Reset(Enum):
    """
    Represent how a session is reset between two requests.

    `CLEAR` makes the agent forget the conversation, `RECYCLE` gives each request a new
    process, and `NONE` keeps the conversation.
    """

    CLEAR = "clear"
    RECYCLE = "recycle"
    NONE = "none"


class CannotAskAgain(Exception):
    """
    Raised when the conversation of an answered turn takes no other prompt.
    """


@frozen
class SessionTimeouts:
    """
    Hold the time limits of a session, in seconds.

    Attributes:
        startup: From the start of the process to its first prompt.
        cancel: From an interrupt or a clear until the prompt is back.
        stop: From SIGTERM to SIGKILL.
        settle: How long the prompt must be stable after an interrupt before anything is
            typed.  When an answer and the interrupt cross, the agent reads the interrupt at
            its prompt and draws another prompt.
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
        launch: Starts the process; may raise `OSError`.  If it returns a Deferred, the process
            has started when that fires; it may fail, and may be cancelled.
        timeouts: The session's time limits.
        on_idle: Called each time the session becomes ready for a prompt.
        on_gone: Called once, when the process is gone, with the reason.
        tools: Who decides when the agent asks to use a tool.
        journal: Where to read the text of answers; None to read the agent's output.
        reset: What happens between two turns.
        observer: What observes the session, if anything.

    Attributes:
        name: Name of the worker.
        state: The current state.
        started_at: When the session was created, in seconds on the clock.
        since: When the current state began, in seconds on the clock.
        last_activity: When the agent last produced output or got a prompt.
        exhausted: Whether the session ended because it can serve no further turn.
        launch_failure: Why `launch` could not start the process, if other sessions cannot start
            either.
        turns: How many turns were started.
        answers: How many turns ended with an answer.
        cause: Why the session ended, without what may quote a client; empty while it runs.
        end_cause: The same in one word.
    """

    _log = Logger()

    def __init__(
        self,
        name: str,
        clock: IReactorTime,
        conversation: Conversation,
        launch: Callable[[AgentProcess], Deferred[None] | None],
        timeouts: SessionTimeouts,
        on_idle: Callable[[], None],
        on_gone: Callable[[str], None],
        tools: ToolPolicy = ToolPolicy.DENY,
        journal: Journal | None = None,
        reset: Reset = Reset.CLEAR,
        observer: SessionObserver | None = None,
    ) -> None:
        self._observer = observer
        self.name = name
        self.state = SessionState.STARTING
        self.started_at = self.since = self.last_activity = clock.seconds()
        self._clock = clock
        self._conversation = conversation
        conversation.expects_clear = reset is Reset.CLEAR
        self._launch = launch
        self._timeouts = timeouts
        self._on_idle = on_idle
        self._on_gone = on_gone
        self._process = AgentProcess(
            clock,
            timeouts.stop,
            on_output=self._feed_output,
            on_stderr=self._feed_stderr,
            on_exit=lambda description: self._handle(Input.EXITED, description),
        )
        conversation.collects_lines = self._process.collects_lines
        self._tools = tools
        self._journal = journal
        self._reset = reset
        self.exhausted = False
        self.launch_failure: AgentFailure | None = None
        self.turns = self.answers = 0
        self.cause = ""
        self.end_cause = EndCause.EXITED
        self._timer: IDelayedCall | None = None
        self._settle_timer: IDelayedCall | None = None
        # How often the conversation was cleared since the session was idle.
        self._clears = 0
        self._quiet_timer: IDelayedCall | None = None
        self._turn = Turn(TurnTools(name, tools, self._answer_approval))
        self._client_words = ClientWords()
        self._stop_reason: EndReason | None = None
        self._state_before_end = SessionState.STARTING
        self._was_ready = False
        self._launching: Deferred[None] | None = None
        self._last_output = LastOutput()

    @property
    def pid(self) -> int | None:
        """
        Return the id of the session's supervisor, the root of its processes; None without one.
        """
        return self._process.pid

    @property
    def busy(self) -> bool:
        """
        Return whether a turn is in progress, which ends when its caller has its reply.
        """
        return self._turn.pending is not None or self.answered

    @property
    def answered(self) -> bool:
        """
        Return whether the caller has a reply and must decide how to go on.
        """
        return self.state is SessionState.ANSWERED

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
    def was_ready(self) -> bool:
        """
        Return whether the session has ever shown its prompt.
        """
        return self._was_ready

    @property
    def selects_models(self) -> bool:
        """
        Return whether `ask` can be given a model.
        """
        return self._conversation.selects_models

    @property
    def accepts_images(self) -> bool:
        """
        Return whether `ask` can be given images; it is not known before `was_ready`.
        """
        return self._conversation.accepts_images

    @property
    def models(self) -> tuple[str, ...]:
        """
        Return the models that the agent offers; empty if it has not named any.
        """
        return self._conversation.models

    @property
    def context_percent(self) -> float | None:
        """
        Return how much of the context the last answer left filled, in percent; None if unknown.
        """
        reply = self._turn.reply
        return None if reply is None else reply.usage.context_percent

    @property
    def failure(self) -> AgentFailure | None:
        """
        Return the failure that the agent reported, or None if it has since resumed.
        """
        failure = self._conversation.failure
        return self.launch_failure or (
            None if failure is None else self._client_words.judge(failure)
        )

    @property
    def last_screen(self) -> str:
        """
        Return the last output of an agent that never showed its prompt.

        It is empty once the prompt has been shown, because later output may quote a client.
        """
        return "" if self._was_ready else self._conversation.recent_output

    # Called by the worker.

    def start(self) -> None:
        """
        Start the process.

        Raises:
            OSError: If it cannot be started; the session is then gone.
        """
        try:
            launching = self._launch(self._process)
        except OSError as problem:
            self.end_cause = EndCause.NOT_STARTED
            self._handle(Input.NOT_STARTED)
            self._notify(SessionState.STARTING, f"could not start: {problem}")
            raise
        self._enter_state(SessionState.STARTING)
        if launching is None:
            self._launched(None)
        else:
            self._launching = launching
            launching.addCallbacks(self._launched, self._not_launched)

    def _launched(self, _: None) -> None:
        self._launching = None
        self._log.info("{worker}: started, pid {pid}", worker=self.name, pid=self.pid)
        self._write(self._conversation.data_to_send())

    def _not_launched(self, failure: Failure) -> None:
        self._launching = None
        if self.end_cause is EndCause.EXITED:
            self.end_cause = EndCause.NOT_STARTED
        self._handle(Input.EXITED, f"could not start: {failure.getErrorMessage()}")

    def ask(
        self,
        prompt: str,
        on_event: OnEvent | None = None,
        model: str = "",
        ask_operator: AskOperator | None = None,
        record: RequestRecord | None = None,
        images: Sequence[Image] = (),
    ) -> Deferred[Reply]:
        """
        Submit `prompt`.  The session must be idle.

        The conversation stays open after the reply until `end_turn` is called.

        Args:
            prompt: The text of the prompt.
            on_event: Called with each part of the answer as soon as it is final, and with the
                other events of the turn.
            model: The model that is to answer; empty for the session's own.
            ask_operator: Asks an operator whether the agent may use a tool, if the session's
                `ToolPolicy` is `ASK`.
            record: The record of the request that the turn belongs to, if any.
            images: The images to send with the prompt, if the session `accepts_images`.

        Returns:
            A Deferred that fires with the reply or fails with a `WorkError`.  Cancelling
            it interrupts and ends the turn.

        Raises:
            PromptTooLarge: If the agent cannot be given a prompt of this size.
            AgentUnavailable: If the agent cannot be given a model.
        """
        assert self.state is SessionState.IDLE, f"{self.name} is {self.state.value}, not idle"
        if model and not self.selects_models:
            # Another version of the agent offered the model, and has been replaced since.
            raise AgentUnavailable(FailureKind.MODEL_GONE, f"The agent cannot use model {model!r}")
        queues = self._conversation.source == "protocol"
        record = record or RequestRecord()
        tools = TurnTools(
            self.name, self._tools, self._answer_approval, ask_operator, queues, request=record
        )
        context = self._turn.context_percent
        self._turn = Turn(tools, on_event, model, context, record=record, images=images)
        try:
            data = self._encode_prompt(prompt, images)
        except LineTooLong as error:
            raise PromptTooLarge(error.length, error.limit) from None
        self._conversation.streaming = on_event is not None
        self.turns += 1
        return self._await_reply(Input.ASK, data)

    def ask_again(self, prompt: str) -> Deferred[Reply]:
        """
        Submit `prompt` in the conversation of an answered turn.

        Returns:
            A Deferred as that of `ask`.

        Raises:
            CannotAskAgain: If the turn is over or may not have begun, or if the agent
                cannot be given a prompt of this size.
        """
        if not (self.answered and self._conversation.at_prompt and self._turn.has_text):
            raise CannotAskAgain
        try:
            data = self._encode_prompt(prompt)
        except LineTooLong:
            raise CannotAskAgain from None
        self._turn.reply, self._turn.doubtful = None, True
        return self._await_reply(Input.ASK_AGAIN, data)

    def read_on(self) -> Deferred[Reply]:
        """
        Wait for output of an answered turn that may still be on its way.

        Returns:
            A Deferred as that of `ask`.  The reply has the text so far and what follows it;
            it is the same text if nothing follows in time.
        """
        assert self.answered, f"{self.name} is {self.state.value}, not answered"
        self._turn.doubtful = True
        return self._await_reply(Input.READ_ON)

    def end_turn(self) -> None:
        """
        End an answered turn: clear its conversation, or keep it for the next one.
        """
        if self.answered:
            self.answers += 1
            self._turn.ended_at = self._clock.seconds()
            self._handle(Input.END_TURN)

    def _await_reply(self, trigger: Input, data: bytes = b"") -> Deferred[Reply]:
        reply: Deferred[Reply] = Deferred(lambda _: self._cancel_turn())
        self._turn.pending = reply
        self._handle(trigger, data)
        return reply

    def _cancel_turn(self) -> None:
        self._turn.pending = None
        self._turn.ended_at = self._clock.seconds()
        if self.state is SessionState.BUSY:
            self._handle(Input.CANCEL)

    def _encode_prompt(self, prompt: str, images: Sequence[Image] = ()) -> bytes:
        """
        Return the bytes that submit `prompt` with `images`, and remember it for the journal.
        """
        if self._journal is not None:
            prompt = self._journal.mark_prompt(prompt)
        data = self._conversation.ask(prompt, self._turn.model, images)
        self._turn.prompt = prompt
        self._client_words.add(prompt, self._turn.model)
        self.last_activity = self._clock.seconds()
        self._last_output.clear()
        if self._observer is not None:
            described = "".join(f"[image {n}: {image}]\n" for n, image in enumerate(images, 1))
            self._observer.asked(self._turn.record, described + prompt)
        return data

    def stop(self, reason: EndReason) -> None:
        """
        Terminate the process, whatever it is doing.
        """
        if self.state is not SessionState.GONE:
            self._handle(Input.STOP, reason)

    def quit(self, reason: EndReason) -> None:
        """
        Ask an idle agent to quit, and terminate it if it does not; stop a busy one at once.
        """
        keys = self._conversation.quit() if self.state is SessionState.IDLE else b""
        if keys:
            self._stop_reason = reason
            self.end_cause = reason.cause
            self._handle(Input.QUIT, keys)
        else:
            self.stop(reason)

    # Called by the process and the timers.

    def _feed_stderr(self, data: bytes) -> None:
        # An agent may log what it was sent.
        data = without_base64(data)
        if self._observer is not None:
            self._observer.stderr(data)
        self._last_output.add(data)
        self._conversation.feed_stderr(data)

    def _feed_output(self, data: bytes) -> None:
        self.last_activity = self._clock.seconds()
        if self._observer is not None:
            self._observer.output(data)
        if self._conversation.source != "protocol":
            self._last_output.add(data)
        self._process_events(lambda: self._conversation.feed(data))
        if self._turn.awaits_output and self._conversation.answer_started:
            self._turn.report_first_output()

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
            self._log.failure(
                "{worker}: internal error while reading its output (request {requestId})",
                log_without_message=True,
                worker=self.name,
                requestId=self._turn.record.id or "-",
            )
            sentence = "internal error while reading its output"
            self.stop(EndReason(EndCause.INTERNAL_ERROR, sentence))
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
            self._type(data)
        # Even if nothing is written, because a prepared clear needs no output of the agent.
        self._restart_quiet_timer()

    def _type(self, data: bytes) -> None:
        if self._observer is not None:
            # The images are large, and may show what nobody else is to see.
            self._observer.typed(without_images(data, self._turn.images))
        self._process.write(data)

    def _handle_event(self, event: Event) -> None:
        tools = self._turn.tools
        match event:
            case NeedsApproval() if self.state is SessionState.BUSY and tools.exceeds_limit(event):
                tools.hold(event)
                self._handle(Input.CANCEL)
                self._fail_denied_turn(event)
            case ToolUsed() if not tools.permits(event):
                self._record_tool_use(event)
                self._handle(Input.TOOL_NOT_PERMITTED, event)
            case Answered() | AgentFailure(kind=FailureKind.UNREADABLE) if (
                self._journal is not None and self.state is SessionState.BUSY
            ):
                self._find_recorded_answer(self._journal, event)
            case _:
                self._handle(type(event), event)

    def _find_recorded_answer(self, journal: Journal, event: Event) -> None:
        """
        Handle the answer that `journal` has to the turn that `event` ends.

        Handle `event` if there is none.
        """
        turn = self._turn

        def on_found(text: str | None) -> None:
            # Meanwhile the turn may have been cancelled, or the process may have ended.
            if self.state is not SessionState.BUSY or self._turn is not turn:
                return
            if text is None:
                self._handle(type(event), event)
            else:
                usage = event.usage if isinstance(event, Answered) else Usage()
                completion = self._conversation.completion
                self._handle(Input.RECORDED, Answered(text, completion, usage=usage))

        def on_failure(failure: Failure) -> None:
            self._log.failure(
                "{worker}: cannot read the journal (request {requestId})",
                failure,
                worker=self.name,
                requestId=turn.record.id or "-",
            )
            on_found(None)

        journal.find_answer(turn.prompt).addCallbacks(on_found, on_failure)

    def _handle(self, trigger: Trigger, payload: Any = None) -> None:
        """
        Do what `TABLE` says about `trigger` in the current state.

        The next state is entered first, so that actions which call the owner show it.

        Args:
            trigger: What happened.
            payload: What the actions need to know about it, such as the event.
        """
        for transition in TABLE[self.state].get(trigger, ()):
            if transition.condition is None or transition.condition.holds(self):
                if transition.next_state is not None:
                    self._enter_state(transition.next_state)
                for action in transition.actions:
                    action(self, payload)
                return
        if self.state not in (SessionState.STOPPING, SessionState.GONE):
            sentence = f"unexpected event while {self.state.value}: {payload or trigger}"
            self.stop(EndReason(EndCause.UNEXPECTED_EVENT, sentence))

    def _enter_state(self, state: SessionState) -> None:
        """
        Enter `state`, and stop the session if it stays there for too long.
        """
        self._cancel_timers()
        if not {state, self.state} <= _IN_TURN:
            self.since = self._clock.seconds()
        if state is not SessionState.BUSY:
            self._turn.tools.withdraw()
        if state in (SessionState.IDLE, SessionState.INTERRUPTING):
            self._was_ready = True
        old, self.state = self.state, state
        if state in (SessionState.STOPPING, SessionState.GONE):
            self._state_before_end = old  # `_notify` follows when the reason is known.
        elif state is not old:
            self._notify(old)
        if old is SessionState.BUSY:
            self._turn.images = ()
        if old is SessionState.BUSY and state is not SessionState.ANSWERED:
            self._turn.awaits_output = False
            if state in (SessionState.INTERRUPTING, SessionState.SETTLING):
                self._turn.record.report("interrupted", worker=self.name)
        timeouts = self._timeouts
        match state:
            case SessionState.STARTING:
                self._limit_state(timeouts.startup, EndCause.START_TIMEOUT, "no prompt")
            case SessionState.CLEARING:
                slow = self._conversation.slow_clear
                timeout = timeouts.startup if slow else timeouts.cancel
                problem = "the clear was not confirmed"
                self._limit_state(timeout, EndCause.CLEAR_TIMEOUT, problem)
            case SessionState.INTERRUPTING:
                problem = "the prompt did not come back"
                self._limit_state(timeouts.cancel, EndCause.INTERRUPT_TIMEOUT, problem)

    def _notify(self, old: SessionState, reason: str = "") -> None:
        if self._observer is not None:
            self._observer.state_changed(old, self.state, reason)

    def _limit_state(self, timeout: float, cause: EndCause, problem: str) -> None:
        reason = EndReason(cause, f"{problem} within {timeout:g} s")
        self._timer = self._clock.callLater(timeout, self.stop, reason)

    def _cancel_timers(self) -> None:
        for timer in (self._timer, self._settle_timer):
            if timer is not None and timer.active():
                timer.cancel()
        self._timer = self._settle_timer = None

    def _await_quiet(self, seconds: float) -> None:
        """
        Make `Input.QUIET` happen in `seconds`, unless the session leaves its state before.

        Another call restarts the time.
        """
        if self._settle_timer is not None and self._settle_timer.active():
            self._settle_timer.cancel()
        self._settle_timer = self._clock.callLater(seconds, self._handle, Input.QUIET)

    # The actions in `TABLE`.  The last argument is what `_handle` was called with.

    def _announce_idle(self, _: object) -> None:
        if self._clears:
            self._client_words.forget()
        self._clears = 0
        self._turn.report_cleared(self.name, self._clock.seconds())
        self._on_idle()

    def _submit(self, data: bytes) -> None:
        self._write(data)

    def _report_submitted(self, _: object) -> None:
        self._turn.report_submitted()

    def _keep_answer(self, event: Answered) -> None:
        if self._turn.awaits_output:
            # Only its end was recognized.
            self._turn.report_first_output()
        self._turn.tools.drop_unanswered()
        self._turn.reply = Reply(
            event.text,
            event.completion,
            event.wrapped,
            self._conversation.source,
            styled=event.styled,
            usage=event.usage,
            more_may_follow=self._conversation.sends_late,
        )

    def _keep_recorded_answer(self, event: Answered) -> None:
        self._keep_answer(event)
        assert self._turn.reply is not None, "it was just kept"
        self._turn.reply = evolve(self._turn.reply, source="journal")

    def _append_late_output(self, event: LateOutput) -> None:
        self._turn.doubtful = True
        reply = self._turn.reply
        if reply is not None:
            self._turn.report(TextChunk(event.text))
            self._turn.reply = evolve(reply, text=reply.text + event.text)

    def _expect_nothing_more(self, _: object) -> None:
        reply = self._turn.reply
        assert reply is not None, "the turn was answered"
        self._turn.reply = evolve(reply, more_may_follow=False)

    def _deliver(self, _: object) -> None:
        """
        Give the reply to the caller, which decides how the turn goes on.
        """
        reply, pending = self._turn.current_reply(), self._turn.take_pending()
        if pending is not None:
            if self._observer is not None:
                self._observer.replied(reply.text)
            pending.callback(reply)

    def _await_late_output(self, _: object) -> None:
        self._await_quiet(self._timeouts.late_output if self._conversation.sends_late else 0)

    def _warn_of_late_output(self, event: LateOutput) -> None:
        # Without a clear, the output of the next turn could not be told apart from this.
        self._turn.doubtful = True
        self._log_turn(
            LogLevel.warn, "output arrived after the end of its turn, clearing the conversation"
        )

    def _report(self, event: TextChunk | TextDiscarded) -> None:
        if self._turn.awaits_output:
            self._turn.report_first_output()
        if isinstance(event, TextDiscarded):
            reason = "the agent's service restarted its answer"
            self._turn.record.report("retry", reason=reason, where="same_turn")
        self._turn.report(event)

    def _report_notice(self, event: Notice) -> None:
        self._log_notice(event)
        self._turn.record.report("notice", kind=event.kind, detail=event.detail)
        self._turn.report(event)

    def _log_notice(self, event: Notice) -> None:
        self._log_turn(LogLevel.info, "{kind}: {detail}", kind=event.kind, detail=event.detail)

    def _fail_turn(self, failure: AgentFailure) -> None:
        failure = self._client_words.judge(failure)
        if failure.kind.probe_delays is None or failure.quoted:
            # It concerns this request only, and may quote it.
            self._log_turn(LogLevel.warn, "turn failed: {kind}", kind=failure.kind)
        else:
            self._log_turn(
                LogLevel.warn,
                "turn failed: {kind}: {detail}",
                kind=failure.kind,
                detail=failure.detail,
            )
        self._fail_pending(self._turn.error(failure))

    def _fail_denied_turn(self, event: NeedsApproval) -> None:
        self._log_turn(LogLevel.warn, "turn ended: the agent asked for too many tools")
        self._fail_pending(AgentRefused(FailureKind.APPROVAL_DENIED, event.question))

    def _fail_overflowed_turn(self, event: Overflowed) -> None:
        self._fail_pending(OutputTooLong(event.limit))

    def _fail_pending(self, problem: WorkError) -> None:
        pending = self._turn.take_pending()
        if pending is not None:
            self._turn.ended_at = self._clock.seconds()
            pending.errback(problem)

    def _choose_from_menu(self, event: NeedsChoice) -> None:
        self._log_turn(LogLevel.info, "answering menu: {question}", question=event.question)
        self._write(event.keys)

    def _log_tool_use(self, event: Working) -> None:
        self._log_turn(LogLevel.info, "using tool: {tool}", tool=event.what)

    def _record_tool_use(self, event: ToolUsed) -> None:
        self._turn.tools.record(event)
        self._turn.record.report(
            "tool_used", title=event.title, access=event.access, asked=event.asked
        )
        known = event.asked or (event.access == "read" and event.inside)
        self._log_turn(
            LogLevel.info if known else LogLevel.warn,
            "tool used: {title} ({access})"
            if event.asked
            else "tool used without asking: {title} ({access})",
            title=event.title,
            access=event.access,
        )

    def _log_turn(self, level: Any, text: str, **facts: object) -> None:
        """
        Log what happens in a turn, with the request that the turn belongs to.

        Args:
            level: The level of the event.
            text: Its format.
            **facts: Its fields.
        """
        request = self._turn.record.id
        about = " (request {requestId})" if request else ""
        self._log.emit(
            level, f"{{worker}}: {text}{about}", worker=self.name, requestId=request, **facts
        )

    def _decide_approval(self, event: NeedsApproval) -> None:
        self._turn.tools.decide(event)

    def _deny_late_approval(self, event: NeedsApproval) -> None:
        self._turn.tools.deny_late(event)

    def _deny_unanswered(self, _: object) -> None:
        # Otherwise the text that is typed next would answer the question.
        self._turn.tools.deny_unanswered()

    def _answer_approval(self, allow: bool) -> None:
        self._write(self._conversation.allow() if allow else self._conversation.deny())

    def _interrupt(self, _: object) -> None:
        self._write(self._conversation.interrupt())

    def _empty_composer(self, event: ComposerNotEmpty) -> None:
        self._write(self._conversation.empty_composer())

    def _settle(self, _: object) -> None:
        self._await_quiet(self._timeouts.settle)

    def _clear(self, _: object) -> None:
        self._clears += 1
        self._conversation.turn_may_go_on = self._turn.doubtful
        self._write(self._conversation.clear())

    def _confirm_clear(self, event: NeedsConfirmation) -> None:
        self._write(self._conversation.confirm_clear())

    def _exhaust(self, _: object) -> None:
        self.exhausted = True
        self._end(EndCause.SINGLE_USE, "a single-use session has served its request")

    def _renew(self, _: object) -> None:
        self.exhausted = True
        sentence = "clearing the conversation does not empty the model's context"
        self._end(EndCause.CONTEXT_FULL, sentence)

    def _abort_tainted(self, event: ToolUsed) -> None:
        sentence = f"the agent used a tool without asking: {event.title}"
        self._end(EndCause.TOOL_NOT_PERMITTED, sentence)
        detail = f"it used a tool without asking: {event.title}"
        self._fail_pending(AgentRefused(FailureKind.TOOL_NOT_PERMITTED, detail))

    def _abort_start(self, failure: AgentFailure) -> None:
        self._end(EndCause.ACCOUNT, "the agent cannot start")

    def _abort_failed(self, failure: AgentFailure) -> None:
        self._end(EndCause.ACCOUNT, "the agent's account cannot answer")

    def _abort_unfollowed(self, event: Overflowed) -> None:
        self._end(EndCause.OUTPUT_OVERFLOW, "too much output to follow")

    def _abort_overflow(self, event: Overflowed) -> None:
        self._end(EndCause.OUTPUT_OVERFLOW, "too much output after an interrupt")

    def _end(self, cause: EndCause, sentence: str) -> None:
        self._terminate(EndReason(cause, sentence))

    def _terminate(self, reason: EndReason) -> None:
        self._stop_reason = reason
        self.end_cause = reason.cause
        self._notify(self._state_before_end, reason)
        if self._launching is None:
            self._process.terminate()
        else:
            self._launching.cancel()

    def _terminate_now(self, _: object) -> None:
        """
        Terminate an agent that was asked to quit; its reason to end stays.
        """
        self._process.terminate()

    def _quit(self, keys: bytes) -> None:
        self._timer = self._clock.callLater(self._timeouts.stop, self._process.terminate)
        self._notify(self._state_before_end, self._stop_reason or "")
        self._type(keys)

    def _report_exit(self, description: str) -> None:
        self._restart_quiet_timer()
        failure = self.failure
        reason = self._stop_reason or description
        if failure is None:
            output = self._describe_last_output()
            reason = reason[: _MAX_REASON - len(output)] + output
        else:
            reason = f"{failure.kind}: {failure.detail} ({reason})"[:_MAX_REASON]
            if self._stop_reason is None:
                self.end_cause = EndCause.ACCOUNT
        self.cause = reason
        if self._was_ready:
            self.cause = self._stop_reason or (description if failure is None else failure.kind)
        self._notify(self._state_before_end, self.cause)
        lost = SessionLost(reason, cause=self.cause)
        self._fail_pending(lost if failure is None else self._turn.error(failure))
        self._on_gone(reason)

    def _describe_last_output(self) -> str:
        """
        Return the last line of a session that never showed its prompt, as part of a sentence.

        For one that ended by itself in a turn, it is the output since the turn began: it may
        quote the client whose turn has failed, but no other.
        """
        if not self._was_ready:
            line = quoted(last_line(self.last_screen))
            pattern = self._conversation.awaits
            if not line or not pattern or self._stop_reason is None:
                return line
            return f"{line}, which does not match the prompt pattern {pattern!r}"
        if self._stop_reason is None and self._turn.pending is not None:
            return quoted(self._last_output.text())
        return ""


#: The states of a turn, which count as one for `Session.since`.
_IN_TURN = {SessionState.BUSY, SessionState.ANSWERED}


@frozen
class Condition:
    """
    Represent a condition under which a transition is taken.

    Attributes:
        label: What it is called in the diagram.
        holds: Returns whether it holds for a session.
    """

    label: str
    holds: Callable[[Session], bool]


@frozen
class Transition:
    """
    Represent what a session does in a certain state when something happens.

    Attributes:
        next_state: The state that follows, or None to stay, with the time limit running on.
        actions: Called in this order when that state was entered.
        condition: When the transition is taken; None if it always is.
    """

    next_state: SessionState | None
    actions: tuple[Callable[[Session, Any], None], ...]
    condition: Condition | None


def _to(
    next_state: SessionState,
    *actions: Callable[[Session, Any], None],
    when: Condition | None = None,
) -> Transition:
    return Transition(next_state, actions, when)


def _stay(*actions: Callable[[Session, Any], None], when: Condition | None = None) -> Transition:
    return Transition(None, actions, when)


def _also(
    action: Callable[[Session, Any], None], transitions: tuple[Transition, ...]
) -> tuple[Transition, ...]:
    """
    Return `transitions` with one more action at the end of each.
    """
    return tuple(
        evolve(transition, actions=(*transition.actions, action)) for transition in transitions
    )


_AT_PROMPT = Condition("at the prompt", lambda session: session._conversation.at_prompt)
_CANNOT_CLEAR = Condition(
    "single use",
    lambda session: not session._conversation.can_clear or session._reset is Reset.RECYCLE,
)
_CAN_RACE = Condition(
    "interrupt can race", lambda session: session._conversation.interrupt_can_race
)
_DESYNCHRONIZED = Condition(
    "no longer followed", lambda session: session._conversation.desynchronized
)
_ACCOUNT_FAILS = Condition(
    "account fails",
    lambda session: session.failure is not None and session.failure.affects_all_sessions,
)
_FIRST_CLEAR = Condition("first clear", lambda session: session._clears == 1)
_ASKING = Condition("asking", lambda session: session._turn.tools.has_open_question)
_STILL_FULL = Condition("context still full", lambda session: session._turn.is_still_full)
_READING_ON = Condition("reading on", lambda session: session._turn.reply is not None)
# It is not certain that a turn is over if output can arrive late, and the answer came late
# or was doubted by its caller.
_KEEPS_CONVERSATION = Condition(
    "keeps its conversation",
    lambda session: (
        session._reset is Reset.NONE
        and session._turn.has_text
        and not session._turn.fills_context
        and not (session._conversation.sends_late and session._turn.doubtful)
    ),
)

#: At a prompt in a conversation that is clear, or kept.
_BECOME_IDLE = (
    # The prompt may have appeared and gone away within one read.
    _to(SessionState.IDLE, Session._announce_idle, when=_AT_PROMPT),
    _to(SessionState.INTERRUPTING),
)
#: The conversation must not be used by another turn.
_RESET = (
    _to(SessionState.STOPPING, Session._exhaust, when=_CANNOT_CLEAR),
    _to(SessionState.CLEARING, Session._clear, when=_AT_PROMPT),
    _to(SessionState.INTERRUPTING),
)
#: The agent is at its prompt after an interrupt.  When an answer and the interrupt cross, the
#: agent reads the interrupt at its prompt and draws another prompt.
_SETTLE = (
    _to(SessionState.SETTLING, Session._settle, when=_CAN_RACE),
    *_RESET,
)
#: What happens if a turn that was given up fails at the same time.
_AFTER_FAILURE = (
    # The reason of the session's end tells the pool about the failure.
    _to(SessionState.STOPPING, Session._abort_failed, when=_ACCOUNT_FAILS),
    *_SETTLE,
)
#: The turn must not go on.
_INTERRUPT = (
    _to(SessionState.STOPPING, Session._exhaust, when=_CANNOT_CLEAR),
    # On a terminal, a question looks like an idle prompt.  The interrupt follows when the
    # denial has been read.  Otherwise it might be read as part of the denial.
    _to(
        SessionState.INTERRUPTING,
        Session._deny_unanswered,
        Session._settle,
        when=_ASKING,
    ),
    _to(
        SessionState.SETTLING,
        Session._interrupt,
        Session._settle,
        when=_AT_PROMPT,
    ),
    _to(SessionState.INTERRUPTING, Session._interrupt),
)
#: What every state but the last ones does when the session is to end or has ended.
ENDS: Mapping[Trigger, tuple[Transition, ...]] = {
    Input.STOP: (_to(SessionState.STOPPING, Session._terminate),),
    Input.TOOL_NOT_PERMITTED: (_to(SessionState.STOPPING, Session._abort_tainted),),
    Input.EXITED: (_to(SessionState.GONE, Session._report_exit),),
}

#: Events that may also come after a turn.
_AFTERWARDS: Mapping[Trigger, tuple[Transition, ...]] = {
    Notice: (_stay(Session._log_notice),),
    ToolUsed: (_stay(Session._record_tool_use),),
}

#: The state machine.  For each state and each trigger, the first transition whose condition
#: holds is taken.  A trigger that is not listed for its state stops the session; while it is
#: stopping or gone, such a trigger is ignored.
TABLE: Mapping[SessionState, Mapping[Trigger, tuple[Transition, ...]]] = {
    SessionState.STARTING: {
        Ready: _BECOME_IDLE,
        NeedsChoice: (_stay(Session._choose_from_menu),),
        AgentFailure: (_to(SessionState.STOPPING, Session._abort_start),),
        Notice: (_stay(Session._log_notice),),
        Input.NOT_STARTED: (_to(SessionState.GONE),),
        **ENDS,
    },
    SessionState.IDLE: {
        Input.ASK: (_to(SessionState.BUSY, Session._submit),),
        PromptLost: (_to(SessionState.INTERRUPTING),),
        LateOutput: _also(Session._warn_of_late_output, _RESET),
        Input.QUIT: (_to(SessionState.STOPPING, Session._quit),),
        **_AFTERWARDS,
        **ENDS,
    },
    SessionState.BUSY: {
        Submitted: (_stay(Session._report_submitted),),
        TextChunk: (_stay(Session._report),),
        TextDiscarded: (_stay(Session._report),),
        Notice: (_stay(Session._report_notice),),
        Working: (_stay(Session._log_tool_use),),
        NeedsApproval: (_stay(Session._decide_approval),),
        ToolUsed: (_stay(Session._record_tool_use),),
        Answered: (_to(SessionState.ANSWERED, Session._keep_answer, Session._deliver),),
        Input.RECORDED: (
            _to(SessionState.ANSWERED, Session._keep_recorded_answer, Session._deliver),
        ),
        LateOutput: (
            _to(
                SessionState.ANSWERED,
                Session._append_late_output,
                Session._deliver,
                when=_READING_ON,
            ),
            _stay(Session._append_late_output),
        ),
        Input.QUIET: (_to(SessionState.ANSWERED, Session._expect_nothing_more, Session._deliver),),
        AgentFailure: (
            _to(SessionState.STOPPING, Session._exhaust, Session._fail_turn, when=_CANNOT_CLEAR),
            _to(SessionState.CLEARING, Session._clear, Session._fail_turn, when=_AT_PROMPT),
            # It may wait at a menu.
            _to(SessionState.INTERRUPTING, Session._interrupt, Session._fail_turn),
        ),
        Overflowed: (
            _to(
                SessionState.STOPPING,
                Session._abort_unfollowed,
                Session._fail_overflowed_turn,
                when=_DESYNCHRONIZED,
            ),
            *_also(Session._fail_overflowed_turn, _INTERRUPT),
        ),
        Input.CANCEL: _INTERRUPT,
        **ENDS,
    },
    SessionState.ANSWERED: {
        Input.ASK_AGAIN: (_to(SessionState.BUSY, Session._submit),),
        Input.READ_ON: (_to(SessionState.BUSY, Session._await_late_output),),
        LateOutput: (_stay(Session._append_late_output),),
        Input.END_TURN: (
            _to(SessionState.STOPPING, Session._renew, when=_STILL_FULL),
            _to(SessionState.CLEARING, Session._await_late_output, when=_KEEPS_CONVERSATION),
            *_RESET,
        ),
        **_AFTERWARDS,
        **ENDS,
    },
    SessionState.CLEARING: {
        NeedsConfirmation: (_stay(Session._confirm_clear),),
        Cleared: _BECOME_IDLE,
        Input.QUIET: _BECOME_IDLE,
        LateOutput: _also(Session._warn_of_late_output, _RESET),
        PromptLost: (_to(SessionState.INTERRUPTING),),
        # Late output of the turn may have been taken for the end of the clear.
        NotCleared: (_to(SessionState.SETTLING, Session._settle, when=_FIRST_CLEAR),),
        **_AFTERWARDS,
        **ENDS,
    },
    SessionState.INTERRUPTING: {
        Submitted: (_stay(Session._interrupt),),
        ComposerNotEmpty: (_stay(Session._empty_composer),),
        Ready: _SETTLE,
        Overflowed: (_to(SessionState.STOPPING, Session._abort_overflow),),
        PromptLost: (_stay(),),
        LateOutput: (_stay(),),
        # These may come from the same read as the event that made the caller cancel.
        TextChunk: (_stay(),),
        TextDiscarded: (_stay(),),
        Working: (_stay(),),
        NeedsApproval: (_stay(Session._deny_late_approval, Session._settle),),
        Input.QUIET: (_stay(Session._interrupt),),
        Answered: _SETTLE,
        AgentFailure: _AFTER_FAILURE,
        **_AFTERWARDS,
        **ENDS,
    },
    SessionState.SETTLING: {
        Ready: _SETTLE,
        Input.QUIET: _RESET,
        PromptLost: (_to(SessionState.INTERRUPTING),),
        LateOutput: (_stay(),),
        # As in `INTERRUPTING`.
        TextChunk: (_stay(),),
        TextDiscarded: (_stay(),),
        Working: (_stay(),),
        Answered: (_stay(),),
        AgentFailure: (_AFTER_FAILURE[0], _stay()),
        NeedsApproval: (
            _to(SessionState.INTERRUPTING, Session._deny_late_approval, Session._settle),
        ),
        **_AFTERWARDS,
        **ENDS,
    },
    SessionState.STOPPING: {
        Input.STOP: (_stay(Session._terminate_now),),
        Input.EXITED: (_to(SessionState.GONE, Session._report_exit),),
    },
    SessionState.GONE: {},
}
