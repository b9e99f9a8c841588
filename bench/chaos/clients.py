"""
Send what the plans say, and compare what comes back with what must.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import MappingProxyType
from typing import Any

from attrs import define, field

from bench.chaos.http import Response
from bench.chaos.ledger import Job, Ledger
from bench.chaos.plan import CLIENTS, Plan
from bench.chaos.receivers import RECEIVERS, Receivers
from bench.chaos.sender import Cut, Sender
from bench.chaos.world import RECEIVE_TIMEOUT, World, authorization
from tests.cost_cases import CHAT, STORY, request, schema_of

#: How often a request with an idempotency key is sent, and the seconds in between.
_ATTEMPTS, _RETRY_DELAY = 60, 0.5

#: Seconds until a job is cancelled that makes its agent's account look throttled.
_THROTTLED = 3.0

#: Seconds between two parts of a request that is sent slowly.
_SLOW = 0.02

#: Statuses that a client must be prepared for, whatever it asks.
_FAILURES = {502, 503, 504}

_PAGES = ("/ready", "/health", "/jobs?limit=20", "/openapi.json", "/docs", "/kiro")


@define
class Clients:
    """
    Send requests from several threads.

    Attributes:
        world: The server.
        ledger: Where everything is written down.
        receivers: The receivers of callbacks.
    """

    world: World
    ledger: Ledger
    receivers: Receivers
    _sender: Sender = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._sender = Sender(self.world, self.ledger)

    def run(self, plan: Plan) -> None:
        """
        Send the request that `plan` describes, and count its outcome.
        """
        self.world.up.wait()
        act: Callable[[Plan], None] = getattr(self, f"_{plan.kind}")
        try:
            act(plan)
        except Cut:
            self.ledger.count("cut by kill -9 of the server")
        except (OSError, ValueError) as error:
            self.ledger.forbid("lost requests", f"{plan}: {error!r}")

    # What clients do.

    def _story(self, plan: Plan) -> None:
        began = time.monotonic()
        data = request("POST", STORY, self._body(plan), self._headers(plan), close=False)
        response = self._sender.exchange(plan, data, keep=True)
        if self._check(plan, response):
            self.ledger.durations.append(time.monotonic() - began)

    def _half_close(self, plan: Plan) -> None:
        data = request("POST", STORY, self._body(plan), self._headers(plan))
        self._check(plan, self._sender.exchange(plan, data, half_close=True))

    def _slow(self, plan: Plan) -> None:
        data = request("POST", STORY, self._body(plan), self._headers(plan))
        head, _, body = data.partition(b"\r\n\r\n")
        too_slow = plan.rng.random() < 0.2
        cut = plan.rng.randrange(1, len(body))
        pieces = [head + b"\r\n\r\n", body[:cut], body[cut:]]
        if too_slow:
            response = self._sender.exchange(plan, pieces[:2], pause=_SLOW)
            self._expect(plan, response, {408})
            return
        began = time.monotonic()
        response = self._sender.exchange(plan, pieces, pause=_SLOW)
        if response.status == 408 and time.monotonic() - began >= RECEIVE_TIMEOUT:
            # The machine is so busy that the pieces came too late.
            self._expect(plan, response, {408})
        else:
            self._check(plan, response)

    def _stream(self, plan: Plan) -> None:
        headers = {**self._headers(plan), "Accept": "text/event-stream"}
        data = request("POST", STORY, self._body(plan), headers)
        response = self._sender.exchange(plan, data)
        if response.status != 200:
            self._check(plan, response)
            return
        events = _events(response.body)
        name, value = events[-1] if events else ("", {})
        if name == "answer":
            self.ledger.check_story(plan, plan.idea(), value, repaired=False)
            self.ledger.count("200 in a stream")
        elif name == "error":
            self.ledger.count(f"{value['status']} {value['code']} in a stream")
            if value["status"] not in _FAILURES:
                self.ledger.forbid("wrong statuses", f"{plan} got {value} in a stream")
        else:
            self.ledger.forbid("lost requests", f"{plan}: a stream ended after {events[-3:]}")

    def _hang_up(self, plan: Plan) -> None:
        data = request("POST", STORY, self._body(plan), self._headers(plan))
        reset = plan.rng.random() < 0.3
        self._sender.send_only(plan, data, plan.rng.uniform(0, 0.3), reset)
        self.ledger.count("hung up")

    def _unread_stream(self, plan: Plan) -> None:
        headers = {**self._headers(plan), "Accept": "text/event-stream"}
        data = request("POST", STORY, self._body(plan), headers)
        self._sender.send_only(plan, data, plan.rng.uniform(0.5, 3), receive_buffer=2048)
        self.ledger.count("streams not read")

    def _unread(self, plan: Plan) -> None:
        path = plan.rng.choice(_PAGES)
        headers = self._headers(plan, "")
        data = request("GET", path, headers=headers, close=False)
        count = plan.rng.randrange(1, 65536 // len(data))
        pages = [
            request(
                "GET",
                path,
                headers={**headers, "User-Agent": f"chaos/{plan.number}.{n}"},
                close=False,
            )
            for n in range(count)
        ]
        self._sender.send_only(plan, b"".join(pages), plan.rng.uniform(0.2, 2), parts=count)
        self.ledger.count("responses not read")

    def _pipeline(self, plan: Plan) -> None:
        parts = [f".{part}" for part in range(plan.rng.randrange(2, 6))]
        data = [
            request("POST", STORY, self._body(plan, part), self._headers(plan, part), close=False)
            for part in parts
        ]
        began = time.monotonic()
        with self._sender.connect(began) as connection:
            answered = 0
            try:
                connection.send(b"".join(data))
                for part in parts:
                    response = connection.receive()
                    answered += 1
                    name = f"{plan.number}{part}"
                    self._sender.note_failure(name, plan.client, response)
                    self._check(plan, response, part)
            except (OSError, ValueError):
                self._sender.check_cut(began)
                raise
            finally:
                for number, part in enumerate(parts):
                    name, done = f"{plan.number}{part}", number < answered
                    self.ledger.note_sent(
                        name, plan.client, began, answered=done, optional=not done
                    )

    def _page(self, plan: Plan) -> None:
        path = plan.rng.choice(_PAGES)
        response = self._sender.exchange(
            plan, request("GET", path, headers=self._headers(plan), close=False), keep=True
        )
        # Only the operator may see some of them.
        self._expect(plan, response, {200, 403, 503})

    def _chat(self, plan: Plan) -> None:
        content = json.dumps({"n": plan.number, "text": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!"})
        content += f" [[{plan.fault}]]" if plan.fault else ""
        name, schema = plan.rng.choice(list(_SCHEMAS.items()))
        body = {
            "model": plan.agent,
            "messages": [{"role": "user", "content": content}],
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "own", "schema": schema()},
            },
        }
        response = self._sender.exchange(
            plan, request("POST", CHAT, json.dumps(body).encode(), self._headers(plan))
        )
        if response.status != 200:
            # A schema may cost too much, or not fit what the agent says.
            self._expect(plan, response, {400, *_FAILURES}, f" chat, {name}")
            return
        answer = json.loads(response.json()["choices"][0]["message"]["content"])
        if answer.get("n") != plan.number:
            self.ledger.forbid("wrong answers", f"{plan} got {answer}")
        self.ledger.count(f"200 chat, {name}")

    def _keyed(self, plan: Plan) -> None:
        headers = {**self._headers(plan), "Idempotency-Key": plan.key}
        body = self._body(plan)
        began = time.monotonic()

        def send(number: int) -> Response:
            return self._repeat(plan, body, headers, f"-{number}")

        if plan.rng.random() < 0.5:
            with ThreadPoolExecutor(2) as executor:
                responses = list(executor.map(send, range(2)))
        else:
            responses = [send(0), send(1)]
        answers = [response.body for response in responses if response.status == 200]
        for response in responses:
            self._check(plan, response)
        if len(set(answers)) > 1:
            self.ledger.forbid("results under a wrong key", f"{plan} got {answers}")
        if not answers:
            return
        self.ledger.durations.append(time.monotonic() - began)
        self.ledger.keyed[plan.number] = (plan, answers[0])
        if plan.rng.random() < 0.2:
            other = request(
                "POST",
                STORY,
                json.dumps({"idea": "another"}).encode(),
                {**headers, "User-Agent": f"chaos/{plan.number}-other"},
            )
            self._expect(plan, self._sender.exchange(plan, other, part="-other"), {409, 503})

    def replay(self, plan: Plan, answer: bytes) -> None:
        """
        Send a request again that was answered under an idempotency key.
        """
        headers = {**self._headers(plan), "Idempotency-Key": plan.key}
        response = self._repeat(plan, self._body(plan), headers, f"-{time.monotonic()}")
        if response.status != 200 or response.body != answer:
            self.ledger.forbid(
                "results under a wrong key",
                f"{plan}: first {answer!r}, then {response.status} {response.body!r}",
            )

    def _repeat(self, plan: Plan, body: bytes, headers: Mapping[str, str], part: str) -> Response:
        """
        Send a request with an idempotency key until the server can answer it.
        """
        for attempt in range(_ATTEMPTS):
            name = f"{plan.number}{part}-{attempt}"
            data = request("POST", STORY, body, {**headers, "User-Agent": f"chaos/{name}"})
            with suppress(Cut):
                response = self._sender.exchange(plan, data, part=f"{part}-{attempt}")
                if response.code != "storage_unavailable":
                    return response
                self.ledger.count("503 storage_unavailable, sent again")
                if "retry-after" not in response.headers:
                    self.ledger.forbid("wrong statuses", f"{plan}: no Retry-After in {response}")
            time.sleep(_RETRY_DELAY)
        return response

    def _job(self, plan: Plan) -> None:
        weights = [30, 0, 0, 70] if plan.steady else [30, 4, 4, 62]
        receiver = plan.rng.choices([*RECEIVERS, ""], weights)[0]
        headers = {
            **self._headers(plan),
            "Prefer": "respond-async",
            "Idempotency-Key": f"job-{plan.key}",
        }
        if receiver:
            headers["X-Callback"] = self.receivers.url(receiver)
        body = self._body(plan)
        began = time.monotonic()
        response = self._repeat(plan, body, headers, "")
        self._expect(plan, response, {202, 503}, " job")
        if response.status != 202:
            return
        id = response.json()["id"]
        job = self.ledger.jobs[id] = Job(plan, began, receiver)
        what = plan.rng.random()
        if "throttled" in plan.fault:
            # It would be repeated for ever.
            time.sleep(_THROTTLED)
            self._delete(plan, id, job)
        elif what < 0.3:
            again = self._repeat(plan, body, headers, "-again")
            if again.status != 202 or again.json()["id"] != id:
                self.ledger.forbid("results under a wrong key", f"{plan}: job {id}, then {again}")
        elif what < 0.4:
            other = CLIENTS[(CLIENTS.index(plan.client) + 1) % len(CLIENTS)]
            headers = {**authorization(other), "User-Agent": f"chaos/{plan.number}-other"}
            data = request("GET", f"/jobs/{id}", headers=headers)
            shown = self._sender.exchange(plan, data, part="-other", client=other)
            if shown.status not in (404, 503):
                self.ledger.forbid("jobs shown to others", f"{plan}: {shown}")
        elif what < 0.5:
            self._delete(plan, id, job)

    def _delete(self, plan: Plan, id: str, job: Job) -> None:
        """
        Cancel or delete a job.
        """
        for attempt in range(_ATTEMPTS):
            part = f"-delete-{attempt}"
            data = request("DELETE", f"/jobs/{id}", headers=self._headers(plan, part))
            with suppress(Cut):
                response = self._sender.exchange(plan, data, part=part)
                # It is gone if the server was killed just after an earlier attempt.
                statuses = {200, 204, 503} | ({404} if attempt else set())
                self._expect(plan, response, statuses, " DELETE of a job")
                if response.status != 503:
                    job.cancelled = response.status == 200 and _is_cancelled(response)
                    job.deleted = response.status in (204, 404)
                    return
            time.sleep(_RETRY_DELAY)

    def _headers(self, plan: Plan, part: str = "") -> dict[str, str]:
        return {
            **authorization(plan.client),
            "User-Agent": f"chaos/{plan.number}{part}",
            "X-Agent": plan.agent,
            "X-Request-Timeout": str(plan.deadline),
        }

    def _body(self, plan: Plan, part: str = "") -> bytes:
        return json.dumps({"idea": plan.idea(part)}).encode()

    # What comes back.

    def _check(self, plan: Plan, response: Response, part: str = "") -> bool:
        """
        Check the response to a request for a story; return whether it is one.
        """
        if response.status != 200:
            self._expect(plan, response, _FAILURES)
            return False
        self.ledger.count("200")
        repaired = "x-kiroworkers-repairs" in response.headers
        self.ledger.check_story(plan, plan.idea(part), response.json(), repaired)
        return True

    def _expect(self, plan: Plan, response: Response, statuses: set[int], note: str = "") -> None:
        self.ledger.count(f"{response.status} {response.code}".strip() + note)
        if response.status not in statuses:
            self.ledger.forbid("wrong statuses", f"{plan} got {response}")


def _events(body: bytes) -> list[tuple[str, Any]]:
    """
    Return the names and the data of a stream's events.
    """
    events = []
    for block in body.decode().split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in block.split("\n") if not line.startswith(":") and line
        )
        if "event" in fields:
            events.append((fields["event"], json.loads(fields["data"])))
    return events


def _is_cancelled(response: Response) -> bool:
    return bool(response.json()["state"] == "cancelled")


_NUMBER = {"n": {"type": "integer"}}

#: Schemas of clients, by their names.
_SCHEMAS: Mapping[str, Callable[[], Any]] = MappingProxyType(
    {
        "simple": lambda: {"type": "object", "properties": _NUMBER, "required": ["n"]},
        "slow pattern": lambda: {
            "type": "object",
            "properties": {**_NUMBER, "text": {"pattern": "^(a+)+$"}},
        },
        "oneOf": lambda: schema_of("oneOf {}", 4000),
        "enum": lambda: schema_of("enum of objects", 8000),
        "doubling": lambda: schema_of("doubling anyOf", 4000),
        "false references": lambda: schema_of("false x ref", 8000),
    }
)
