"""
Handle conversations in the formats of OpenAI's and Anthropic's APIs.

A request body becomes a `Conversation`, which makes the prompt for an agent and finds the
reply in the agent's answer.  How the prompt reaches an agent is not its concern.
"""

from kiroworkers.chat.completions import parse_completion
from kiroworkers.chat.conversation import ChatReply, Conversation
from kiroworkers.chat.messages import MessageRequest, parse_counted, parse_message
from kiroworkers.chat.reply_reader import ReplyReader
from kiroworkers.chat.responses import ResponseRequest, parse_response
from kiroworkers.chat.usage import Usage, estimate_tokens

__all__ = [
    "ChatReply",
    "Conversation",
    "MessageRequest",
    "ReplyReader",
    "ResponseRequest",
    "Usage",
    "estimate_tokens",
    "parse_completion",
    "parse_counted",
    "parse_message",
    "parse_response",
]
