"""
Let many viewers watch what agents show, without slowing their sessions.

Output is gathered for a moment, so that a flood makes few messages, and each message is encoded
once for all viewers.  Nothing waits for a viewer that does not read: it misses what is sent
meanwhile, and then gets the whole screen again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from kiroworkers.request_record import RequestRecord
from kiroworkers.session.observer import SessionInfo
from kiroworkers.session.state import SessionState
from kiroworkers.telemetry.session_views import (
    Message,
    ProtocolSession,
    ShownSession,
    Side,
    TerminalSession,
    View,
)

#: Seconds for which output is gathered into one message.
_GATHER = 0.05

#: Seconds from one time that the whole screen is sent to the next, unless somebody joins.
_WHOLE_INTERVAL = 0.5

#: Seconds after which there is a pause between two steps of drawing the screen, and the pause.
_FAST = 0.25
_PAUSE = 0.01

#: Seconds after which the screen is drawn from the end of the output alone, because the agent
#: prints faster than an emulator reads.
_PATIENCE = 1.0

#: The number of workers whose last session has ended and that nobody watches, of which the
#: output is kept.
_MAX_ENDED = 32


class Viewer(Protocol):
    """
    Define what shows a worker to one person or program.

    Attributes:
        paused: Whether nothing may be sent, because the viewer does not read.
    """

    paused: bool

    def send(self, data: bytes) -> None:
        """
        Send an encoded message.
        """


class LiveTerminals:
    """
    Hold the newest output of all workers, and send it to viewers.

    Args:
        clock: Times the messages.
        encode: Encodes the text of a message as all viewers expect it.
    """

    def __init__(self, clock: IReactorTime, encode: Callable[[str], bytes]) -> None:
        self._clock = clock
        self._encode = encode
        self._workers: dict[str, _WatchedWorker] = {}

    def observe(self, info: SessionInfo) -> SessionOutput:
        """
        Return what observes a new session, which follows the last one of its worker.
        """
        self._forget_ended()
        worker = self._worker(info.worker)
        observer = SessionOutput(worker, info)
        worker.begin(observer)
        return observer

    def watch(self, name: str, viewer: Viewer) -> Watching:
        """
        Send to `viewer` what the worker `name` shows, until it stops watching.
        """
        worker = self._worker(name)
        worker.add(viewer)
        return Watching(worker, viewer)

    def last_screen(self, name: str) -> str:
        """
        Return what the worker `name` shows as plain text; empty if it has shown nothing.

        It takes some milliseconds.  The text may come from a client, and from the agent.
        """
        worker = self._workers.get(name)
        return "" if worker is None or worker.session is None else worker.session.shown.text()

    def _worker(self, name: str) -> _WatchedWorker:
        worker = self._workers.get(name)
        if worker is None:
            worker = self._workers[name] = _WatchedWorker(name, self._clock, self._encode)
        return worker

    def _forget_ended(self) -> None:
        """
        Forget workers that were removed, or have not run for long.
        """
        ended = [worker.name for worker in self._workers.values() if worker.idle]
        for name in ended[:-_MAX_ENDED]:
            del self._workers[name]


class Watching:
    """
    Represent that a viewer watches a worker.
    """

    def __init__(self, worker: _WatchedWorker, viewer: Viewer) -> None:
        self._worker = worker
        self._viewer = viewer

    def resume(self) -> None:
        """
        Take note that the viewer reads again.
        """
        self._worker.resume(self._viewer)

    def stop(self) -> None:
        """
        Send nothing more to the viewer.
        """
        self._worker.remove(self._viewer)


class SessionOutput:
    """
    Observe one session, as a `SessionObserver`.

    Attributes:
        shown: What is kept of the session.
        ended: Whether it is gone.
    """

    def __init__(self, worker: _WatchedWorker, info: SessionInfo) -> None:
        self.shown: ShownSession = (
            ProtocolSession() if info.window is None else TerminalSession(*info.window)
        )
        self.ended = False
        #: Told what is new while somebody watches.
        self.on_data: Callable[[Side, bytes], None] | None = None
        self._worker = worker

    def output(self, data: bytes) -> None:
        """
        Keep what the agent has printed, and pass it on if somebody watches.
        """
        self.shown.add("agent", data)
        if self.on_data is not None:
            self.on_data("agent", data)

    def typed(self, data: bytes) -> None:
        """
        Keep what was sent to an agent without a terminal.
        """
        self.shown.add("server", data)
        if self.on_data is not None:
            self.on_data("server", data)

    def state_changed(self, old: SessionState, new: SessionState, reason: str) -> None:
        """
        Show this session from when it is asked, and another when it ends.
        """
        if new is SessionState.GONE:
            self.ended = True
        if new in (SessionState.STOPPING, SessionState.GONE):
            self._worker.ends(self)
        elif new is SessionState.BUSY:
            self._worker.takes_over(self)

    def stderr(self, data: bytes) -> None:
        """
        Ignore standard error, which the log has.
        """

    def asked(self, record: RequestRecord | None, prompt: str) -> None:
        """
        Ignore a prompt: the output shows it.
        """

    def replied(self, text: str) -> None:
        """
        Ignore a reply: the output shows it.
        """


class _WatchedWorker:
    """
    Hold the session of a worker, and those who watch it.
    """

    def __init__(self, name: str, clock: IReactorTime, encode: Callable[[str], bytes]) -> None:
        self.name = name
        self.session: SessionOutput | None = None
        self._has_ended = False
        # The session that has started while the one before it still runs.
        self._next: SessionOutput | None = None
        self._clock = clock
        self._encode = encode
        self._view: View | None = None
        # Each viewer, with whether it has seen everything up to the last message.
        self._viewers: dict[Viewer, bool] = {}
        self._send_call: IDelayedCall | None = None
        self._whole_call: IDelayedCall | None = None
        self._whole_at = float("-inf")
        # When the screen that is being drawn was begun.
        self._began = 0.0

    @property
    def idle(self) -> bool:
        """
        Return whether there is neither a session nor a viewer.
        """
        return not self._viewers and (self.session is None or self._has_ended)

    def begin(self, session: SessionOutput) -> None:
        """
        Show another session, as soon as the one before it ends or this one is asked.
        """
        if self.session is None or self._has_ended:
            self._show(session)
        else:
            self._next = session

    def takes_over(self, session: SessionOutput) -> None:
        """
        Show `session` from now on if it is the next one.
        """
        if session is self._next:
            self.ends(self.session)

    def ends(self, session: SessionOutput | None) -> None:
        """
        Tell the viewers that `session` ends, and show the next one if there is one already.
        """
        following = self._next
        if session is following:
            self._next = None
        elif session is self.session and (following is not None or (session and session.ended)):
            self._send()
            self._tell_state("ended")
            self._has_ended = True
            if following is not None:
                self._show(following)

    def _show(self, session: SessionOutput) -> None:
        if self.session is not None:
            self.session.on_data = None
        self.session, self._next, self._has_ended = session, None, False
        if self._viewers:
            self._send()
            self._tell_state("started")
            self._open_view()

    def add(self, viewer: Viewer) -> None:
        """
        Send everything to `viewer`, and then what is new.
        """
        self._viewers[viewer] = False
        if self.session is None:
            self._tell_state("ended")
        elif self._view is None:
            self._open_view()
        else:
            if self._whole_call is not None and self._began > self._clock.seconds():
                # Others, who have seen a screen, wait for the next one.
                self._whole_call.cancel()
                self._whole_call = None
            self._whole_at = float("-inf")
            self._want_whole()

    def resume(self, viewer: Viewer) -> None:
        """
        Send everything to `viewer` if it has missed something.
        """
        if self._viewers.get(viewer) is False and self._view is not None:
            self._want_whole()

    def remove(self, viewer: Viewer) -> None:
        """
        Send nothing more to `viewer`.
        """
        self._viewers.pop(viewer, None)
        if not self._viewers:
            self._view = None
            if self.session is not None:
                self.session.on_data = None
            for call in (self._send_call, self._whole_call):
                if call is not None:
                    call.cancel()
            self._send_call = self._whole_call = None
            self._whole_at = float("-inf")

    def _open_view(self) -> None:
        assert self.session is not None, "there is something to show"
        self._view = self.session.shown.view()
        self.session.on_data = self._add
        self._viewers = dict.fromkeys(self._viewers, False)
        self._whole_at = float("-inf")
        if self._whole_call is not None:
            self._whole_call.cancel()
            self._whole_call = None
        self._want_whole()

    def _add(self, side: Side, data: bytes) -> None:
        assert self._view is not None, "somebody watches"
        if self._view.add(side, data) and self._send_call is None:
            self._send_call = self._clock.callLater(_GATHER, self._send)

    def _send(self) -> None:
        """
        Send what is new to those who have seen everything before it.
        """
        call, self._send_call = self._send_call, None
        if call is not None and call.active():
            call.cancel()
        news = None if self._view is None else self._view.news()
        if news is None:
            self._viewers = dict.fromkeys(self._viewers, False)
            if self._view is not None:
                self._want_whole()
        else:
            self._send_to([viewer for viewer, seen in self._viewers.items() if seen], news)

    def _send_to(self, viewers: list[Viewer], messages: list[Message]) -> None:
        """
        Send all `messages` to those of `viewers` that read; the others miss them.
        """
        if not messages:
            return
        data: bytes | None = None
        for viewer in viewers:
            self._viewers[viewer] = not viewer.paused
            if not viewer.paused:
                if data is None:
                    data = b"".join(map(self._encoded, messages))
                viewer.send(data)

    def _encoded(self, message: Message) -> bytes:
        return self._encode(json.dumps({**message, "worker": self.name}, separators=(",", ":")))

    def _tell_state(self, state: str) -> None:
        """
        Tell all viewers that read about the state of the session.
        """
        reading = [viewer for viewer in self._viewers if not viewer.paused]
        data = self._encoded({"type": "session", "state": state}) if reading else b""
        for viewer in reading:
            viewer.send(data)

    def _want_whole(self) -> None:
        """
        Send everything soon to those who need it.
        """
        if self._whole_call is None:
            now = self._clock.seconds()
            self._began = max(now, self._whole_at + _WHOLE_INTERVAL)
            self._whole_call = self._clock.callLater(self._began - now, self._send_whole)

    def _send_whole(self) -> None:
        self._whole_call = None
        if self._view is None or all(seen or one.paused for one, seen in self._viewers.items()):
            return  # They get it when they read again.
        seconds = self._clock.seconds() - self._began
        if not self._view.catch_up(hurry=seconds >= _PATIENCE):
            pause = 0.0 if seconds < _FAST else _PAUSE
            self._whole_call = self._clock.callLater(pause, self._send_whole)
            return
        # The others get the news first, because everything includes it.
        self._send()
        self._whole_at = self._clock.seconds()
        waiting = [viewer for viewer, seen in self._viewers.items() if not seen]
        self._send_to(waiting, self._view.whole())
