"""
Represent a call of a method, whatever the revision of MCP that its client speaks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

from attrs import frozen
from twisted.web.iweb import IRequest

from kiroworkers.mcp.jsonrpc import Request
from kiroworkers.mcp.meta import ProgressToken, extensions
from kiroworkers.mcp.revisions import STATELESS
from kiroworkers.web.mcp.stream import MessageStream


@frozen(eq=False)
class Call:
    """
    Hold a call of a method.

    Attributes:
        request: The HTTP request, for its headers and its record.
        client: The client that sent it, as `Authorizer.authorize` returned it.
        message: The request of JSON-RPC.
        revision: The revision of MCP.
        capabilities: What the client can do, as far as the revision says it in each request.
        progress_token: Identifies the call in notifications of its progress; None if the client
            wants none.
        stream: Where notifications go, which become events of the response; None if the client
            accepts no events.  If there were none, the response is JSON.
    """

    request: IRequest
    client: str
    message: Request
    revision: str
    capabilities: Mapping[str, Any]
    progress_token: ProgressToken | None
    stream: MessageStream | None

    @property
    def params(self) -> Mapping[str, Any]:
        """
        Return the parameters.
        """
        return self.message.params

    @property
    def is_stateless(self) -> bool:
        """
        Return whether the revision is one without a handshake.
        """
        return self.revision == STATELESS

    def has_extension(self, name: str) -> bool:
        """
        Return whether the client has the extension `name`; the older revisions have none.
        """
        settings = extensions(self.capabilities).get(name)
        return self.is_stateless and isinstance(settings, dict)


class Method(Protocol):
    """
    Define a function that handles the calls of one method.
    """

    def __call__(self, call: Call, /) -> Awaitable[Mapping[str, Any]]:
        """
        Return the result of `call`.

        The result of the stateless revision gets ``resultType: "complete"`` unless it has another,
        and the name of the server.  If the client closes the connection or cancels the call, what
        is awaited is cancelled.

        Raises:
            McpError: The response is this error.
            HttpError, WorkError: The response is an error with the status and code of this failure.
        """
