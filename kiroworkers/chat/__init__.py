"""
Handle conversations in the format of OpenAI's chat completions.

A request body becomes a `ChatRequest`, which makes the prompt for an agent and finds the
reply in the agent's answer.  How the prompt reaches an agent is not its concern.
"""

from kiroworkers.chat.reply_reader import ReplyReader
from kiroworkers.chat.request import ChatRequest, parse_request
from kiroworkers.chat.usage import estimate_tokens

__all__ = ["ChatRequest", "ReplyReader", "estimate_tokens", "parse_request"]
