"""
Tests for `kiroworkers.web.recordings`, with a session's recording in a folder.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from treq.testing import StubTreq
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.agents import Agent
from kiroworkers.conversations import load_dialect
from kiroworkers.pool.agent_groups import AgentGroup, AgentGroups
from kiroworkers.request_record import RequestEvent, RequestRecord
from kiroworkers.session.observer import SessionInfo
from kiroworkers.session.state import SessionState
from kiroworkers.tasks import builtin_tasks
from kiroworkers.telemetry.recordings import Recordings
from kiroworkers.testing import MemoryKiro, MemoryReactor
from kiroworkers.web.app import Application
from kiroworkers.web.auth import Authorizer
from kiroworkers.web.tokens import read_tokens
from tests import fakekiro
from tests.jobs.support import job_service_in
from tests.memory import dispatcher_in


class RecordingsTests(SynchronousTestCase):
    """
    Tests for the routes below ``/recordings``.
    """

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactor(lambda: MemoryKiro(fakekiro.answer_text))
        setattr(self.reactor, "callFromThread", lambda call, *arguments: call(*arguments))  # noqa: B010
        state = Path(self.mktemp())
        state.mkdir()
        self.recordings = Recordings(
            self.reactor,
            1024**3,
            enabled=True,
            wall_clock=lambda: 1_800_000_000.0,
            start_thread=lambda run: None,
        )
        self.recordings.open(state)
        recorder = self.recordings.observe_session(SessionInfo("worker1", "kiro", (24, 80)))
        assert recorder is not None
        self.recorder = recorder
        self.recorder.output(b"x" * 150_000)
        self.record = RequestRecord(id="r-1")
        self.recorder.asked(self.record, "prompt")
        self.recordings.process()
        [self.file] = (state / "recordings").iterdir()

        agent = Agent(load_dialect("kiro-classic"), "chosen", "/bin/kiro", (), {})
        groups = AgentGroups([AgentGroup(agent, dispatcher_in(self.reactor, workers=1))])
        tasks = builtin_tasks()
        tokens = Path(self.mktemp())
        tokens.write_text("ann operate token-of-ann-1234\nben watch,ask token-of-ben-1234\n")
        authorizer = Authorizer()
        authorizer.tokens = tuple(read_tokens(tokens))
        application = Application(
            self.reactor,
            groups,
            tasks,
            authorizer,
            job_service_in(self.reactor, groups, tasks),
            recordings=self.recordings,
        )
        self.client: Any = StubTreq(application.resource())

    def send(self, method: str, path: str, token: str = "token-of-ann-1234") -> Any:
        """
        Return the response to a request.
        """
        sent = self.client.request(
            method,
            f"http://localhost{path}",
            headers={"Authorization": f"Bearer {token}"},
        )
        self.recordings.process()
        self.client.flush()
        return self.successResultOf(sent)

    def content(self, response: Any) -> bytes:
        """
        Return the body of a response.
        """
        content: bytes = self.successResultOf(response.content())
        return content

    def test_list(self) -> None:
        """
        The recordings are listed with their sessions, times, sizes and requests.
        """
        response = self.send("GET", "/recordings")
        self.assertEqual(response.code, 200)
        self.assertEqual(
            json.loads(self.content(response)),
            {
                "recordings": [
                    {
                        "name": "20270115T080000Z-worker1-1.cast",
                        "worker": "worker1",
                        "agent": "kiro",
                        "format": "asciicast",
                        "started": 1_800_000_000_000,
                        "ended": None,
                        "bytes": self.file.stat().st_size,
                        "requests": ["r-1"],
                    }
                ]
            },
        )

    def test_download(self) -> None:
        """
        A recording that is being written is sent as far as it is written.
        """
        response = self.send("GET", f"/recordings/{self.file.name}")
        self.assertEqual(response.code, 200)
        self.assertEqual(self.content(response), self.file.read_bytes())
        headers = response.headers
        self.assertEqual(headers.getRawHeaders("content-type"), ["application/x-asciicast"])
        self.assertEqual(
            headers.getRawHeaders("content-disposition"),
            ['attachment; filename="20270115T080000Z-worker1-1.cast"'],
        )
        self.assertEqual(response.length, self.file.stat().st_size)

    def test_delete(self) -> None:
        """
        A recording can be deleted when its session has ended, not before.
        """
        path = f"/recordings/{self.file.name}"
        response = self.send("DELETE", path)
        self.assertEqual(response.code, 409)
        self.assertEqual(json.loads(self.content(response))["code"], "recording_in_use")
        self.recordings.request_event(self.record, RequestEvent("ended", 0.0, {}))
        self.recorder.state_changed(SessionState.STOPPING, SessionState.GONE, "")
        self.assertEqual(self.send("DELETE", path).code, 204)
        self.assertFalse(self.file.exists())
        self.assertEqual(self.send("DELETE", path).code, 404)

    def test_unknown(self) -> None:
        """
        What is not the name of a recording is not found, wherever it leads.
        """
        (self.file.parent / "other.cast").write_text("private")
        for name in ("nothing.cast", "other.cast", "..", "%2e%2e%2fkiroworkers.lock", "%00"):
            for method in ("GET", "DELETE"):
                response = self.send(method, f"/recordings/{name}")
                self.assertEqual(response.code, 404, name)
        self.assertTrue((self.file.parent / "other.cast").exists())

    def test_operators(self) -> None:
        """
        Only operators may see recordings: they have the prompts of all clients.
        """
        for method, path in (
            ("GET", "/recordings"),
            ("GET", f"/recordings/{self.file.name}"),
            ("DELETE", f"/recordings/{self.file.name}"),
        ):
            self.assertEqual(self.send(method, path, "token-of-ben-1234").code, 403, path)
