"""
The checks, for every client and every transport.

The server's only worker is the stand-in for Kiro, so a call that is not cancelled would keep all
others waiting.
"""

from __future__ import annotations

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

#: Called with the progress, the total and a message.
Progress = Callable[[float, float | None, str | None], Awaitable[None]]

_IDEA = 'Öffner & "Zitat" \\ <b> 😀 \u2028 `x`'
_STORY, _TEST, _REVIEW = "generate-story", "generate-test", "analyze-invest"


class CallRefused(Exception):
    """
    Raised when a request gets an error of JSON-RPC.

    Attributes:
        code: Its code.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Judge(ABC):
    """
    Represent a connected client of one line of the SDK, with results as they are on the wire.
    """

    @abstractmethod
    async def tools(self) -> list[Any]:
        """
        Return the tools.
        """

    @abstractmethod
    async def call(self, name: str, arguments: Any, progress: Progress | None = None) -> Any:
        """
        Return the result of a call.

        Raises:
            CallRefused: It is an error of JSON-RPC.
        """

    @abstractmethod
    async def cancel_call(self, name: str, arguments: Any) -> None:
        """
        Call a tool, and cancel the call as soon as there is progress.
        """


async def run(judge: Judge, transport: str) -> None:
    """
    Run all checks of a connection, and print each.
    """
    for check in (_list, _call, _progress, _cancel, _error):
        await check(judge)
        done(f"{transport} {check.__name__.removeprefix('_')}")


def done(name: str) -> None:
    """
    Print that a check has passed.
    """
    print(f"{name}: ok", flush=True)


async def _list(judge: Judge) -> None:
    tools = await judge.tools()
    names = [tool["name"] for tool in tools]
    assert names == [_REVIEW, _STORY, _TEST], names
    for tool in tools:
        assert tool["title"] and tool["description"], tool
        assert tool["inputSchema"]["type"] == tool["outputSchema"]["type"] == "object", tool
        assert tool["annotations"]["destructiveHint"] is False, tool
    assert "idea" in tools[1]["inputSchema"]["properties"], tools[1]


async def _call(judge: Judge) -> None:
    result = await judge.call(_STORY, {"idea": _IDEA})
    _assert_story(result, _IDEA)
    assert result["structuredContent"]["storyPoint"] == 3, result


def _assert_story(result: Mapping[str, Any], title: str) -> None:
    assert not result.get("isError"), result
    assert result["structuredContent"]["title"] == title, result
    [content] = result["content"]
    assert content["type"] == "text", result
    assert json.loads(content["text"]) == result["structuredContent"], result


async def _progress(judge: Judge) -> None:
    seen: list[tuple[float, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, message))

    _assert_story(await judge.call(_STORY, {"idea": "With progress"}, note), "With progress")
    numbers = [number for number, _ in seen]
    assert numbers and numbers == sorted(set(numbers)), seen
    assert all(message for _, message in seen), seen


async def _cancel(judge: Judge) -> None:
    await judge.cancel_call(_STORY, {"idea": "Given up [[silent]]"})
    _assert_story(await judge.call(_STORY, {"idea": "After it"}), "After it")


async def _error(judge: Judge) -> None:
    try:
        await judge.call("no-such-tool", {})
    except CallRefused as error:
        assert error.code == -32602, error
        assert "no-such-tool" in str(error), error
    else:
        raise AssertionError("an unknown tool was called")
    for arguments, part in (
        ({"idea": " "}, "Idea is required"),
        ({"idea": "x [[lame]]"}, "at most 8"),
    ):
        result = await judge.call(_STORY, arguments)
        assert result["isError"] is True, result
        assert part in result["content"][0]["text"], result
        assert result.get("structuredContent") is None, result


def parameters() -> Mapping[str, Any]:
    """
    Return what the test has passed as JSON: ``url``, ``token``, ``command`` and ``env``.
    """
    given: Mapping[str, Any] = json.loads(sys.argv[1])
    return given
