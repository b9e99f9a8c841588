"""
Check a server with the Python client of the line 2.x, over HTTP and over ``kiroworkers mcp``.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from tests.mcp_judges.checks import CallRefused, Judge, Progress, done, parameters, run

anyio: Any = import_module("anyio")
sdk: Any = import_module("mcp")
client: Any = import_module("mcp.client.client")
http: Any = import_module("mcp.client.streamable_http")
httpx_utils: Any = import_module("mcp.shared._httpx_utils")
stdio: Any = import_module("mcp.client.stdio")
exceptions: Any = import_module("mcp.shared.exceptions")

_REVISION = "2026-07-28"


class Line2(Judge):
    """
    Drive a client.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    async def tools(self) -> list[Any]:
        return [_wire(tool) for tool in (await self._client.list_tools()).tools]

    async def call(self, name: str, arguments: Any, progress: Progress | None = None) -> Any:
        try:
            return _wire(await self._client.call_tool(name, arguments, progress_callback=progress))
        except exceptions.MCPError as error:
            raise CallRefused(error.code, error.message) from None

    async def cancel_call(self, name: str, arguments: Any) -> None:
        async def cancel(*_: Any) -> None:
            scope.cancel()

        with anyio.CancelScope() as scope:
            await self.call(name, arguments, cancel)
        assert scope.cancelled_caught, "it has been answered"


def _wire(model: Any) -> Any:
    return model.model_dump(by_alias=True, mode="json", exclude_none=True)


def over_http(url: str, token: str | None, mode: str) -> Any:
    """
    Return a client that connects over HTTP.
    """
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    requests = httpx_utils.create_mcp_http_client(headers)
    return client.Client(http.streamable_http_client(url, http_client=requests), mode=mode)


def over_stdio(given: Any, token: str, mode: str) -> Any:
    """
    Return a client that starts ``kiroworkers mcp``.
    """
    command, *arguments = given["command"]
    server = sdk.StdioServerParameters(
        command=command, args=arguments, env={**given["env"], "KIROWORKERS_TOKEN": token}
    )
    return client.Client(stdio.stdio_client(server, errlog=sys.stdout), mode=mode)


async def main() -> None:
    """
    Run the checks over both transports, in both eras.
    """
    given = parameters()
    url, token = given["url"], given["token"]
    for mode, revision in (("auto", _REVISION), ("legacy", "2025-11-25")):
        async with over_http(url, token, mode) as connected:
            assert connected.protocol_version == revision, connected.protocol_version
            await run(Line2(connected), f"http {mode}")
        async with over_stdio(given, token, mode) as connected:
            assert connected.protocol_version == revision, connected.protocol_version
            await run(Line2(connected), f"stdio {mode}")
    for name, connection in (
        ("http", over_http(url, None, _REVISION)),
        ("http", over_http(url, "not-the-token-of-it", _REVISION)),
        ("stdio", over_stdio(given, "not-the-token-of-it", _REVISION)),
    ):
        async with connection as connected:
            try:
                await connected.list_tools()
            except exceptions.MCPError as error:
                assert "token" in error.message, error
            else:
                raise AssertionError("there was no need of a token")
        done(f"{name} auth")


anyio.run(main)
