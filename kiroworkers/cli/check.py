"""
A smoke check of a running server: ``python -m kiroworkers.check URL``.

Asks what a client would ask: health, each endpoint once, as many requests at
once as there are workers, and one more.  Prints a line for each check, and
exits with 0 when all is well, with 1 when anything is not.  Each request is a
turn of a real agent, and is paid for like one.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from functools import partial
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

from attrs import field, frozen
from jsonschema import Draft202012Validator

from kiroworkers.json_schema import first_problem
from kiroworkers.tasks import Task, builtin_tasks

#: Seconds for what asks no agent.
_QUICK = 10.0


class CheckFailed(Exception):
    """
    What a check found, in one sentence.
    """


@frozen
class HttpReply:
    """
    What the server answered, and after how many `seconds`.
    """

    code: int
    headers: Message
    body: Any
    seconds: float


@frozen
class Client:
    """
    Asks the server at `base`, without any proxy; a request may take `timeout`
    seconds.

    Attributes:
        agent: who is to answer; the server's first without.
    """

    _base: str
    _timeout: float
    agent: str | None = None
    _token: str | None = field(default=None, repr=False)

    def ask(self, task: Task, body: Mapping[str, Any]) -> HttpReply:
        """
        The reply to a request to `task`.
        """
        return self.request(f"/kiro/{task.name}", json.dumps(dict(body)).encode())

    def request(
        self, path: str, body: bytes | None = None, timeout: float | None = None
    ) -> HttpReply:
        """
        The reply to a POST of `body`, or to a GET where there is none.

        Raises:
            Unwell: when nothing comes back that can be understood.
        """
        began, timeout = time.monotonic(), timeout or self._timeout
        request = Request(f"{self._base}{path}", body, {"Content-Type": "application/json"})
        if self.agent is not None:
            request.add_header("X-Agent", self.agent)
        if self._token is not None:
            request.add_header("Authorization", f"Bearer {self._token}")
        try:
            code, headers, text = _exchange(request, timeout)
        except TimeoutError:
            raise CheckFailed(f"no answer within {timeout:g} s") from None
        except (URLError, HTTPException, OSError) as problem:
            reason = getattr(problem, "reason", problem)
            raise CheckFailed(f"cannot reach {self._base}: {reason}") from None
        try:
            said = json.loads(text)
        except ValueError:
            raise CheckFailed(f"answered {code}, and no JSON: {text[:80]!r}") from None
        return HttpReply(code, headers, said, time.monotonic() - began)


def _exchange(request: Request, timeout: float) -> tuple[int, Message, bytes]:
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=timeout) as response:
            return response.status, response.headers, response.read()
    except HTTPError as refused:
        with refused:
            return refused.code, refused.headers, refused.read()


def check(client: Client, say: Callable[[str], object]) -> bool:
    """
    Whether the server of `client` does all it should; `say` gets a line for
    each check.
    """
    if not _reported("health", partial(_health, client), say):
        return False
    checks: dict[str, Callable[[], str]] = {
        name: partial(_endpoint, client, task) for name, task in builtin_tasks().items()
    }
    checks["side by side"] = partial(_side_by_side, client)
    checks["one too many"] = partial(_one_too_many, client)
    passed = [_reported(name, run, say) for name, run in checks.items()]
    return all(passed)


def _reported(name: str, run: Callable[[], str], say: Callable[[str], object]) -> bool:
    try:
        detail = run()
    except CheckFailed as problem:
        say(f"FAILED  {name:15} {problem}")
        return False
    say(f"ok      {name:15} {detail}")
    return True


def _health(client: Client) -> str:
    """
    The server runs, and every worker can take work.
    """
    body = _told(client)
    workers = body["workers"].items()
    unwell = [f"{name} is {each['state']}" for name, each in workers if not each["healthy"]]
    if unwell:
        raise CheckFailed(", ".join(unwell))
    agents = ", ".join(body.get("agents", [str(body.get("agent"))]))
    return f"{len(workers)} workers, all healthy; agent: {agents}"


def _workers(client: Client) -> int:
    """
    How many there are of who is asked.
    """
    body = _told(client)
    agent = client.agent or body.get("agent")
    found = [each for each in body["workers"].values() if each.get("agent", agent) == agent]
    if not found:
        raise CheckFailed(f"{agent} has no workers")
    return len(found)


def _told(client: Client) -> Any:
    """
    What the server says of itself.
    """
    reply = client.request("/health", timeout=_QUICK)
    if reply.code != 200 or not isinstance(reply.body, dict) or not reply.body.get("workers"):
        raise CheckFailed(f"this is no running kiroworkers: {reply.code} {str(reply.body)[:200]}")
    return reply.body


def _endpoint(client: Client, task: Task) -> str:
    """
    `task` answers its own example with what fits its schema.
    """
    return f"fits its schema, {_fit(client.ask(task, task.example_input), task)}"


def _side_by_side(client: Client) -> str:
    """
    As many requests at once as there are workers are all answered.
    """
    task, workers = builtin_tasks()["generate-story"], _workers(client)
    replies = _stories(client, task, workers)
    return f"{workers} requests: {', '.join(_fit(each, task) for each in replies)}"


def _one_too_many(client: Client) -> str:
    """
    One request more than that is answered after a wait, or told when to come
    back.
    """
    task, workers = builtin_tasks()["generate-story"], _workers(client)
    replies = _stories(client, task, workers + 1)
    told = [each.headers.get("Retry-After", "") for each in replies if each.code == 503]
    for each in replies:
        if each.code != 503:
            _fit(each, task)
    if not told:
        return f"{workers + 1} requests: all answered, after a wait"
    if len(told) > 1 or not told[0].isdigit():
        raise CheckFailed(f"{len(told)} of {workers + 1} refused, to come back in {told} s")
    return f"{workers + 1} requests: {workers} answered, one told to come back in {told[0]} s"


def _stories(client: Client, task: Task, count: int) -> list[HttpReply]:
    """
    The replies to `count` requests at once, each for a story of its own.
    """
    asked = [{"idea": f"Print the list of team {number}"} for number in range(1, count + 1)]
    with ThreadPoolExecutor(count) as together:
        replies = list(together.map(partial(client.ask, task), asked))
    answers = [json.dumps(each.body) for each in replies if each.code == 200]
    if len(set(answers)) < len(answers):
        raise CheckFailed(f"two ideas got one answer: {answers}")
    return replies


def _fit(reply: HttpReply, task: Task) -> str:
    """
    Who answered in what time; `reply` is an answer to `task`.
    """
    if reply.code != 200:
        raise CheckFailed(f"{task.name} answered {reply.code}: {reply.body}")
    problem = first_problem(Draft202012Validator(task.answer_schema), reply.body)
    if problem is not None:
        raise CheckFailed(f"the answer does not fit: {problem.sentence}")
    return f"{reply.headers.get('X-Kiroworkers-Worker')} in {reply.seconds * 1000:.0f} ms"


def base_of(url: str) -> str | None:
    """
    The server's address in `url`; None when that is none.
    """
    return url.rstrip("/") if re.match(r"https?://[^/?#\s]+/?$", url) else None


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Check the server that the command line names; the exit status.
    """
    parser = argparse.ArgumentParser("python -m kiroworkers.check", description=__doc__)
    parser.add_argument("url", help="where the server listens, such as http://127.0.0.1:8080")
    parser.add_argument(
        "--timeout", type=float, default=150.0, help="longest wait for an answer, in s [150]"
    )
    parser.add_argument("--agent", help="who is to answer; the server's first without")
    given = parser.parse_args(arguments)
    base = base_of(given.url)
    if base is None:
        parser.error(f"{given.url} is no address such as http://127.0.0.1:8080")
    print(f"checking {base}")
    well = check(Client(base, given.timeout, given.agent), print)
    print("all is well" if well else "not all is well")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
