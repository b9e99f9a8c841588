"""
Check that a running server works: ``kiroworkers check URL``.

It requests the health, one answer to each built-in task, as many answers at the same time
as there are workers, and then one more than that.  It prints a line for each check and
exits with 0 if all of them pass, with 1 otherwise.  Each answer is a turn of a real agent,
and costs as much as one.
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

from kiroworkers.clean_text import clean_text
from kiroworkers.json_schema import first_problem
from kiroworkers.tasks import Task, builtin_tasks

#: Seconds for requests that need no agent.
_AGENTLESS_TIMEOUT = 10.0


class CheckFailed(Exception):
    """
    Raised when a check fails; the message is one sentence that says why.
    """


@frozen
class HttpReply:
    """
    Hold a response of the server.

    Attributes:
        code: Its status.
        headers: Its headers.
        body: Its body, parsed as JSON.
        seconds: How long it took.
    """

    code: int
    headers: Message
    body: Any
    seconds: float


@frozen
class Client:
    """
    Send requests to one server, never through a proxy.

    Args:
        base: The address of the server, without a slash at its end.
        timeout: Seconds that a request may take.
        token: The token to send, or None.

    Attributes:
        agent: The agent that answers; None for the server's first.
    """

    _base: str
    _timeout: float
    agent: str | None = None
    _token: str | None = field(default=None, repr=False)

    def ask(self, task: Task, body: Mapping[str, Any]) -> HttpReply:
        """
        Send a request to `task` and return the reply.
        """
        return self.request(f"/kiro/{task.name}", json.dumps(dict(body)).encode())

    def request(
        self, path: str, body: bytes | None = None, timeout: float | None = None
    ) -> HttpReply:
        """
        Send a request and return the reply.

        Args:
            path: The path, with its leading slash.
            body: The body of a POST; None for a GET.
            timeout: Seconds that the request may take; by default those of the client.

        Raises:
            CheckFailed: If there is no response, or one that is not JSON.
        """
        started_at, timeout = time.monotonic(), timeout or self._timeout
        request = Request(f"{self._base}{path}", body, {"Content-Type": "application/json"})
        if self.agent is not None:
            request.add_header("X-Agent", self.agent)
        if self._token is not None:
            request.add_header("Authorization", f"Bearer {self._token}")
        try:
            code, headers, text = _exchange(request, timeout)
        except TimeoutError:
            raise CheckFailed(f"no answer within {timeout:g} s") from None
        except (URLError, HTTPException, OSError) as error:
            reason = getattr(error, "reason", error)
            raise CheckFailed(f"cannot reach {self._base}: {reason}") from None
        try:
            payload = json.loads(text)
        except ValueError:
            raise CheckFailed(f"the server answered {code} without JSON: {text[:80]!r}") from None
        return HttpReply(code, headers, payload, time.monotonic() - started_at)


def _exchange(request: Request, timeout: float) -> tuple[int, Message, bytes]:
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=timeout) as response:
            return response.status, response.headers, response.read()
    except HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def check(client: Client, report: Callable[[str], object]) -> bool:
    """
    Run all checks and return whether they passed.

    Args:
        client: The client of the server to check.
        report: Called with a line for each check.
    """
    if not _run("health", partial(_check_health, client), report):
        return False
    checks: dict[str, Callable[[], str]] = {
        name: partial(_check_task, client, task) for name, task in builtin_tasks().items()
    }
    checks["concurrent"] = partial(_check_concurrent, client)
    checks["one too many"] = partial(_check_overload, client)
    passed = [_run(name, run, report) for name, run in checks.items()]
    return all(passed)


def _run(name: str, run_check: Callable[[], str], report: Callable[[str], object]) -> bool:
    try:
        detail = run_check()
    except CheckFailed as error:
        report(f"FAILED  {name:15} {error}")
        return False
    report(f"ok      {name:15} {detail}")
    return True


def _check_health(client: Client) -> str:
    """
    Check that the server runs and that every worker can take work.
    """
    body = _fetch_health(client)
    workers = body["workers"].items()
    agents: Mapping[str, Any] = body.get("agents") or {str(body.get("agent")): {}}
    pools = [(name, agent.get("pool", {})) for name, agent in agents.items()]
    problems = [
        f"{name} is {pool['state']}: {pool['detail']}"
        for name, pool in pools
        if pool.get("state", "serving") not in ("serving", "trying")
    ]
    problems += [
        f"{name} is {worker['state']}" for name, worker in workers if not worker["healthy"]
    ]
    if problems:
        raise CheckFailed(", ".join(problems))
    return f"{len(workers)} workers, all healthy; agent: {', '.join(agents)}"


def _count_workers(client: Client) -> int:
    """
    Return the number of workers of the agent that answers.
    """
    body = _fetch_health(client)
    agent = client.agent or body.get("agent")
    agents = [worker.get("agent", agent) for worker in body["workers"].values()]
    if agent not in agents:
        raise CheckFailed(f"{agent} has no workers")
    return agents.count(agent)


def _fetch_health(client: Client) -> Any:
    """
    Return the body of ``GET /health``.
    """
    reply = client.request("/health", timeout=_AGENTLESS_TIMEOUT)
    if reply.code != 200 or not isinstance(reply.body, dict) or not reply.body.get("workers"):
        raise CheckFailed(f"not a kiroworkers server: {reply.code} {str(reply.body)[:200]}")
    return reply.body


def _check_task(client: Client, task: Task) -> str:
    """
    Check that the answer to the example of `task` matches its schema.
    """
    return f"matches the schema, {_check_reply(client.ask(task, task.example_input), task)}"


def _check_concurrent(client: Client) -> str:
    """
    Send one request per worker at the same time, and check that all are answered.
    """
    task, workers = builtin_tasks()["generate-story"], _count_workers(client)
    replies = _request_stories(client, task, workers)
    return f"{workers} requests: {', '.join(_check_reply(reply, task) for reply in replies)}"


def _check_overload(client: Client) -> str:
    """
    Send one request more than there are workers, and check that at most one gets 503.
    """
    task, workers = builtin_tasks()["generate-story"], _count_workers(client)
    replies = _request_stories(client, task, workers + 1)
    delays = [reply.headers.get("Retry-After", "") for reply in replies if reply.code == 503]
    for reply in replies:
        if reply.code != 503:
            _check_reply(reply, task)
    if not delays:
        return f"{workers + 1} requests: all answered, one after a wait"
    if len(delays) > 1 or not delays[0].isdigit():
        raise CheckFailed(f"{len(delays)} of {workers + 1} rejected, with Retry-After {delays}")
    return f"{workers + 1} requests: {workers} answered, one rejected with Retry-After {delays[0]}"


def _request_stories(client: Client, task: Task, count: int) -> list[HttpReply]:
    """
    Return the replies to `count` simultaneous requests, each with its own idea.
    """
    inputs = [{"idea": f"Print the list of team {number}"} for number in range(1, count + 1)]
    with ThreadPoolExecutor(count) as executor:
        replies = list(executor.map(partial(client.ask, task), inputs))
    answers = [json.dumps(reply.body) for reply in replies if reply.code == 200]
    if len(set(answers)) < len(answers):
        raise CheckFailed(f"two ideas got the same answer: {answers}")
    return replies


def _check_reply(reply: HttpReply, task: Task) -> str:
    """
    Check that `reply` is an answer to `task`; return its worker and how long it took.
    """
    if reply.code != 200:
        raise CheckFailed(f"{task.name} answered {reply.code}: {reply.body}")
    mismatch = first_problem(Draft202012Validator(task.answer_schema), reply.body)
    if mismatch is not None:
        raise CheckFailed(f"the answer does not match the schema: {mismatch.sentence}")
    return f"{reply.headers.get('X-Kiroworkers-Worker')} in {reply.seconds * 1000:.0f} ms"


def base_url(url: str) -> str | None:
    """
    Return `url` without a slash at its end, or None if it is not the address of a server.
    """
    return url.rstrip("/") if re.match(r"https?://[^/?#\s]+/?$", url) else None


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Check the server that the command line names, and return the exit status.

    Args:
        arguments: The arguments; by default those of this process.
    """
    parser = argparse.ArgumentParser("kiroworkers check", description=__doc__)
    parser.add_argument("url", help="address of the server, such as http://127.0.0.1:8080")
    parser.add_argument(
        "--timeout",
        type=float,
        default=150.0,
        help="longest wait for an answer (seconds) [default: 150]",
    )
    parser.add_argument("--agent", help="agent that answers [default: the server's first]")
    options = parser.parse_args(arguments)
    base = base_url(options.url)
    if base is None:
        parser.error(f"{options.url} is not an address such as http://127.0.0.1:8080")
    print(f"checking {base}")
    passed = check(
        Client(base, options.timeout, options.agent), lambda line: print(clean_text(line))
    )
    print("all checks passed" if passed else "some checks failed")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
