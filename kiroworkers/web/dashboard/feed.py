"""
Tell everybody who watches what changes, as server-sent events.

A change is sent at once, but changes that come soon after it are sent together, at most four times
a second.  What many see is encoded once.  Somebody who reads slowly skips what is outdated: of each
kind of event, only the newest one waits.  While nobody watches, nothing is computed but a sample of
the load every two seconds in which requests run.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable, Mapping
from itertools import islice
from typing import Any, TypeAlias

from attrs import frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.web.iweb import IRequest

from kiroworkers.clocks import Now, WallClock
from kiroworkers.jobs.presence import Presence
from kiroworkers.pool.agent_groups import AgentGroup
from kiroworkers.pool.approvals import Approvals
from kiroworkers.request_record import RequestEvent, RequestRecord
from kiroworkers.telemetry.request_history import HistoryEntry, RequestHistory
from kiroworkers.web.auth import Authorizer
from kiroworkers.web.dashboard.load import LoadSampler
from kiroworkers.web.dashboard.outages import Outages
from kiroworkers.web.dashboard.state import PHASES, StateView, Viewer, redacted
from kiroworkers.web.dashboard.usage import Measure, UsageMeter
from kiroworkers.web.events import EventWriter, json_event

#: Seconds between two states, at least.
_MIN_INTERVAL = 0.25

#: The number of requests that are sent at first, and at a time.
MAX_REQUESTS = 50

#: The number of samples of the load after which workers are measured again.
_SAMPLES_PER_MEASUREMENT = 3

#: The clients that are sent what has changed in one turn of the event loop, and the bytes of the
#: first requests that one of them is sent in a turn: a few milliseconds.  As many are written at
#: once as one piece.
MAX_PER_TURN = 20
_MAX_BYTES = 64 * 1024

#: The events that may wait for a slow client: more than the kinds that there are at a time.
_MAX_WAITING = 2 * MAX_REQUESTS


@frozen
class FeedSources:
    """
    Hold what the feed is about.

    Attributes:
        groups: The agents.
        approvals: What operators must decide.
        history: What happened to requests.
        measure: Measures what workers use; by default, that is not known.
        presence: Knows the servers that share a database; None without them.
    """

    groups: Iterable[AgentGroup]
    approvals: Approvals
    history: RequestHistory
    measure: Measure = lambda pids: succeed({})
    presence: Presence | None = None


class Feed:
    """
    Send what changes to everybody who watches; this is a `RequestObserver`.

    It must observe requests after the history.

    Args:
        clock: Times the events.
        wall_clock: Returns the time in seconds since the epoch.
        authorizer: Decides who may watch.
        sources: What the feed is about.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        wall_clock: WallClock,
        authorizer: Authorizer,
        sources: FeedSources,
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._authorizer = authorizer
        self._groups = sources.groups
        self._history = sources.history
        self._outages = Outages()
        self._usage = UsageMeter(clock, sources.measure)
        self._presence = sources.presence
        self._view = StateView(
            sources.groups, sources.approvals, self._outages, self._usage, sources.presence
        )
        self._load = LoadSampler(clock, wall_clock, sources.groups, self._on_sample)
        self._watchers: dict[_Watcher, None] = {}
        self._changed: OrderedDict[int, HistoryEntry] = OrderedDict()
        self._outages_changed = False
        self._timer: IDelayedCall | None = None
        # Sends what has changed to the rest of those who watch.
        self._turn: IDelayedCall | None = None
        self._pushed_at = clock.seconds() - _MIN_INTERVAL
        self._samples = 0
        sources.approvals.on_change = self.changed

    # What changes.

    def request_event(self, record: RequestRecord, event: RequestEvent) -> None:
        """
        Take note of an event of a request.
        """
        name = event.name
        if name in PHASES:
            if not self._load.active:
                self._load.note_activity()
        elif name == "ended" and record.task is not None:
            self._load.note_end(record)
        if self._watchers:
            entry = self._history.entry_of(record)
            if entry is not None:
                self._changed[entry.number] = entry
                self._changed.move_to_end(entry.number)
                if len(self._changed) > MAX_REQUESTS:
                    self._changed.popitem(last=False)
            # Without a history, the state tells about requests as well.
            if entry is not None or record.task is not None:
                self.changed()

    def pool_changed(self) -> None:
        """
        Take note that the state of a pool may have changed.
        """
        self._refresh_outages()
        self.changed()

    def changed(self) -> None:
        """
        Send the state soon, because something has changed.
        """
        if self._watchers and self._timer is None:
            wait = self._pushed_at + _MIN_INTERVAL - self._clock.seconds()
            self._timer = self._clock.callLater(max(0.0, wait), self._push)

    def stop(self) -> None:
        """
        End all streams, and send nothing more.
        """
        self._load.stop()
        for watcher in [*self._watchers]:
            watcher.end()

    # Who watches.

    async def watch(self, request: IRequest, client: str) -> None:
        """
        Send events as the response to `request` of `client`, until one of the sides ends it.
        """
        writer = EventWriter(self._clock, request, lambda text: json_event({"text": text}))
        if request.method == b"HEAD":
            # The response begins, without a body.
            writer.write_comment("kiroworkers")
            writer.close()
            return
        watcher = _Watcher(request, writer, self._viewer(request, client))
        self._watchers[watcher] = None
        try:
            self._refresh_outages()
            self._load.note_activity()
            self._measure()
            self._look_for_servers()
            await self._greet(watcher)
            await watcher.ended
        finally:
            del self._watchers[watcher]
            if not self._watchers:
                self._changed.clear()
                for call in (self._timer, self._turn):
                    if call is not None:
                        call.cancel()
                self._timer = self._turn = None
            writer.close()

    def _viewer(self, request: IRequest, client: str) -> Viewer:
        return Viewer(client, self._authorizer.is_operator(request))

    async def _greet(self, watcher: _Watcher) -> None:
        """
        Send everything to somebody who has begun to watch.

        The last requests may have many events, so others have their turns in between.
        """
        encoder = self._encoder()
        watcher.send("state", encoder.state(watcher.viewer))
        watcher.send("loads", json_event({"samples": self._load.recent()}, "loads"))
        watcher.send("outages", json_event(self._outages.to_json(), "outages"))
        size = 0
        for entry in reversed([*islice(self._history.find(), MAX_REQUESTS)]):
            if size > _MAX_BYTES:
                size = 0
                await deferLater(self._clock, 0)
            event = encoder.request(entry, watcher.viewer)
            size += len(event)
            watcher.send(entry.number, event)

    def _push(self) -> None:
        """
        Send what has changed since the last time.
        """
        self._timer = None
        if self._turn is not None:
            # The last time is not over: there is much to do.
            self._timer = self._clock.callLater(_MIN_INTERVAL, self._push)
            return
        self._pushed_at = self._clock.seconds()
        changed, self._changed = self._changed, OrderedDict()
        outages = None
        if self._outages_changed:
            self._outages_changed = False
            outages = json_event(self._outages.to_json(), "outages")
        news = _News(self._encoder(changed.values()), changed, outages)
        self._send_in_turns(deque(self._watchers), news)

    def _send_in_turns(self, watchers: deque[_Watcher], news: _News) -> None:
        """
        Send `news` to the first of `watchers`, and to the others in later turns of the event loop.
        """
        self._turn = None
        for _ in range(min(MAX_PER_TURN, len(watchers))):
            watcher = watchers.popleft()
            if watcher in self._watchers:
                watcher.send_all(news.events(watcher.viewer))
        if watchers:
            self._turn = self._clock.callLater(0, self._send_in_turns, watchers, news)

    def _encoder(self, changed: Iterable[HistoryEntry] = ()) -> _Encoder:
        now = Now(self._clock.seconds(), self._wall_clock())
        return _Encoder(self._view, self._history, now, changed)

    # What happens every two seconds.

    def _on_sample(self, sample: Mapping[str, Any]) -> bool:
        """
        Send a sample of the load, and return whether somebody watches.
        """
        event = json_event(sample, "load")
        for watcher in [*self._watchers]:
            # The session may have ended, or a reload may have removed the token.
            if not self._authorizer.allows(watcher.request, "watch"):
                watcher.end()
                continue
            viewer = Viewer(watcher.viewer.client, self._authorizer.is_operator(watcher.request))
            if viewer != watcher.viewer:
                watcher.viewer = viewer
                self.changed()
            watcher.send("load", event)
        if self._watchers:
            self._samples += 1
            if self._samples % _SAMPLES_PER_MEASUREMENT == 0:
                self._measure()
            self._look_for_servers()
        return bool(self._watchers)

    def _measure(self) -> None:
        """
        Measure what workers use, and send the state afterwards, also if nothing else changes.
        """
        pids = [
            worker.pid
            for group in self._groups
            for worker in group.dispatcher.worker_pool.workers
            if worker.pid is not None
        ]
        self._usage.refresh(pids, self.changed)

    def _look_for_servers(self) -> None:
        """
        Look which servers share the database, and send the state afterwards.
        """
        if self._presence is not None and self._presence.database is not None:
            self._presence.refresh().addCallback(lambda _: self.changed())

    def _refresh_outages(self) -> None:
        now = self._wall_clock()
        for group in self._groups:
            if self._outages.update(group.name, group.dispatcher.state(), now):
                self._outages_changed = True


