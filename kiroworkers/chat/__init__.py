"""
A conversation that is to go on, in the terms of OpenAI's chat completions: what a
body asks for, the prompt made of it, and the reply in what an agent said.

Nothing here knows how the question travels.
"""

from kiroworkers.chat.body import Chat, accept
from kiroworkers.chat.piecewise import ReplyReader
from kiroworkers.chat.usage import tokens_in

__all__ = ["Chat", "ReplyReader", "accept", "tokens_in"]
