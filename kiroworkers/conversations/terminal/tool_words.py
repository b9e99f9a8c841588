"""
Find out from the output of a terminal which tools an agent has used.
"""

from __future__ import annotations

import re

from attrs import define

from kiroworkers.conversations.dialects.dialect import ToolWords
from kiroworkers.conversations.events import Access, ToolUsed

#: How much text is searched for a tool's command, in characters.
_MAX_TEXT = 4096

#: The longest title of a tool, in characters.
_MAX_TITLE = 300

#: The maximum number of announced tools that are counted until the model goes on.
_MAX_TOOLS = 100

_ACCESSES: tuple[Access, ...] = ("read", "write", "execute", "network")


@define
class _Tool:
    """
    Hold a tool that the agent has announced.  It is not yet known whether the tool was used.

    Attributes:
        title: The agent's name for it.
        access: What it does.
        text: What was printed from the announcement on.
        asked: Whether the agent has asked for an approval.
        allowed: Whether it was approved.
    """

    title: str
    access: Access
    text: str = ""
    asked: bool = False
    allowed: bool = False


class ToolReader:
    """
    Follow what an agent prints about its tools in one turn.

    An agent announces a tool, may ask for an approval, and uses the tool.  The use is certain
    only when the model goes on.  Until then, the announcement may also be a quotation in the
    model's answer.

    Args:
        words: What the agent prints.

    Attributes:
        seen: Whether the agent has announced a tool, or asked for an approval, since the last
            answer began.
    """

    def __init__(self, words: ToolWords) -> None:
        self._words = words
        self._tools: list[_Tool] = []
        self.seen = False

    @property
    def reads(self) -> bool:
        """
        Return whether there is anything to look for in what the agent prints.
        """
        return self._words.used is not None

    def read(self, line: str) -> None:
        """
        Read the next line, in which the agent may announce a tool.
        """
        if self._words.used is None:
            return
        announcement = self._words.used.search(line)
        if announcement is not None and len(self._tools) < _MAX_TOOLS:
            self._tools.append(_Tool(_title(announcement["title"]), _access(announcement)))
            self.seen = True
        if self._tools and len(self._tools[-1].text) < _MAX_TEXT:
            self._tools[-1].text += line[:_MAX_TEXT]

    def end(self, text: str) -> list[ToolUsed]:
        """
        Return the tools that were used since the model said something, at the end of the turn.

        Args:
            text: The text of the turn.
        """
        done, last_line = self._words.done, text.rpartition("\n")[2]
        ends_with_tool = done is not None and done.search(last_line) is not None
        return self.used() if ends_with_tool else []

    def used(self) -> list[ToolUsed]:
        """
        Return the tools that were used since the last call, because the model goes on.
        """
        used = [tool for tool in self._tools if tool.allowed or not tool.asked]
        self._tools.clear()
        self.seen = False
        return [
            ToolUsed(self.command_in(tool.text) or tool.title, tool.access, tool.asked)
            for tool in used
        ]

    def ask(self, text: str) -> str:
        """
        Record that the agent asks for an approval, and return the tool and its command.

        Args:
            text: What is printed above the question.
        """
        self.seen = True
        command = self.command_in(text[-_MAX_TEXT:])
        if not self._tools:
            self._tools.append(_Tool(command, "other"))
        tool = self._tools[-1]
        tool.asked = True
        return command or tool.title

    def allow(self) -> None:
        """
        Record that the tool which the agent has asked for is allowed.
        """
        if self._tools:
            self._tools[-1].allowed = True

    def command_in(self, text: str) -> str:
        """
        Return the last tool in `text` with its command; empty if there is none.
        """
        if self._words.command is None:
            return ""
        matches = [*self._words.command.finditer(text)]
        if not matches:
            return ""
        match = matches[-1]
        groups = match.groupdict()
        parts = [groups.get("tool"), groups.get("command")]
        return _title(": ".join(part.strip() for part in parts if part) or match[0])


def _title(text: str) -> str:
    return " ".join(text.split())[:_MAX_TITLE]


def _access(announcement: re.Match[str]) -> Access:
    """
    Return what the announced tool does, by the group that takes part in the match.
    """
    groups = announcement.groupdict()
    return next((access for access in _ACCESSES if groups.get(access) is not None), "other")
