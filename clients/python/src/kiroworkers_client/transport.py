"""
Translate between the steps of a script and httpx, for both drivers.
"""

from __future__ import annotations

import httpx

from kiroworkers_client.steps import Failure, Head, Lost, NotSent, Open, Silent, Undecodable

_NOT_SENT = (
    httpx.ConnectError,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)


def request_from(client: httpx.Client | httpx.AsyncClient, base: str, step: Open) -> httpx.Request:
    """
    Return the request that `step` asks for.
    """
    timeout = httpx.Timeout(
        connect=step.connect_timeout,
        read=step.read_timeout,
        write=step.read_timeout,
        pool=step.read_timeout,
    )
    return client.build_request(
        step.method, base + step.path, headers=step.headers, content=step.body, timeout=timeout
    )


def head_from(response: httpx.Response) -> Head:
    """
    Return the beginning of a response.
    """
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Head(response.status_code, headers)


def failure_from(error: httpx.RequestError) -> Failure:
    """
    Return what an exception of httpx means to a script.
    """
    if isinstance(error, httpx.PoolTimeout):
        return NotSent("all connections of the HTTP client are in use")
    if isinstance(error, httpx.ConnectTimeout):
        return NotSent("no connection in time")
    problem = str(error) or type(error).__name__
    if isinstance(error, _NOT_SENT):
        return NotSent(problem)
    if isinstance(error, httpx.ReadTimeout):
        return Silent(problem)
    if isinstance(error, httpx.DecodingError):
        return Undecodable(problem)
    return Lost(problem)
