"""
Hold a request to a model, independent of the protocol.
"""

from __future__ import annotations

from attrs import frozen


@frozen
class Message:
    """
    Hold one message of a conversation.

    Attributes:
        role: `system`, `user`, `assistant`, or `tool` for the result of a tool; `tools` for the
            descriptions of the tools, and `other` for what a protocol does not define.
        text: The message's text.  That of several parts is joined with line feeds.
    """

    role: str
    text: str


@frozen
class ModelRequest:
    """
    Hold a request to a model.

    Attributes:
        path: The path of the URL, without the query.
        messages: The conversation, oldest message first, with every text of the request: also
            the calls of tools, their results and their descriptions.
        tools: The names of the tools that may be called.
        stream: Whether the response is to be a stream of events.
        structured: Whether the agent asks for JSON with a schema of its own.
        model: The name of the model.
    """

    path: str
    messages: tuple[Message, ...] = ()
    tools: tuple[str, ...] = ()
    stream: bool = False
    structured: bool = False
    model: str = ""

    @property
    def text(self) -> str:
        """
        Return the texts of all messages, joined with line feeds.
        """
        return "\n".join(message.text for message in self.messages)
