"""
Estimate token counts, because agents do not report them.
"""

from __future__ import annotations

#: Roughly what tokenizers make of English.  Other scripts need more tokens per character,
#: but also more bytes.
_BYTES_PER_TOKEN = 4


def estimate_tokens(text: str) -> int:
    """
    Return the estimated number of tokens in `text`: one per four bytes of UTF-8, rounded up.
    """
    return -(-len(text.encode("utf-8", "surrogatepass")) // _BYTES_PER_TOKEN)
