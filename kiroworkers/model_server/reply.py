"""
Hold a model's answer, independent of the protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen


@frozen
class ToolCall:
    """
    Hold a call of one of the agent's tools.

    Attributes:
        name: The tool, one of `ModelRequest.tools`.
        arguments: Its arguments, as JSON values.
    """

    name: str
    arguments: Mapping[str, Any]


@frozen
class ModelReply:
    """
    Hold an answer.

    Attributes:
        text: The text, which arrives unaltered.
        tool: The tool to call after the text, or None.
        endless: Whether to begin with the text and then send nothing until the agent hangs up.
        pause: The seconds before the answer begins.
    """

    text: str = ""
    tool: ToolCall | None = None
    endless: bool = False
    pause: float = 0.0
