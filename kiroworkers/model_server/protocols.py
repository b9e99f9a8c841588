"""
Choose the protocol of a request by its path.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from attrs import frozen

from kiroworkers.model_server import chat_completions, generate_content, messages, responses
from kiroworkers.model_server.content import Json
from kiroworkers.model_server.request import ModelRequest
from kiroworkers.model_server.writing import Writer

#: The model that is listed.  Any other may be asked for as well.
MODEL = "loopback"


@frozen
class Endpoint:
    """
    Represent what is served at paths with the same end.

    Attributes:
        read: Reads the path and the body of a request.
        writer: Writes its answer; None if the request asks for a count of tokens.
        count: The body of the response to a request for a count.
    """

    read: Callable[[str, Json], ModelRequest]
    writer: Callable[[str, int], Writer] | None = None
    count: Json = MappingProxyType({})


_ENDPOINTS: Mapping[str, Endpoint] = {
    "/chat/completions": Endpoint(chat_completions.read, chat_completions.ChatCompletionsWriter),
    "/responses": Endpoint(responses.read, responses.ResponsesWriter),
    "/responses/input_tokens": Endpoint(
        responses.read, count={"object": "response.input_tokens", "input_tokens": 1}
    ),
    "/messages": Endpoint(messages.read, messages.MessagesWriter),
    "/messages/count_tokens": Endpoint(messages.read, count={"input_tokens": 1}),
    ":generateContent": Endpoint(generate_content.read, generate_content.GenerateContentWriter),
    ":streamGenerateContent": Endpoint(
        generate_content.read, generate_content.GenerateContentWriter
    ),
    ":countTokens": Endpoint(generate_content.read, count={"totalTokens": 1}),
}


def find_endpoint(path: str) -> Endpoint | None:
    """
    Return what is served at `path`, or None.
    """
    return next((point for end, point in _ENDPOINTS.items() if path.endswith(end)), None)


def describe_models(path: str) -> Json | None:
    """
    Return the body of the response to GET `path`: a list of models, one model, or None.
    """
    head, found, name = path.rpartition("/models")
    if not found or name[:1] not in ("", "/"):
        return None
    if name.strip("/"):
        return _model(name.strip("/"))
    models = [_model(MODEL)]
    if head.endswith(("/v1beta", "/v1alpha")):
        return {"models": models}
    # In the form of OpenAI and in that of Anthropic.
    ends = {"has_more": False, "first_id": MODEL, "last_id": MODEL}
    return {"object": "list", "data": models, **ends}


def _model(name: str) -> Json:
    openai = {"id": name, "object": "model", "created": 1, "owned_by": "kiroworkers"}
    anthropic = {"type": "model", "display_name": name, "created_at": "2026-01-01T00:00:00Z"}
    methods = ["generateContent", "streamGenerateContent", "countTokens"]
    limits = {"inputTokenLimit": 1_000_000, "outputTokenLimit": 1_000_000}
    google = {"name": f"models/{name}", "displayName": name, "supportedGenerationMethods": methods}
    return {**openai, **anthropic, **google, **limits}
