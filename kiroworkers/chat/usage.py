"""
How many tokens a text may be: an estimate, because no agent tells.
"""

from __future__ import annotations

#: What tokenizers make of English, roughly; of other scripts they make more tokens,
#: whose characters have more bytes, too.
_BYTES_PER_TOKEN = 4


def tokens_in(text: str) -> int:
    """
    One for every four bytes of UTF-8 begun.
    """
    return -(-len(text.encode("utf-8", "surrogatepass")) // _BYTES_PER_TOKEN)
