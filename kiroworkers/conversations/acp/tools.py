"""
Follow the tool calls of a turn, and report the tools that ran.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from attrs import define

from kiroworkers.conversations.acp.texts import printable
from kiroworkers.conversations.events import Access, ToolUsed

#: What ACP's kinds of tools do.  ``think``, ``switch_mode``, ``other`` and unknown kinds count as
#: ``other``.
_ACCESS: Mapping[str, Access] = {
    "read": "read",
    "search": "read",
    "edit": "write",
    "delete": "write",
    "move": "write",
    "execute": "execute",
    "fetch": "network",
}

#: The maximum number of tool calls that are remembered; the oldest is forgotten first.
_MAX_CALLS = 1000

#: The maximum number of values in a tool's input that are searched for paths.
_MAX_VALUES = 1000

#: The longest path that is examined, in characters.
_MAX_PATH_LENGTH = 4096

#: The maximum number of characters of a tool's title that are reported.
_MAX_TITLE_LENGTH = 500

#: The end of the name of an input that holds a path, and its maximum length.
_PATH_NAME = re.compile(
    r"(path|(?<!pro)file(name)?|dir(ectory)?|folder|cwd|uri)s?\Z", re.IGNORECASE
)
_MAX_PATH_NAME = 20

#: A call's identifier, with that of its session.
_CallId = tuple[str, str]


#: What an update may tell about a call.
_FIELDS = ("title", "kind", "locations", "rawInput")


@define
class ToolCall:
    """
    Hold what is known about a tool call; each update may tell a part of it.

    Attributes:
        fields: What the agent tells about it.
        asked: Whether the agent asked for a permission.
        granted: Whether it got it.
        ended: Whether the agent told its end.
        reported: Whether it was reported as one that ran.
    """

    fields: dict[str, Any]
    asked: bool = False
    granted: bool = False
    ended: bool = False
    reported: bool = False

    def is_repeated(self, update: Mapping[str, Any]) -> bool:
        """
        Return whether an update tells nothing but this call once more.
        """
        return update.get("status") in ("completed", "failed") and all(
            update.get(name) in (None, self.fields.get(name)) for name in _FIELDS
        )


class ToolCalls:
    """
    Follow the tool calls of an agent, which may end later than their turn.

    Args:
        folder: The session's folder, as an absolute path.
    """

    def __init__(self, folder: str) -> None:
        self._folder = PurePosixPath(folder)
        self._calls: dict[_CallId, ToolCall] = {}
        self._open: set[_CallId] = set()

    @property
    def any_open(self) -> bool:
        """
        Return whether a tool of this turn has not ended, as far as is known.
        """
        return bool(self._open)

    def begin_turn(self, session: str) -> None:
        """
        Forget the calls of earlier turns in `session`; agents use their identifiers again.
        """
        self._calls = {id: call for id, call in self._calls.items() if id[0] != session}
        self._open.clear()

    def note_question(
        self, session: str, params: Mapping[str, Any]
    ) -> tuple[Mapping[str, Any], ToolCall]:
        """
        Return what a request for a permission says about its tool, and the call.
        """
        match params:
            case {"toolCall": {"toolCallId": str(id)} as asked}:
                call = self._call((session, id))
                if call.ended:
                    call = self._begin((session, id))
                question = {**call.fields, **asked}
                call.fields = {**asked, **call.fields}
                call.asked = True
                return question, call
            case {"toolCall": dict() as asked}:
                return asked, ToolCall({})
        return {}, ToolCall({})

    def feed(self, session: str, update: Mapping[str, Any]) -> ToolUsed | None:
        """
        Take in a ``tool_call`` or ``tool_call_update``.

        Return the tool if the update says that it has run.  A failed tool with output, such as a
        command with a non-zero exit status, has run as well, unless it failed because it was
        denied: then the output is what the agent says about that.
        """
        id = update.get("toolCallId")
        if not isinstance(id, str):
            return None
        call = self._call((session, id))
        begins = call.ended and update.get("sessionUpdate") == "tool_call"
        if begins and not call.is_repeated(update):
            call = self._begin((session, id))
        for name in _FIELDS:
            if update.get(name) is not None:
                call.fields[name] = update[name]
        match update.get("status"):
            case "completed":
                has_run = True
            case "failed":
                denied = call.asked and not call.granted
                has_run = bool(update.get("rawOutput")) and not denied
            case _:
                self._open.add((session, id))
                return None
        call.ended = True
        self._open.discard((session, id))
        if not has_run or call.reported:
            return None
        call.reported = True
        return ToolUsed(
            printable(describe_call(call.fields), _MAX_TITLE_LENGTH),
            _access(call.fields),
            call.granted,
            self._is_inside(call.fields),
        )

    def _call(self, id: _CallId) -> ToolCall:
        call = self._calls.get(id)
        return self._begin(id) if call is None else call

    def _begin(self, id: _CallId) -> ToolCall:
        """
        Return a new call, which replaces one with the same identifier.
        """
        self._calls.pop(id, None)
        if len(self._calls) >= _MAX_CALLS:
            oldest = next(iter(self._calls))
            del self._calls[oldest]
        call = self._calls[id] = ToolCall({})
        return call

    def _is_inside(self, fields: Mapping[str, Any]) -> bool:
        """
        Return whether a tool names paths, and all of them are inside the folder.
        """
        paths = _paths(fields)
        return (
            bool(paths)
            and _access(fields) in ("read", "write")
            and all(_is_inside(path, self._folder) for path in paths)
        )


def describe_call(fields: Mapping[str, Any]) -> str:
    """
    Return the title of a tool call, with its command or its paths if they are not in it.
    """
    title = fields.get("title")
    text = title if isinstance(title, str) and title else "a tool"
    match fields.get("rawInput"):
        case {"command": str(command)}:
            details = [command]
        case {"command": [*words]} if words and all(isinstance(word, str) for word in words):
            details = [shlex.join(words)]
        case _:
            details = list(dict.fromkeys(_paths(fields)))
    missing = [detail for detail in details if detail not in text]
    return f"{text}: {', '.join(missing)}" if missing else text


def _access(fields: Mapping[str, Any]) -> Access:
    match fields:
        case {"kind": "read" | "search", "rawInput": {"url": str(url)}} if not _is_local(url):
            return "network"
        case {"kind": str(kind)} if kind in _ACCESS:
            return _ACCESS[kind]
        case {"rawInput": {"command": str() | list()}}:
            return "execute"
        case {"rawInput": {"url": str()}}:
            return "network"
    return "other"


def _is_local(url: str) -> bool:
    return "://" not in url or url.startswith("file://")


def _paths(fields: Mapping[str, Any]) -> list[str]:
    """
    Return the paths that a tool call names.

    If there is too much to search, ``..`` is one of them, because the other paths may be
    anywhere.
    """
    paths: list[str] = []
    waiting: list[tuple[Any, bool]] = [(fields.get("rawInput"), False)]
    waiting.append((fields.get("locations"), False))
    seen = 0
    while waiting:
        value, is_path = waiting.pop()
        seen += 1 + (len(value) if isinstance(value, dict | list) else 0)
        if seen > _MAX_VALUES:
            return [*paths, ".."]
        match value:
            case str() if is_path:
                paths.append(value if len(value) <= _MAX_PATH_LENGTH else "..")
            case dict():
                for name, inner in reversed(value.items()):
                    waiting.append((inner, _PATH_NAME.search(name[-_MAX_PATH_NAME:]) is not None))
            case list():
                waiting.extend((inner, is_path) for inner in reversed(value))
    return paths


def _is_inside(path: str, folder: PurePosixPath) -> bool:
    """
    Return whether `path`, relative to `folder`, is known to stay inside it.

    Symbolic links are not followed.
    """
    path = path.removeprefix("file://")
    if not path or path[0] == "~" or "\0" in path or "://" in path or "%" in path:
        return False
    parts = PurePosixPath(path)
    return ".." not in parts.parts and (folder / parts).is_relative_to(folder)
