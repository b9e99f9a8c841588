"""
Texts that were broken before, and values as JSON may contain them, shared by the tests.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from kiroworkers.model_server import ModelReply, ToolCall

#: Each class of text that a renderer, a width, an escape or an encoding has broken.
HARD_STRINGS = {
    "quotes": '"\'`\\" \\\\ \\n \\u0041 \\/ {"a": ["b\\""]}',
    "blanks": "  two before, a tab \t, a line\nfeed,\r\na return\r and two after  ",
    "clusters": "👩‍👩‍👧 🏳️‍🌈 👍🏽 🇩🇪 e\u0301 \u0301 ग्र 각",
    "separators": "\u2028 \u2029 \x85 \u200b \ufeff \u00a0 \u202e \ufffd",
    "controls": "".join(map(chr, range(1, 32))) + "\x7f\x9b0m",
    "events": "\n\ndata: [DONE]\n\nevent: message_stop\r\n\r\ndata: {}\n\n: comment",
    "markdown": "**bold** __init__ [a](b) [brackets] `code` ```json\n{}\n``` <b>&amp;</b> $HOME",
    "long": 'größer "大きい" \\ 🎉 ' * 3000,
    "half a pair": "before \ud83d after",
    "empty": "",
}

#: A reply that contains all of them, in its text and in the arguments of its call.
HARD_TEXT = "".join(text for name, text in HARD_STRINGS.items() if name != "half a pair")
HARD_CALL = ModelReply(HARD_TEXT, ToolCall("echo", {"text": HARD_TEXT, "more": [1, None, {}]}))

#: Any value of JSON.
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


def values_with(*keys: str) -> st.SearchStrategy[Any]:
    """
    Return values of JSON, and objects and lists of objects that are likely to have `keys`.
    """
    parts = st.dictionaries(
        st.sampled_from(keys), VALUES | st.sampled_from(["user", "message", "text"]), max_size=4
    )
    outer = st.dictionaries(st.sampled_from(keys), parts | st.lists(parts, max_size=3), max_size=4)
    return VALUES | parts | outer | st.lists(parts | outer | VALUES, max_size=3)