class _Encoder:
    """
    Encode the state and requests as events, each of them once for all who see the same.

    Args:
        view: Renders the state.
        history: Has the requests.
        now: The current time.
        changed: The requests that are to be sent to all.
    """

    def __init__(
        self,
        view: StateView,
        history: RequestHistory,
        now: Now,
        changed: Iterable[HistoryEntry] = (),
    ) -> None:
        self._view = view
        self._history = history
        self._now = now
        self._shown = view.requests()
        self._clients = {
            request.options.client for requests in self._shown.values() for request in requests
        } | {history.summary(entry)["client"] for entry in changed}
        self._states: dict[Viewer, bytes] = {}
        self._requests: dict[tuple[int, bool], bytes] = {}

    def kind(self, viewer: Viewer) -> Viewer:
        """
        Return a viewer that stands for all who see the same as `viewer`.
        """
        if viewer.operator or viewer.client not in self._clients:
            # Nothing is the viewer's own.
            return Viewer(None, viewer.operator)
        return viewer

    def state(self, viewer: Viewer) -> bytes:
        """
        Return the state as `viewer` sees it.
        """
        viewer = self.kind(viewer)
        if viewer not in self._states:
            self._states[viewer] = json_event(
                self._view.render(self._now, viewer, self._shown), "state"
            )
        return self._states[viewer]

    def request(self, entry: HistoryEntry, viewer: Viewer) -> bytes:
        """
        Return a request with its events as `viewer` sees it.
        """
        summary = self._history.summary(entry)
        key = entry.number, viewer.may_see(summary["client"])
        if key not in self._requests:
            request = {
                **summary,
                "number": entry.number,
                "events": entry.events(),
                "gaps": entry.gaps(),
            }
            seen = request if key[1] else redacted(request)
            self._requests[key] = json_event(seen, "request")
        return self._requests[key]


