"""
Estimate token counts, because agents do not report them.
"""

from __future__ import annotations

from attrs import frozen

#: Roughly what tokenizers make of English.  Other scripts need more tokens per character,
#: but also more bytes.
_BYTES_PER_TOKEN = 4


@frozen
class Usage:
    """
    Hold the estimated token counts of a request.

    Attributes:
        given: The tokens of the client's messages.
        made: The tokens of the reply.
    """

    given: int
    made: int

    @property
    def total(self) -> int:
        """
        Return the sum of both.
        """
        return self.given + self.made


def estimate_tokens(text: str) -> int:
    """
    Return the estimated number of tokens in `text`: one per four bytes of UTF-8, rounded up.
    """
    return -(-len(text.encode("utf-8", "surrogatepass")) // _BYTES_PER_TOKEN)
