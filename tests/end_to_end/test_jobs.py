"""
End to end: jobs, callbacks and idempotency keys.  A server over HTTP, real
processes.
"""

from __future__ import annotations

import hmac
import json
import re
import resource
from hashlib import sha256
from random import Random
from time import time
from typing import Any

import treq
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.web.client import ResponseFailed, ResponseNeverReceived
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.resource import Resource
from twisted.web.server import Site

from kiroworkers.conversations import load_dialect
from kiroworkers.jobs.paths import jobs_file
from kiroworkers.workspaces.state_folder import StateFolder
from tests.end_to_end.test_answers import events_in
from tests.jobs import schema1
from tests.servers import ServerTestCase, real

ASYNC = {"Prefer": "respond-async"}
SECRET = "a secret of the tests"


class Listening(Resource):
    """
    Hears callbacks, and answers each with the next of `statuses`, else 200.
    """

    isLeaf = True

    def __init__(self, *statuses: int) -> None:
        super().__init__()
        self.statuses = [*statuses]
        self.calls: list[tuple[str | None, bytes]] = []
        self._awaited: list[tuple[int, Deferred[None]]] = []

    def render_POST(self, request: Any) -> bytes:
        self.calls.append((request.getHeader("x-kiroworkers-signature"), request.content.read()))
        request.setResponseCode(self.statuses.pop(0) if self.statuses else 200)
        request.setHeader("location", "http://127.0.0.1:1/elsewhere")
        for number, awaited in self._awaited:
            if len(self.calls) == number:
                awaited.callback(None)
        return b""

    def hears(self, number: int) -> Deferred[None]:
        """
        Fires when so many calls were heard, of which the last is still to come.
        """
        awaited: Deferred[None] = Deferred()
        self._awaited.append((number, awaited))
        return awaited


class Cutting(Protocol):
    """
    Send a request, and cut the connection after some bytes of the response's body.

    Attributes:
        ended: Fires with these bytes.
    """

    def __init__(self, request: bytes, size: int) -> None:
        self.ended: Deferred[bytes] = Deferred()
        self._request, self._size, self._response = request, size, b""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self._request)

    def dataReceived(self, data: bytes) -> None:
        self._response += data
        if len(self._body) == self._size:
            transport: Any = self.transport
            transport.abortConnection()

    def connectionLost(self, reason: Any = None) -> None:
        self.ended.callback(self._body)

    @property
    def _body(self) -> bytes:
        return self._response.partition(b"\r\n\r\n")[2][: self._size]


def identified(response: bytes) -> list[tuple[str, str]]:
    """
    Return the identifier and the text of each complete event in a response.
    """
    text = response.decode("utf-8", "ignore")
    return re.findall(r"id: (\S+)\n(event: \w+\ndata: .*)\n\n", text)


