"""
Stand in for the model that an agent uses.

An agent that is pointed at this server works as with its real service, but the server sees
every request and decides every answer.  It speaks the protocols of OpenAI (chat completions and
responses), Anthropic (messages) and Google (generate content).
"""

from kiroworkers.model_server.reply import ModelReply, ToolCall
from kiroworkers.model_server.request import Message, ModelRequest
from kiroworkers.model_server.server import ModelServer, serve

__all__ = ["Message", "ModelReply", "ModelRequest", "ModelServer", "ToolCall", "serve"]
