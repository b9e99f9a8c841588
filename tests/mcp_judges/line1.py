"""
Check a server with the Python client of the line 1.x, over HTTP and over ``kiroworkers mcp``.
"""

from __future__ import annotations

import sys
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from typing import Any

from tests.mcp_judges.checks import CallRefused, Judge, Progress, done, parameters, run

anyio: Any = import_module("anyio")
httpx: Any = import_module("httpx")
types: Any = import_module("mcp.types")
sdk: Any = import_module("mcp")
http: Any = import_module("mcp.client.streamable_http")
stdio: Any = import_module("mcp.client.stdio")


class Line1(Judge):
    """
    Drive a session of the client.
    """

    def __init__(self, session: Any) -> None:
        self._session = session

    async def tools(self) -> list[Any]:
        return [_wire(tool) for tool in (await self._session.list_tools()).tools]

    async def call(self, name: str, arguments: Any, progress: Progress | None = None) -> Any:
        try:
            return _wire(await self._session.call_tool(name, arguments, progress_callback=progress))
        except sdk.McpError as error:
            raise CallRefused(error.error.code, error.error.message) from None

    async def cancel_call(self, name: str, arguments: Any) -> None:
        # This line leaves the notification to its users.
        id = self._session._request_id

        async def cancel(*_: Any) -> None:
            params = types.CancelledNotificationParams(requestId=id, reason="enough")
            notification = types.CancelledNotification(params=params)
            await self._session.send_notification(types.ClientNotification(notification))
            scope.cancel()

        with anyio.CancelScope() as scope:
            await self.call(name, arguments, cancel)
        assert scope.cancelled_caught, "it has been answered"


def _wire(model: Any) -> Any:
    return model.model_dump(by_alias=True, mode="json", exclude_none=True)


def over_http(url: str, token: str | None) -> AbstractAsyncContextManager[Any]:
    """
    Connect over HTTP.
    """
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    connection: AbstractAsyncContextManager[Any] = http.streamablehttp_client(url, headers)
    return connection


async def main() -> None:
    """
    Run the checks over both transports.
    """
    given = parameters()
    url, token = given["url"], given["token"]
    async with over_http(url, token) as (read, write, _), sdk.ClientSession(read, write) as session:
        hello = await session.initialize()
        assert hello.protocolVersion == "2025-11-25", hello
        await run(Line1(session), "http")
    for wrong in (None, "not-the-token-of-it"):
        try:
            async with (
                over_http(url, wrong) as (read, write, _),
                sdk.ClientSession(read, write) as session,
            ):
                await session.initialize()
        except* httpx.HTTPStatusError as group:
            [error] = group.exceptions
            while isinstance(error, ExceptionGroup):
                [error] = error.exceptions
            assert error.response.status_code == 401, error
        else:
            raise AssertionError("there was no need of a token")
    done("http auth")
    command, *arguments = given["command"]
    for tried in (token, "not-the-token-of-it"):
        server = sdk.StdioServerParameters(
            command=command,
            args=arguments,
            env={**given["env"], "KIROWORKERS_TOKEN": tried},
        )
        async with (
            stdio.stdio_client(server, errlog=sys.stdout) as (read, write),
            sdk.ClientSession(read, write) as session,
        ):
            if tried == token:
                await session.initialize()
                await run(Line1(session), "stdio")
                continue
            try:
                await session.initialize()
            except sdk.McpError as refused:
                assert "token" in refused.error.message, refused
                done("stdio auth")


anyio.run(main)