class JobEvents:
    """
    Collect the events of a job as they arrive.

    Attributes:
        names: Their names.
        last_id: The identifier of the last one.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.last_id = ""
        self._data = b""
        self._awaited: dict[str, Deferred[None]] = {}

    def feed(self, data: bytes) -> None:
        """
        Read a piece of the stream.
        """
        *blocks, self._data = (self._data + data).split(b"\n\n")
        for block in blocks:
            fields = dict(line.split(": ", 1) for line in block.decode().splitlines())
            if "event" in fields:
                self.names.append(fields["event"])
                self.last_id = fields["id"]
                awaited = self._awaited.pop(fields["event"], None)
                if awaited is not None:
                    awaited.callback(None)

    def has(self, name: str) -> Deferred[None]:
        """
        Return a Deferred that fires when the event `name` has come.
        """
        if name in self.names:
            return succeed(None)
        return self._awaited.setdefault(name, Deferred())


class Tarpit(Factory):
    """
    Accept calls, and never answer.

    Attributes:
        open: The open connections.
        accepted: The number of connections so far.
        full: Fires when there are so many.
    """

    noisy = False

    def __init__(self, number: int) -> None:
        self.open: set[Protocol] = set()
        self.accepted = 0
        self.full: Deferred[None] = Deferred()
        self._number = number

    def buildProtocol(self, addr: Any) -> Protocol:
        factory = self

        class Silent(Protocol):
            def connectionMade(self) -> None:
                factory.open.add(self)

            def connectionLost(self, reason: Any = None) -> None:
                factory.open.remove(self)

        self.accepted += 1
        if self.accepted == self._number:
            self.full.callback(None)
        return Silent()


class JobTestCase(ServerTestCase):
    """
    Servers with one worker, and a state folder that outlives them.
    """

    def setUp(self) -> None:
        super().setUp()
        self.state = self.folder / "state"

    async def start_jobs(self, *options: str, **env: Any) -> Any:
        state = ("--state-dir", str(self.state))
        return await self.start(*state, *options, workers=1, **env)

    async def order(self, idea: str, **headers: str) -> Any:
        """
        A job for a story: the response, and its body.
        """
        return await self.story(idea, headers={**ASYNC, **headers})

    async def job(self, id: str) -> Any:
        _, body = await self.fetch("GET", f"/jobs/{id}")
        return body

    def listen(self, *statuses: int) -> tuple[Listening, str]:
        """
        Somebody to call back, and where.
        """
        listening = Listening(*statuses)
        port = real.listenTCP(0, Site(listening), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return listening, f"http://127.0.0.1:{port.getHost().port}/hook"

    def callbacks(self) -> tuple[str, ...]:
        """
        The options that have callbacks.
        """
        secret = self.folder / "secret"
        secret.write_text(SECRET + "\n")
        return ("--callback-secret-file", str(secret), "--callback-hosts", "127.0.0.1")


class RestartTests(JobTestCase):
    """
    Jobs outlive their server.
    """

    async def test_killed(self) -> None:
        """
        A server that is killed loses no job: the next one asks those that ran or
        waited again, and calls back.
        """
        listening, url = self.listen()
        told = listening.hears(2)
        await self.start_jobs(*self.callbacks())
        headers = {"X-Callback": url}
        response, first = await self.order("the first [[think=30]]", **headers)
        self.assertEqual(response.code, 202, first)
        _, second = await self.order("the second", **headers)
        stream = JobEvents()
        listening_to = await treq.get(f"{self.base}/jobs/{first['id']}/events", persistent=False)
        cut = listening_to.collect(stream.feed)
        await self.typed.wait_for("the first")
        await stream.has("started")
        self.assertEqual((await self.job(first["id"]))["state"], "running")
        waiting = await self.job(second["id"])
        self.assertEqual((waiting["state"], waiting["position"]), ("queued", 1))
        await self.server.signal("KILL")
        await self.assertFailure(cut, PotentialDataLoss, ResponseFailed)
        self.typed.lines.clear()
        await self.start_jobs(*self.callbacks())
        await self.typed.wait_for("the first")
        response = await treq.get(
            f"{self.base}/jobs/{first['id']}/events",
            headers=Headers({"Last-Event-ID": [stream.last_id]}),
            persistent=False,
        )
        stream = JobEvents()
        ended = response.collect(stream.feed)
        await stream.has("started")
        running = await self.job(first["id"])
        self.assertEqual((running["state"], running["attempts"]), ("running", 2))
        _, cancelled = await self.fetch("DELETE", f"/jobs/{first['id']}")
        self.assertEqual(cancelled["state"], "cancelled")
        await ended
        # It also waits for a session, if that is not ready.
        names = [name for name in stream.names if name != "queued"]
        self.assertEqual(names, ["gap", "started", "cancelled"])
        await told
        _, history = await self.fetch("GET", "/requests")
        [gap] = history["gaps"]
        self.assertEqual(gap["reason"], "The server ended without saving what had happened last")
        done = await self.job(second["id"])
        self.assertEqual((done["state"], done["result"]["title"]), ("done", "the second"))
        bodies = {json.loads(body)["id"]: (signed, body) for signed, body in listening.calls}
        signed, body = bodies[second["id"]]
        expected = hmac.new(SECRET.encode(), body, sha256).hexdigest()
        self.assertEqual(signed, f"sha256={expected}")
        self.assertEqual(json.loads(body), done)

    async def test_cut(self) -> None:
        """
        A client whose connection to a job's events is cut ten times at random bytes gets each
        event once, and the job goes on meanwhile.
        """
        random = Random(1)
        await self.start_jobs()
        _, job = await self.order("An idea [[pretty split]]")
        path = f"/jobs/{job['id']}/events"
        uncut = treq.get(self.base + path, persistent=False).addCallback(treq.content)
        seen: list[tuple[str, str]] = []
        cuts = 0
        while not (seen and seen[-1][0] == "end"):
            last = f"Last-Event-ID: {seen[-1][0]}\r\n" if seen else ""
            request = f"GET {path} HTTP/1.0\r\n{last}\r\n".encode()
            # Less than the events with the text and the answer.
            size = random.randint(1, 120) if cuts < 10 else 10**9
            cuts += 1
            cutting = Cutting(request, size)
            endpoint = TCP4ClientEndpoint(real, "127.0.0.1", int(self.base.rpartition(":")[2]))
            await connectProtocol(endpoint, cutting)
            seen += identified(await cutting.ended)
        self.assertEqual(cuts, 11)
        self.assertEqual(seen, identified(await uncut))
        self.assertIn('"title":"An idea', seen[-1][1])
        self.assertEqual((await self.job(job["id"]))["attempts"], 1)

    async def test_older_server(self) -> None:
        """
        The jobs of a server with another schema of the database read as they did, and
        those that were not finished run.
        """
        StateFolder(self.state).release()
        agent = load_dialect("kiro-classic").name
        jobs = schema1.write_database(jobs_file(self.state), "127.0.0.1", agent, time())
        await self.start_jobs()
        for id, expected in jobs.items():
            self.assertEqual(await self.job(id), expected)
        self.assertIn((await self.job("running"))["state"], ("running", "done"))

    async def test_callback_again(self) -> None:
        """
        A callback in vain is made again, by the next server if need be; a redirect
        is not followed.
        """
        listening, url = self.listen(302)
        told = listening.hears(1)
        await self.start_jobs(*self.callbacks())
        _, job = await self.order("an idea", **{"X-Callback": url})
        await told
        await self.server.says(r"callback to \S+ failed \(302\)")
        await self.server.signal("KILL")
        told = listening.hears(2)
        await self.start_jobs(*self.callbacks())
        await told
        bodies = [json.loads(body) for _, body in listening.calls]
        self.assertEqual([each["id"] for each in bodies], [job["id"]] * 2)
        self.assertEqual(bodies[0], bodies[1])

    async def test_usual_folder(self) -> None:
        """
        Without --state-dir, on a port of its own, jobs are below the user's state
        folder; where that cannot be had, the log says that they go with the server.
        """
        socket = self.folder / "k.sock"
        options = ("--listen", f"unix:{socket}", "--workers", "1")
        server = self.run_twistd(*options, XDG_STATE_HOME=str(self.folder / "home"))
        await server.says("worker1: ready")
        self.assertEqual(await server.signal("TERM"), 0)
        [file] = (self.folder / "home").glob("kiroworkers/*/jobs/jobs.sqlite3")
        self.assertIn("unix-", str(file))
        (self.folder / "file").touch()
        server = self.run_twistd(*options, XDG_STATE_HOME=str(self.folder / "file"))
        await server.says("jobs will not survive a restart")
        await server.says("worker1: ready")
        self.assertEqual(await server.signal("TERM"), 0)

    async def test_stopped(self) -> None:
        """
        A server that is told to stop refuses no job: those that are not finished
        in time are asked by the next one, and the exit status is 0.
        """
        await self.start_jobs()
        _, job = await self.order("an idea [[think=30]]", **{"X-Request-ID": "request-1"})
        self.assertEqual(job["requestId"], "request-1")
        await self.typed.wait_for("an idea")
        self.assertEqual(await self.server.signal("TERM"), 0, self.server.output)
        self.typed.lines.clear()
        await self.start_jobs()
        await self.typed.wait_for("an idea")
        self.assertEqual((await self.job(job["id"]))["state"], "running")
        _, history = await self.fetch("GET", "/requests")
        self.assertEqual(
            [(entry["id"], entry["job"], entry["outcome"]) for entry in history["requests"]],
            [("request-1", job["id"], outcome) for outcome in (None, "cancelled", "accepted")],
        )
        self.assertEqual(history["gaps"], [])
        path, events = "/requests/request-1", []
        while path:
            _, entry = await self.fetch("GET", path)
            events.append([event["name"] for event in entry["events"]])
            path = entry["older"]
        self.assertEqual(events[0][0], "received")
        self.assertIn("started", events[0])
        self.assertEqual(events[1][-1], "ended")
        self.assertEqual(events[2], ["received", "ended"])


class CallbackTests(JobTestCase):
    """
    Receivers that do not answer.
    """

    async def test_tarpit(self) -> None:
        """
        Many callbacks of one client to a receiver that never answers do not delay the
        callback of another client.
        """
        tokens = self.folder / "tokens"
        tokens.write_text(f"a ask {'a' * 20}\nb ask {'b' * 20}\n")
        tokens.chmod(0o600)
        tarpit = Tarpit(4)
        port = real.listenTCP(0, tarpit, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        listening, url = self.listen()
        told = listening.hears(1)
        await self.start_jobs(*self.callbacks(), "--token-file", str(tokens))
        for number in range(9):
            await self.order(
                f"idea {number}",
                **{
                    "X-Callback": f"http://127.0.0.1:{port.getHost().port}/",
                    "Authorization": f"Bearer {'a' * 20}",
                },
            )
        await tarpit.full
        await self.order("the other", **{"X-Callback": url, "Authorization": f"Bearer {'b' * 20}"})
        await told
        self.assertEqual(json.loads(listening.calls[0][1])["result"]["title"], "the other")
        self.assertLessEqual(len(tarpit.open), 4)


class StorageTests(JobTestCase):
    """
    The state folder cannot be written to for a while.
    """

    async def test_heals(self) -> None:
        """
        The answer of a job that ends meanwhile is stored as soon as that is possible, and
        costs no second turn; new jobs are refused, and other requests are answered.
        """
        await self.start_jobs()
        _, job = await self.order("an idea [[think=5]]")
        await self.typed.wait_for("an idea")
        # Each write to a file fails, as on a disk that is full.
        pid = self.server.pid
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
        response, error = await self.order("another idea")
        self.assertEqual((response.code, error["code"]), (503, "storage_unavailable"))
        self.assertEqual(self.header(response, "retry-after"), str(error["retryAfter"]))
        response, story = await self.story("a third idea")
        self.assertEqual((response.code, story["title"]), (200, "a third idea"))
        for path in ("/health", "/ready"):
            _, body = await self.fetch("GET", path)
            self.assertEqual(body["storage"]["state"], "failing", path)
        self.assertIn((await self.job(job["id"]))["state"], ("queued", "running"))
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
        await self.server.says("storage works again")
        self.assertEqual((await self.job(job["id"]))["state"], "done")
        response, _ = await self.order("another idea")
        self.assertEqual(response.code, 202)
        self.assertEqual(len([line for line in self.typed.lines if "an idea" in line]), 1)


class KeyTests(JobTestCase):
    """
    Answers that are given again.
    """

    async def test_shared(self) -> None:
        """
        Requests with the same key share one turn while it runs, also when the
        first of them hangs up, and the answer is there for the next server's
        clients.
        """
        await self.start_jobs()
        key: Any = {"Idempotency-Key": "k1"}
        first = self.story("an idea [[think=5]]", headers=key)
        await self.typed.wait_for("an idea")
        # It waits, too, as soon as its stream begins.
        second = await treq.post(
            f"{self.base}/kiro/generate-story",
            json={"idea": "an idea [[think=5]]"},
            headers={**key, "Accept": "text/event-stream"},
            persistent=False,
        )
        response, _ = await self.story("another idea", headers=key)
        self.assertEqual(response.code, 409)
        first.cancel()
        await self.assertFailure(first, ResponseNeverReceived)
        [*_, (name, story)] = events_in((await second.content()).decode())
        self.assertEqual((name, story["title"]), ("answer", "an idea [[think=5]]"))
        await self.server.signal("KILL")
        await self.start_jobs()
        response, again = await self.story("an idea [[think=5]]", headers=key)
        self.assertEqual(again, story)
        self.assertEqual(self.header(response, "idempotency-replayed"), "true")
        prompts = [line for line in self.typed.lines if "an idea" in line]
        self.assertEqual(len(prompts), 1)