#: Events by what they are about; a later one replaces those before it about the same.
_Events: TypeAlias = Mapping[Hashable, bytes]


class _News:
    """
    Hold what all are to be sent who watch.

    Args:
        encoder: Encodes it.
        changed: The requests that have changed, by their numbers.
        outages: The event about outages; None if there is nothing new about them.
    """

    def __init__(
        self, encoder: _Encoder, changed: Mapping[int, HistoryEntry], outages: bytes | None
    ) -> None:
        self._encoder = encoder
        self._changed = changed
        self._outages = outages
        self._events: dict[Viewer, tuple[_Events, bytes | None]] = {}

    def events(self, viewer: Viewer) -> tuple[_Events, bytes | None]:
        """
        Return the events for `viewer` one by one, and joined unless they are large.

        Each client would have a copy of what is large, because it is written in pieces.
        """
        viewer = self._encoder.kind(viewer)
        if viewer not in self._events:
            events: dict[Hashable, bytes] = {"state": self._encoder.state(viewer)}
            if self._outages is not None:
                events["outages"] = self._outages
            for number, entry in self._changed.items():
                events[number] = self._encoder.request(entry, viewer)
            joined = b"".join(events.values())
            self._events[viewer] = events, joined if len(joined) <= _MAX_BYTES else None
        return self._events[viewer]


class _Watcher:
    """
    Send events to one client that watches.

    Attributes:
        request: The client's request.
        viewer: What the client may see.
        ended: Fires when the stream is to end.

    Args:
        request: The client's request.
        writer: Writes the response.
        viewer: What the client may see.
    """

    def __init__(self, request: IRequest, writer: EventWriter, viewer: Viewer) -> None:
        self.request = request
        self.viewer = viewer
        self.ended: Deferred[None] = Deferred()
        self._writer = writer
        self._waiting: OrderedDict[Hashable, bytes] = OrderedDict()

    def send(self, kind: Hashable, event: bytes) -> None:
        """
        Send `event`; if the client is slow, it replaces one of the same kind that still waits.
        """
        if not self._waiting and not self._writer.lagging:
            self._writer.write(event)
            return
        if not self._waiting:
            self._writer.drained().addCallback(self._catch_up)
        self._waiting[kind] = event
        self._waiting.move_to_end(kind)
        if len(self._waiting) > _MAX_WAITING:
            self._waiting.popitem(last=False)

    def send_all(self, events: tuple[_Events, bytes | None]) -> None:
        """
        Send several events, which are given one by one and perhaps joined.
        """
        by_kind, joined = events
        if joined is not None and not self._waiting and not self._writer.lagging:
            # At once: a write takes a while, however little is written.
            self._writer.write(joined)
            return
        for kind, event in by_kind.items():
            self.send(kind, event)

    def end(self) -> None:
        """
        End the stream.
        """
        if not self.ended.called:
            self.ended.callback(None)

    def _catch_up(self, _: None) -> None:
        waiting, self._waiting = self._waiting, OrderedDict()
        for kind, event in waiting.items():
            self.send(kind, event)
