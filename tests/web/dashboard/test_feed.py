"""
Tests for `kiroworkers.web.dashboard.feed`: what somebody sees who watches.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from attrs import evolve
from jsonschema import Draft202012Validator
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.agents import Agent
from kiroworkers.conversations import AgentFailure, load_dialect
from kiroworkers.errors import FailureKind
from kiroworkers.pool.agent_groups import AgentGroup, AgentGroups
from kiroworkers.pool.approvals import Approvals
from kiroworkers.session.tool_policy import ToolPolicy
from kiroworkers.testing import MemoryKiro
from kiroworkers.web.dashboard import feed
from kiroworkers.web.dashboard.feed import MAX_PER_TURN, MAX_REQUESTS, FeedSources
from kiroworkers.web.dashboard.load import INTERVAL
from kiroworkers.web.dashboard.state import MAX_WAITING_SHOWN
from kiroworkers.web.tokens import ApiToken
from tests.jobs.presence import BLUE, RED, MemoryPresence
from tests.web.streams import streamed_request
from tests.web.test_errors import STORY, TOKEN, MemoryServer, Response, silent, useful
from tests.web.test_openapi import document_of
from tests.web.test_operator import AskingKiro

AGENT = Agent(load_dialect("kiro-classic"), "chosen", "/bin/kiro", (), {})

_WATCHER = "a token to watch with"
_ASKER = "a token to ask with"


def parse(content: bytes) -> list[tuple[str, Any]]:
    """
    Return the name and the data of each event in `content`.
    """
    events = re.findall(rb"event: (\w+)\ndata: (.*)\n\n", content)
    return [(name.decode(), json.loads(data)) for name, data in events]


class FeedTestCase(SynchronousTestCase):
    """
    Base of tests with a server whose feed observes the requests.
    """

    def start(self, program: Callable[[], MemoryKiro] = useful, **options: Any) -> None:
        self.server = server = MemoryServer(program, scopes="ask,operate", **options)
        self.feed = server.application.feed
        server.observers.observers += [server.job_service.history, self.feed]
        server.dispatcher.worker_pool.on_change = self.feed.pool_changed
        ann = server.authorizer.tokens[0]
        server.authorizer.tokens = (
            ann,
            *(
                ApiToken(name, frozenset(scopes), sha256(token.encode()).digest())
                for name, scopes, token in (
                    ("bob", {"watch"}, _WATCHER),
                    ("eve", {"ask", "watch"}, _ASKER),
                )
            ),
        )
        # The sample after the last event of the start.
        server.settle(2 * INTERVAL)

    def watch(self, token: str = TOKEN) -> Callable[[], list[tuple[str, Any]]]:
        """
        Begin to watch, and return a function that returns the events since its last call.
        """
        response = self.server.begin("GET", "/watch", Authorization=f"Bearer {token}")
        self.server.settle(0.1)
        seen = 0

        def events() -> list[tuple[str, Any]]:
            nonlocal seen
            found = parse(response().content)
            new, seen = found[seen:], len(found)
            return new

        return events

    def ask(self, token: str = TOKEN) -> Callable[[], Response]:
        return self.server.begin(
            "POST", STORY, {"idea": "x"}, Authorization=f"Bearer {token}", X_Request_ID="the-id"
        )

    def timers(self) -> list[str]:
        """
        Return the calls that the feed, the samples of the load and the streams wait for.
        """
        calls = (
            str(call).rpartition(" ")[2].rstrip(">")
            for call in self.server.reactor.getDelayedCalls()
        )
        return [
            call for call in calls if call.startswith(("Feed.", "LoadSampler.", "EventWriter."))
        ]

    def finish(self, response: Callable[[], Response]) -> None:
        self.server.settle(1)
        self.assertEqual(response().status, 200)


def named(events: list[tuple[str, Any]], name: str) -> list[Any]:
    """
    Return the data of the events called `name`.
    """
    return [data for found, data in events if found == name]


class ServersTests(FeedTestCase):
    """
    Tests for what ``GET /watch`` tells of other servers.
    """

    def share(self, presence: MemoryPresence) -> None:
        """
        Let the server share a database with others.
        """
        server = self.server
        groups = AgentGroups([AgentGroup(AGENT, server.dispatcher)])
        sources = FeedSources(
            groups, Approvals(server.reactor, str), server.job_service.history, presence=presence
        )
        clock = server.reactor
        self.feed = server.application.feed = feed.Feed(
            clock, clock.seconds, server.authorizer, sources
        )

    def test_single_server(self) -> None:
        """
        A server without a shared database tells of no others.
        """
        self.start()
        events = self.watch()
        self.server.settle(2 * INTERVAL)
        states = named(events(), "state")
        self.assertEqual({state["cluster"] for state in states}, {None})

    def test_servers(self) -> None:
        """
        Who begins to watch learns which servers share the database, and then what changes.
        """
        self.start()
        presence = MemoryPresence(RED)
        self.share(presence)
        events = self.watch()
        self.server.settle(0.5)
        cluster = named(events(), "state")[-1]["cluster"]
        self.assertEqual((cluster["server"], cluster["database"]["state"]), ("red", "ok"))
        [red] = cluster["servers"]
        self.assertEqual((red["name"], red["agents"]["kiro"]["idle"]), ("red", 1))
        presence.found = [BLUE, RED]
        self.server.settle(INTERVAL + 0.5)
        cluster = named(events(), "state")[-1]["cluster"]
        self.assertEqual([server["state"] for server in cluster["servers"]], ["lost", "serving"])

    def test_nobody_watches(self) -> None:
        """
        While nobody watches, the database is not asked.
        """
        self.start()
        presence = MemoryPresence(RED)
        self.share(presence)
        self.server.settle(5 * INTERVAL)
        self.assertEqual(presence.refreshes, 0)

    def test_fits_schema(self) -> None:
        """
        A state with servers is what the documentation of the API says.
        """
        self.start()
        self.share(MemoryPresence(RED, BLUE))
        events = self.watch()
        self.server.settle(0.5)
        schema = {"$ref": "#/components/schemas/WatchedState", **document_of()}
        state = named(events(), "state")[-1]
        self.assertEqual([*Draft202012Validator(schema).iter_errors(state)], [])


class WatchTests(FeedTestCase):
    """
    Tests for ``GET /watch``.
    """

    def test_at_once(self) -> None:
        """
        Who begins to watch learns everything at once: the state, the load, the outages and the
        last requests with their events.
        """
        self.start()
        self.finish(self.ask())
        events = self.watch()()
        self.assertEqual([name for name, _ in events[:4]], ["state", "loads", "outages", "request"])
        state = events[0][1]
        self.assertEqual(state["operator"], True)
        self.assertEqual(state["agents"]["kiro"]["pool"]["state"], "serving")
        self.assertIsNone(state["agents"]["kiro"]["outage"])
        worker = state["workers"]["worker1"]
        self.assertEqual((worker["state"], worker["answered"]), ("idle", 1))
        self.assertEqual((worker["view"], worker["request"]), ("terminal", None))
        self.assertEqual((state["queue"], state["approvals"]), ([], []))
        request = events[3][1]
        self.assertEqual((request["id"], request["client"]), ("the-id", "ann"))
        self.assertEqual((request["state"], request["outcome"]), ("ended", "answered"))
        names = [event["name"] for event in request["events"]]
        self.assertEqual(names[:2], ["received", "started"])
        self.assertIn("answered", names)

    def test_request(self) -> None:
        """
        A request is shown at its worker with its phase, and in the queue while it waits.
        """
        self.start(silent)
        events = self.watch()
        self.ask()
        self.ask()
        self.server.settle(0.5)
        state = named(events(), "state")[-1]
        running = state["workers"]["worker1"]["request"]
        self.assertEqual((running["id"], running["task"]), ("the-id", "generate-story"))
        self.assertIn(running["phase"], ("submitted", "first_output"))
        [waiting] = state["queue"]
        self.assertEqual(
            (waiting["id"], waiting["agent"], waiting["priority"]), ("the-id", "kiro", 5)
        )

    def test_head(self) -> None:
        """
        A request for the head alone gets that of the stream, and does not watch.
        """
        self.start()
        response = self.server.request("HEAD", "/watch", Authorization=f"Bearer {TOKEN}")
        self.assertEqual(response.headers["content-type"], "text/event-stream")
        self.assertEqual((response.status, response.content), (200, b""))
        self.assertEqual(self.feed._watchers, {})
        self.assertNotIn("EventWriter._keep_alive()", self.timers())

    def test_progress(self) -> None:
        """
        A request is sent when it begins and when it ends.
        """
        self.start(silent)
        events = self.watch()
        events()
        self.ask()
        self.server.settle(0.5)
        self.assertEqual(named(events(), "request")[-1]["state"], "running")
        self.server.settle(121)
        request = named(events(), "request")[-1]
        self.assertEqual((request["state"], request["code"]), ("ended", "timed_out"))

    def test_rate(self) -> None:
        """
        The first change is sent at once, and those after it together a quarter of a second later.
        """
        self.start()
        events = self.watch()
        self.server.settle(1)
        events()
        self.feed.changed()
        self.server.reactor.advance(0)
        self.assertEqual(len(named(events(), "state")), 1)
        for _ in range(10):
            self.server.reactor.advance(0.02)
            self.feed.changed()
        self.assertEqual(named(events(), "state"), [])
        self.server.reactor.advance(0.06)
        self.assertEqual(len(named(events(), "state")), 1)

    def test_encoded_once(self) -> None:
        """
        However many watch, a state is rendered once for operators and once for all others.
        """
        self.start()
        rendered = []
        render = self.feed._view.render

        def counting(now: Any, viewer: Any, requests: Any) -> Any:
            rendered.append(viewer)
            return render(now, viewer, requests)

        watchers = [self.watch(token) for token in (TOKEN, _WATCHER, _ASKER) for _ in range(3)]
        self.server.settle(1)
        for events in watchers:
            events()
        self.patch(self.feed._view, "render", counting)
        self.feed.changed()
        self.server.reactor.advance(0)
        self.assertEqual([viewer.operator for viewer in rendered], [True, False])
        for events in watchers:
            self.assertEqual(len(named(events(), "state")), 1)

    def test_turns(self) -> None:
        """
        However many watch and however much has changed, all get it, but only some of them in one
        turn of the event loop; nothing is sent twice, and nothing goes on when all have left.
        """
        self.start()
        client = self.server.authorizer.tokens[0].name
        requests = [streamed_request() for _ in range(2 * MAX_PER_TURN + 1)]
        watching = [Deferred.fromCoroutine(self.feed.watch(each, client)) for each in requests]
        self.server.settle(1)
        for request in requests:
            request.written.clear()
        # A reactor that runs what is due now, and no more.
        call_later, later = self.server.reactor.callLater, []
        self.patch(self.server.reactor, "callLater", lambda delay, *call: later.append(call))
        self.feed._push()
        served = []
        while later:
            served.append(sum(bool(request.written) for request in requests))
            function, *arguments = later.pop(0)
            function(*arguments)
        served.append(sum(bool(request.written) for request in requests))
        self.assertEqual(served, [MAX_PER_TURN, 2 * MAX_PER_TURN, 2 * MAX_PER_TURN + 1])
        self.assertEqual({len(request.written) for request in requests}, {1})
        self.patch(self.server.reactor, "callLater", call_later)
        self.feed._push()
        self.feed.changed()
        for each in watching:
            each.cancel()
            self.failureResultOf(each)
        self.server.settle(2 * INTERVAL)
        self.assertEqual(self.timers(), [])

    def test_large_requests(self) -> None:
        """
        Requests with many events are sent to a new client in several turns of the event loop.
        """
        self.start()
        self.patch(feed, "_MAX_BYTES", 100)
        for _ in range(3):
            self.finish(self.ask())
        request = streamed_request()
        watching = Deferred.fromCoroutine(self.feed.watch(request, "ann"))
        self.assertEqual(len(named(parse(request.sent()), "request")), 1)
        self.server.reactor.advance(0)
        self.assertEqual(
            [each["number"] for each in named(parse(request.sent()), "request")], [1, 2, 3]
        )
        watching.cancel()
        self.failureResultOf(watching)

    def test_nobody(self) -> None:
        """
        While nobody watches, nothing is rendered, and an idle server has no timer for it.
        """
        self.start()
        self.patch(self.feed._view, "render", None)
        self.patch(self.feed._view, "requests", None)
        self.finish(self.ask())
        self.feed.pool_changed()
        self.assertEqual(self.timers(), ["LoadSampler._sample()"])
        self.server.settle(2 * INTERVAL)
        self.assertEqual(self.timers(), [])

    def test_others(self) -> None:
        """
        Who is not an operator sees the identifiers and texts of its own requests only.
        """
        self.start(silent)
        self.ask()
        own = self.server.begin(
            "POST",
            STORY,
            {"idea": "x"},
            Authorization=f"Bearer {_ASKER}",
            X_Request_ID="eves-id",
        )
        self.server.settle(0.5)
        for token, expected in (
            (TOKEN, ["the-id", "eves-id"]),
            (_WATCHER, [None, None]),
            (_ASKER, [None, "eves-id"]),
        ):
            events = self.watch(token)()
            state = named(events, "state")[0]
            seen = [state["workers"]["worker1"]["request"]["id"], state["queue"][0]["id"]]
            self.assertEqual(seen, expected)
            requests = named(events, "request")
            self.assertEqual([request["id"] for request in requests], expected)
            clients = [request["client"] for request in requests]
            visible = [
                name if id else None for name, id in zip(("ann", "eve"), expected, strict=True)
            ]
            self.assertEqual(clients, visible)
            for request in requests:
                text = json.dumps(request["events"])
                self.assertEqual("/kiro/generate-story" in text, request["id"] is not None)
            self.assertEqual(len({request["number"] for request in requests}), 2)
        self.assertRaises(IndexError, own)

    def test_last_error(self) -> None:
        """
        Only operators see what an agent printed in the turn in which its session ended: it may
        quote another client.
        """

        class Quoting(MemoryKiro):
            def __init__(self) -> None:
                super().__init__(self.quote)

            def quote(self, prompt: str) -> None:
                self.print("the words of a client\n")
                self.process.reactor.callLater(0.2, self.process.end, 1)

        self.start(Quoting)
        self.ask()
        self.server.settle(1)
        for token, expected in ((TOKEN, True), (_WATCHER, False), (_ASKER, False)):
            state = named(self.watch(token)(), "state")[0]
            response = self.server.request("GET", "/health", Authorization=f"Bearer {token}")
            health = json.loads(response.content)
            for workers in (state["workers"], health["workers"]):
                errors = [worker["lastError"] for worker in workers.values()]
                self.assertTrue(any(error and "exit status 1" in error for error in errors))
                self.assertEqual("the words of a client" in str(errors), expected)

    def test_described(self) -> None:
        """
        Every event is as the OpenAPI document describes it, for operators and for others, in an
        outage as well.
        """
        self.start(silent)
        self.ask()
        self.ask()
        watchers = [self.watch(), self.watch(_WATCHER)]
        failure = AgentFailure(FailureKind.THROTTLED, "Too many requests", 30)
        self.server.dispatcher.worker_pool.record_failure(failure)
        self.server.settle(2 * INTERVAL)
        components = document_of()["components"]
        described = components["schemas"]["WatchEvents"]["properties"]
        for watcher in watchers:
            events = watcher()
            self.assertEqual({name for name, _ in events}, {*described})
            for name, data in events:
                validator = Draft202012Validator({**described[name], "components": components})
                self.assertEqual([error.message for error in validator.iter_errors(data)], [], name)

    def test_no_history(self) -> None:
        """
        Without a history of requests, the state and the load tell about those that run.
        """
        self.start(silent, flags={"history": "0"})
        events = self.watch()
        events()
        self.ask()
        self.server.settle(0.5)
        seen = events()
        self.assertEqual(named(seen, "request"), [])
        running = named(seen, "state")[-1]["workers"]["worker1"]["request"]
        self.assertEqual(running["id"], "the-id")

    def test_long_queue(self) -> None:
        """
        Of a long queue, the first hundred requests are shown, and its length.
        """
        self.start(silent, backlog=1000, connections=200)
        for _ in range(MAX_WAITING_SHOWN + 10):
            self.ask()
        self.server.settle(0.1)
        state = named(self.watch()(), "state")[-1]
        self.assertEqual(len(state["queue"]), MAX_WAITING_SHOWN)
        ages = [request["age"] for request in state["queue"]]
        self.assertEqual(ages, sorted(ages, reverse=True))
        self.assertEqual(state["agents"]["kiro"]["queue"]["length"], MAX_WAITING_SHOWN + 9)
        self.assertIsNotNone(state["workers"]["worker1"]["request"])

    def test_limit(self) -> None:
        """
        The last fifty requests are sent, oldest first.
        """
        self.start()
        for _ in range(MAX_REQUESTS + 5):
            self.finish(self.ask())
        numbers = [request["number"] for request in named(self.watch()(), "request")]
        self.assertEqual(numbers, [*range(6, MAX_REQUESTS + 6)])

    def test_operation(self) -> None:
        """
        What an operator does to a pool or a worker is seen at once.
        """
        self.start()
        events = self.watch(_WATCHER)
        operator = {"Authorization": f"Bearer {TOKEN}"}
        for method, path, body in (
            ("POST", "/operator/pause", None),
            ("POST", "/operator/resume", None),
            ("POST", "/operator/workers/worker1/drain", None),
            ("POST", "/operator/workers/worker1/restart", None),
            ("PUT", "/operator/workers", {"workers": 2}),
        ):
            self.server.settle(1)
            events()
            response = self.server.begin(method, path, body, **operator)
            self.server.reactor.advance(0)
            self.assertLess(response().status, 300)
            self.assertEqual(len(named(events(), "state")), 1, path)
        self.server.settle(1)
        workers = named(events(), "state")[-1]["workers"]
        self.assertEqual({*workers}, {"worker1", "worker2"})

    def test_approvals(self) -> None:
        """
        Operators see what they must decide, and others do not; a decision is seen at once.
        """
        self.start(AskingKiro, session={"tools": ToolPolicy.ASK})
        operator, other = self.watch(), self.watch(_WATCHER)
        story = self.ask()
        self.server.settle(1)
        state = named(operator(), "state")[-1]
        [approval] = state["approvals"]
        self.assertEqual(state["workers"]["worker1"]["request"]["phase"], "tool_asked")
        self.assertEqual(named(other(), "state")[-1]["approvals"], [])
        self.server.request(
            "POST",
            f"/operator/approvals/{approval['id']}",
            {"decision": "allow"},
            Authorization=f"Bearer {TOKEN}",
        )
        self.assertEqual(named(operator(), "state")[-1]["approvals"], [])
        self.finish(story)

    def test_rejected(self) -> None:
        """
        A request without the scope is refused as any other, and HEAD gets no stream.
        """
        self.start()
        self.assertEqual(self.server.request("GET", "/watch").status, 401)
        response = self.server.request("HEAD", "/watch", Authorization=f"Bearer {TOKEN}")
        self.assertEqual((response.status, response.content), (200, b""))
        self.assertEqual(self.feed._watchers, {})


class EndTests(FeedTestCase):
    """
    Tests for how a stream ends.
    """

    def setUp(self) -> None:
        self.start()

    def open(self, **headers: str) -> Callable[[], Response]:
        response = self.server.begin("GET", "/watch", **headers)
        self.server.settle(0.1)
        self.assertEqual(len(self.feed._watchers), 1)
        return response

    def test_token_gone(self) -> None:
        """
        A stream ends when a reload removes its token.
        """
        response = self.open(Authorization=f"Bearer {_WATCHER}")
        self.server.authorizer.tokens = self.server.authorizer.tokens[:1]
        self.server.settle(INTERVAL)
        self.assertEqual(self.feed._watchers, {})
        self.assertTrue(response().content.endswith(b"0\r\n\r\n"))

    def test_signed_out(self) -> None:
        """
        A stream ends when its browser signs out, also in another window.
        """
        cookie = f"kiroworkers_session={self.server.authorizer.sign_in(streamed_request(), TOKEN)}"
        self.open(Cookie=cookie)
        self.server.request("DELETE", "/session", Cookie=cookie)
        self.server.settle(INTERVAL)
        self.assertEqual(self.feed._watchers, {})

    def test_scopes_changed(self) -> None:
        """
        A reload that makes an operator of a client shows it everything.
        """
        events = self.watch(_WATCHER)
        events()
        ann, bob, eve = self.server.authorizer.tokens
        operator = evolve(bob, scopes=frozenset({"operate"}))
        self.server.authorizer.tokens = (ann, operator, eve)
        self.server.settle(2 * INTERVAL)
        self.assertTrue(named(events(), "state")[-1]["operator"])

    def test_stop(self) -> None:
        """
        A server that stops ends the streams.
        """
        response = self.open(Authorization=f"Bearer {TOKEN}")
        self.feed.stop()
        self.assertEqual(self.feed._watchers, {})
        self.assertTrue(response().content.endswith(b"0\r\n\r\n"))
        self.feed.changed()
        self.server.settle()

    def test_hung_up(self) -> None:
        """
        Nothing is left of a client that hangs up, not even a timer.
        """
        request = streamed_request()
        watching = Deferred.fromCoroutine(self.feed.watch(request, "ann"))
        self.feed.changed()
        self.assertIn("Feed._push()", self.timers())
        watching.cancel()
        self.failureResultOf(watching)
        self.assertEqual(self.feed._watchers, {})
        self.server.settle(2 * INTERVAL)
        self.assertEqual(self.timers(), [])


class SlowTests(FeedTestCase):
    """
    Tests for a client that reads slowly.
    """

    def setUp(self) -> None:
        self.start()
        # Its request has none.
        self.server.authorizer.tokens = ()
        self.request = streamed_request()
        self.watching = Deferred.fromCoroutine(self.feed.watch(self.request, "ann"))
        self.server.settle(0.5)

    def test_skips(self) -> None:
        """
        A client that does not read for a while gets the newest state, not those before it, and
        every event of another kind that it needs.
        """
        self.request.producer.pauseProducing()
        self.request.written.clear()
        for _ in range(20):
            self.feed.changed()
            self.server.settle(0.5)
        self.finish(self.ask())
        self.assertEqual(self.request.written, [])
        self.request.producer.resumeProducing()
        events = parse(self.request.sent())
        names = [name for name, _ in events]
        # One of each was on its way.
        self.assertLessEqual(names.count("state"), 2)
        self.assertLessEqual(names.count("load"), 2)
        self.assertEqual(named(events, "request")[-1]["state"], "ended")
        self.assertEqual(named(events, "state")[-1]["workers"]["worker1"]["answered"], 1)

    def test_slow_for_good(self) -> None:
        """
        A client that stays slow gets everything in the end, and the memory stays small.
        """
        self.request.producer.pauseProducing()
        for _ in range(2 * MAX_REQUESTS + 20):
            self.finish(self.ask())
            if self.request.transport.disconnected:
                break
        self.assertTrue(self.request.transport.disconnected)
        [watcher] = self.feed._watchers
        self.assertLessEqual(len(watcher._waiting), 2 * MAX_REQUESTS)


class OutageTests(FeedTestCase):
    """
    Tests for outages.
    """

    def test_outage(self) -> None:
        """
        An outage is shown with its kind, its reason and its begin, and later with its end; also one
        that nobody watched.
        """
        self.start()
        events = self.watch()
        events()
        failure = AgentFailure(FailureKind.THROTTLED, "Too many requests", 30)
        self.server.dispatcher.worker_pool.record_failure(failure)
        self.server.settle(0.5)
        seen = events()
        [[outage]] = [data["outages"] for data in named(seen, "outages")]
        self.assertEqual(
            (outage["agent"], outage["kind"], outage["detail"], outage["until"]),
            ("kiro", "throttled", "Too many requests", None),
        )
        shown = named(seen, "state")[-1]["agents"]["kiro"]["outage"]
        self.assertEqual((shown["kind"], shown["since"]), ("throttled", outage["since"]))
        self.assertIn(shown["retryAfter"], (29, 30))
        self.server.settle(31)
        # Now the next request is a probe, and the agent answers it.
        self.assertEqual(
            named(events(), "state")[-1]["agents"]["kiro"]["outage"]["kind"], "throttled"
        )
        self.finish(self.ask())
        [[ended]] = [data["outages"] for data in named(events(), "outages")]
        self.assertIsNotNone(ended["until"])
        self.assertEqual(named(self.watch()(), "outages"), [{"outages": [ended]}])


class LoadTests(FeedTestCase):
    """
    Tests for the samples of the load.
    """

    def test_samples(self) -> None:
        """
        A sample has what ended since the one before, and the load at its time.
        """
        self.start(silent)
        events = self.watch()
        self.ask()
        self.ask()
        self.server.settle(INTERVAL)
        sample = named(events(), "load")[-1]
        self.assertEqual((sample["busy"], sample["workers"], sample["queued"]), (1, 1, 1))
        self.assertEqual((sample["requests"], sample["wait"]), (0, None))
        self.server.settle(121)
        total = [
            (sample["requests"], sample["failures"])
            for sample in named(events(), "load")
            if sample["requests"]
        ]
        self.assertEqual([sum(column) for column in zip(*total, strict=True)], [2, 2])

    def test_job(self) -> None:
        """
        What only asks for a job, or for an answer that is known, does not count as a request.
        """
        self.start()
        events = self.watch()
        for prefer in ("respond-async", ""):
            for _ in range(2):
                headers = {"Prefer": prefer, "Idempotency_Key": f"k{prefer}"}
                headers["Authorization"] = f"Bearer {TOKEN}"
                response = self.server.begin("POST", STORY, {"idea": "x"}, **headers)
                self.server.settle(2 * INTERVAL)
                self.assertEqual(response().status, 202 if prefer else 200)
        samples = named(events(), "load")
        self.assertEqual(sum(sample["requests"] for sample in samples), 1)

    def test_unwatched(self) -> None:
        """
        Samples of a time that nobody watched are there; an idle time has none.
        """
        self.start()
        self.finish(self.ask())
        self.server.settle(20 * INTERVAL)
        [loads] = named(self.watch()(), "loads")
        requests = [sample["requests"] for sample in loads["samples"]]
        self.assertEqual(requests[-2:], [1, 0])
        self.assertLess(len(requests), 6)
