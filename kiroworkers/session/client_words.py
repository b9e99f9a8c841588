"""
Find out whether an agent that reports a failure may only quote a client.

An error of an agent may hold a part of the prompt, or the name of a model that a client chose.
If a client writes what an agent says when its account is suspended, that must not stop the
requests of all others.
"""

from __future__ import annotations

import re
from collections import deque

from attrs import evolve

from kiroworkers.conversations import AgentFailure

#: The number of texts that are remembered of a conversation that is kept.
_MAX_TEXTS = 20

_PARTS = re.compile(r"\w+|\W+")
_WORD = re.compile(r"\w+")

#: What may stand for a blank or a line end in another text: it may be escaped, or the lines may
#: be joined.  A hyphen is none of these: ``rate-limit`` is not ``rate limit``.
_BLANKS = r"(?:\s|\\[nrt]|[\\\"'])++"

#: The same for punctuation, such as a bracket.
_PUNCTUATION = r"\W*+"


class ClientWords:
    """
    Remember what clients wrote in the conversation of a session.
    """

    def __init__(self) -> None:
        self._texts: deque[str] = deque(maxlen=_MAX_TEXTS)

    def add(self, *texts: str) -> None:
        """
        Remember `texts`, some of which may be empty.
        """
        self._texts.extend(filter(None, texts))

    def forget(self) -> None:
        """
        Forget everything, because the agent has forgotten the conversation.
        """
        self._texts.clear()

    def judge(self, failure: AgentFailure) -> AgentFailure:
        """
        Return `failure`, marked as quoted if a client wrote the words that it is known by.

        Only a failure that would affect other clients is examined.
        """
        delays = failure.kind.probe_delays
        if delays is None or _WORD.search(failure.words) is None:
            return failure
        # A pattern that ignores case would take ten times as long.
        parts = _PARTS.findall(failure.words.lower())
        written = re.compile("".join(map(_pattern, parts)))
        if not any(written.search(text.lower()) for text in self._texts):
            return failure
        # The delay may be quoted as well.
        return evolve(failure, quoted=True, retry_after=int(delays[0]))


def _pattern(part: str) -> str:
    """
    Return a pattern for a word, or for what stands between two words.
    """
    if _WORD.fullmatch(part):
        return re.escape(part)
    return _BLANKS if part.isspace() else _PUNCTUATION
