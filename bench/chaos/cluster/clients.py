"""
Send what the plans say through HAProxy, and compare what comes back with what must.
"""

from __future__ import annotations

import json
import time
from threading import Event
from typing import Any

from attrs import define, field

from bench.chaos.cluster.follower import Follower, StreamEvent, Wrong, answer_of
from bench.chaos.cluster.ledger import Job, Ledger
from bench.chaos.cluster.plan import Plan
from bench.chaos.http import Connection, Response
from bench.chaos.world import authorization
from tests.cost_cases import STORY, request

#: Seconds until a request is sent again, and for how long that is tried.
_RETRY_DELAY = 0.3
_GIVE_UP = 180

#: The deadline of a turn, in seconds: longer than a server is stopped.
_DEADLINE = 60


@define
class Clients:
    """
    Send requests from several threads.

    Attributes:
        port: The port of HAProxy.
        ledger: Where everything is written down.
        callback: The URL of the receiver of callbacks.
        over: Set to make clients give up.
    """

    port: int
    ledger: Ledger
    callback: str
    over: Event = field(factory=Event)

    def run(self, plan: Plan) -> None:
        """
        Send the request that `plan` describes.
        """
        if plan.kind == "live":
            self._live(plan)
        else:
            self._job(plan)

    def _live(self, plan: Plan) -> None:
        until = time.monotonic() + _GIVE_UP
        while self._goes_on(until):
            response = self.ask(plan)
            if response is None or response.status in (502, 504):
                if not plan.keyed:
                    return  # A second attempt might ask the prompt twice; the audit looks.
            elif response.status == 200:
                self.check_answer(plan, response)
                return
            elif response.status != 503:
                self.ledger.forbid("wrong statuses", f"{plan} got {response}")
                return
            self.over.wait(_RETRY_DELAY)
        self.ledger.forbid("live requests without an answer", f"{plan}")

    def _goes_on(self, until: float) -> bool:
        return time.monotonic() < until and not self.over.is_set()

    def check_answer(self, plan: Plan, response: Response) -> None:
        """
        Check the answer to a live request, and note it.
        """
        if response.json().get("title") != plan.idea:
            self.ledger.forbid("wrong answers", f"{plan} got {response}")
        earlier = self.ledger.answers.setdefault(plan.name, response.body)
        if earlier != response.body:
            self.ledger.forbid(
                "answers that changed under one key", f"{plan}: {earlier!r}, then {response}"
            )

    def ask(self, plan: Plan, port: int | None = None) -> Response | None:
        """
        POST a request once; return None if there is no response.

        Args:
            plan: The request.
            port: The port of a server; HAProxy's if it is None.
        """
        headers = {**authorization(plan.client), "X-Request-Timeout": str(_DEADLINE)}
        if plan.keyed:
            headers["Idempotency-Key"] = plan.name
        if plan.kind == "job":
            headers["Prefer"] = "respond-async"
        if plan.called_back:
            headers["X-Callback"] = self.callback
        body = json.dumps({"idea": plan.idea}).encode()
        began = time.monotonic()
        try:
            response = _exchange(port or self.port, request("POST", STORY, body, headers))
        except (OSError, ValueError):
            self.ledger.note_attempt(plan, began, 0)
            return None
        self.ledger.note_attempt(plan, began, response.status, response.code)
        return response

    def _job(self, plan: Plan) -> None:
        until = time.monotonic() + _GIVE_UP
        while True:
            response = self.ask(plan)
            if response is not None and response.status == 202:
                break
            if response is not None and response.status not in (502, 503, 504):
                self.ledger.forbid("wrong statuses", f"{plan} got {response}")
                return
            if not self._goes_on(until):
                self.ledger.forbid("jobs lost", f"{plan} was never accepted")
                return
            self.over.wait(_RETRY_DELAY)
        id = response.json()["id"]
        job = self.ledger.note_job(id, plan)
        time.sleep(plan.delay if plan.afterwards else 0)
        match plan.afterwards:
            case "follow":
                self._follow(id, job)
            case "poll":
                self._poll(id, job)
            case "cancel":
                self._cancel(id, job)

    def _follow(self, id: str, job: Job) -> None:
        follower = Follower(self.over)
        try:
            last = follower.follow(self.port, job.plan.client, id, time.monotonic() + _GIVE_UP)
        except Wrong as error:
            self.ledger.forbid("wrong streams", f"{job.plan}: {error}")
            return
        self._check_last(job, last)
        self.ledger.count("streams followed to their end")
        self.ledger.count("streams opened again", follower.reconnects)
        self.ledger.count("gaps in streams", follower.gaps)

    def _check_last(self, job: Job, last: StreamEvent) -> None:
        if last.name != "answer" or answer_of(last).get("title") != job.plan.idea:
            self.ledger.forbid("wrong streams", f"{job.plan} ended with {last}")

    def _poll(self, id: str, job: Job) -> None:
        for _ in range(3):
            response = self._repeat("GET", id, job)
            if response is None:
                return
            if response.status == 200:
                self.ledger.note_shown(job, response.json())
            time.sleep(job.plan.delay)

    def _cancel(self, id: str, job: Job) -> None:
        response = self._repeat("DELETE", id, job)
        if response is None:
            return
        # It may have ended just before; if it had when the request came, it is deleted.
        if response.status == 200:
            job.cancelled = response.json()["state"] == "cancelled"
        elif response.status in (204, 404):
            self.ledger.count("jobs deleted after their end")
            job.deleted = True

    def _repeat(self, method: str, id: str, job: Job) -> Response | None:
        """
        Send a request about a job until a server can answer it.
        """
        until = time.monotonic() + _GIVE_UP
        while self._goes_on(until):
            data = request(method, f"/jobs/{id}", headers=authorization(job.plan.client))
            try:
                response = _exchange(self.port, data)
            except (OSError, ValueError):
                response = None
            if response is not None and response.status < 500:
                known = response.status in (200, 204)
                if not known and (method, response.status) != ("DELETE", 404):
                    self.ledger.forbid("jobs lost", f"{job.plan}: {method} got {response}")
                return response
            self.over.wait(_RETRY_DELAY)
        self.ledger.forbid("jobs lost", f"{job.plan}: {method} was never answered")
        return None


def get(port: int, path: str, client: str) -> Any:
    """
    Return the JSON that a GET of `client` gets.

    Raises:
        OSError: There is no response, or a failure.
        ValueError: The response is not valid.
    """
    response = _exchange(port, request("GET", path, headers=authorization(client)))
    if response.status != 200:
        raise OSError(f"GET {path}: {response}")
    return response.json()


def _exchange(port: int, data: bytes) -> Response:
    with Connection(port) as connection:
        connection.send(data)
        return connection.receive()
