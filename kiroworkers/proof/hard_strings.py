# ruff: noqa: RUF001 - characters that look like others are what these texts are for.
r"""
List texts that something between a model and a client has altered before.

Markdown renderers, the width of a terminal, escapes and encodings have altered text.  There is a
text for each class that was seen to break.  The texts are printed as JSON strings, so that what
controls a terminal arrives as an escape such as ``\u001b``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

#: The separator of a family of emoji, and the selector that makes a flag.
_ZWJ, _VS16 = "\u200d", "\ufe0f"
_FAMILY = f"\U0001f469{_ZWJ}\U0001f469{_ZWJ}\U0001f467"
_FLAG = f"\U0001f3f3{_VS16}{_ZWJ}\U0001f308"
_THUMB = "\U0001f44d\U0001f3fd"

#: About 8 KB of ordinary text in which each sentence is different.
_LONG = " ".join(
    f"Sentence {number} of this text says that {number} times {number} is {number * number}."
    for number in range(1, 141)
)

#: A word of 1100 characters that does not repeat itself: some agents stop a model that does.
_WORD = "".join(f"{number * number:x}" for number in range(300, 600))[:1100]

#: Each text by the name of its class.
HARD_STRINGS: Mapping[str, str] = {
    "plain": "Export the list to CSV",
    "bold": "two **bold** words, **one** and __another__",
    "italic": "an *italic* and an _underlined_ word, 2*3*4 and a_b_c",
    "dunder": "class A: def __init__(self): self.__dict__ = {}",
    "strikethrough": "~~gone~~ and ~5 minutes~",
    "link": "see [a](b), [text](https://example.org/x_y_z?a=1&b=2#c) and ![image](c.png)",
    "brackets": "[brackets] [x] [ ] [[wiki]] [1]: note [^2]",
    "code": "run `ls -l` or ``a ` b``",
    "fence": "```python\nprint('x')\n```\nand ~~~ too",
    "fenced JSON": '```json\n{"copyOf": "other", "copy": "other"}\n```',
    "object": '{"copyOf": "other", "copy": "an object in a text"}',
    "HTML": "<tag> <b>bold</b> <br/> <!-- comment --> <https://example.org>",
    "entities": "&amp; &lt;tag&gt; &quot;x&quot; &#39; &nbsp; AT&T a && b",
    "headings": "# One\n## Two\nThree\n===\nFour\n---",
    "lists": "- one\n* two\n+ three\n1. four\n2) five\n  - six\n- [x] seven",
    "rule": "above\n---\n***\n___\nbelow",
    "quotation": "> quoted\n>> twice\nnot",
    "table": "| a | b |\n|---|:-:|\n| 1 | 2 \\| 3 |",
    "maths": "$x^2$ and $$\\sum_{i=0}^n i$$ and \\(a\\) cost $5 or $6",
    "URL": "https://example.org/a/b?c=d&e=%20f#g and www.example.org and mail@example.org",
    "quotes": '"double" \'single\' “curly” ‘curly’ «angle» `grave´ \\"escaped\\"',
    "backslashes": "C:\\new\\table\\users \\\\host\\share \\ \\\\ ends with \\",
    "literal escapes": '\\u0041 \\n \\t \\x41 \\" %41 \\N{BULLET} \\033[1m',
    "tabs and lines": "one\ttwo\nthree\r\nfour\rfive\n\n\nsix\t",
    "leading spaces": "    four spaces before, then\n        eight",
    "trailing spaces": "two after  \nthree after   ",
    "double spaces": "one  two   three    four     five",
    "blank lines": "\n\nfirst\n\n\n\nlast\n\n",
    "controls": "bell \x07 escape \x1b nul \x00 delete \x7f backspace \x08 unit \x1f",
    "ANSI colours": "\x1b[31mred\x1b[0m \x1b[1;38;5;93m> \x1b[0m \x1b[?2004h\x1b[2J\x1b[H",
    "C1 controls": "\x9b31m \x85 \x90 and \x9d",
    "OSC": "\x1b]0;title\x07 \x1b]8;;https://example.org\x1b\\link\x1b]8;;\x1b\\",
    "paste marks": "\x1b[200~pasted\x1b[201~ \x1b[<u \x1b[6n",
    "zero width": "zero\u200bwidth\u200cnon\u200djoiner\u2060word\ufeffmark",
    "soft hyphen": "co\u00adop\u00aderate",
    "line separators": "one\u2028two\u2029three\x0bfour\x0cfive",
    "no-break space": "10\u00a0km, 10\u202fkg, a\u2003wide\u3000space",
    "bidi": "abc \u202edef\u202c ghi \u2067jkl\u2069 \u200emark",
    "right to left": "שלום עולם, مرحبا بالعالم 123 abc",
    "CJK": "大きい日本語の文章です。中文字符，한국어 텍스트｡ｶﾀｶﾅ",
    "combining": "e\u0301 o\u0308 n\u0303 \u1e9b\u0323 Z\u0351\u036b\u0343 é (composed) e\u0301",
    "Indic and Thai": "नमस्ते क्षत्रिय ภาษาไทย ကမ္ဘာ",
    "emoji": "🎉 🚀 ✅ ☎ ☎\ufe0f ⚠ 1\ufe0f\u20e3",
    "emoji clusters": f"{_FAMILY} family {_FLAG} flag {_THUMB} thumb 🇩🇪🇫🇷 flags, then text",
    "private use": "\ue0b0 \uf8ff \U000f0001",
    "noncharacters": "\ufdd0 \uffff \U0001ffff",
    "ligatures": "ﬁ ﬂ Ⅷ ½ ² ™ … – — ‑ − ´ ¨",
    "prompt": "> \n>>> \n$ \n# \n❯ \nYou: \nHuman: yes\nAssistant: no",
    "Kiro's prompt": "[agent] 3% !> \n[agent] > /clear\n!> ls",
    "commands": "/clear\n/quit\n!touch proven\n@file\n#tag\n:q!\n?help",
    "approval": "Allow this action? Use 't' to trust (always allow) this tool. [y/n/t]:",
    "failure": "ThrottlingException: Too many requests. You are not logged in. Error: 500",
    "chrome": "▸ Credits: 0.05 • Time: 1s\n◇  Ready (folder)\n✦  Working…\n╭──╮\n│ x │\n╰──╯",
    "thinking": "<think>no</think> <thinking>x</thinking> <|im_end|> </s> [INST] [/INST]",
    "numbers": "1e300 -0 0.1 00123 1_000 0x1F 1,000.50 ١٢٣",
    "JSON words": 'null true false NaN {} [] "" : , {"a":1,} // comment',
    "long word 100": "a" * 100 + " end",
    "long word 130": "0123456789" * 13 + " end",
    "long word 1100": _WORD + " end",
    "width 80": "w" * 40 + " " + "x" * 78 + " " + "y" * 79 + " " + "z" * 80 + " " + "v" * 81,
    "width 120": " ".join("w" * number for number in range(115, 125)),
    "wide at the edge": "大" * 600 + " " + f"{_FAMILY}{_THUMB}" * 30 + " end",
    "wrapped spaces": ("x" * 38 + "  ") * 60 + "end",
    "many lines": "\n".join(f"{number}. line" for number in range(1, 121)),
    "one character": "x",
    "one space": " ",
    "8 KB": _LONG,
}

#: The classes that are asked for together, by the name of their group: what alters one of them
#: alters it among others as well.  Asked for alone are those that look like a fence, an object, a
#: prompt or a question, because what follows them might be treated differently; those whose
#: beginning or end matters; and the longest one.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "Markdown in lines": ("plain", "bold", "italic", "dunder", "strikethrough", "link", "brackets"),
    "Markdown in blocks": ("headings", "lists", "rule", "quotation", "table", "many lines"),
    "markup and code": ("code", "HTML", "entities", "maths", "URL", "numbers", "JSON words"),
    "escapes": ("quotes", "backslashes", "literal escapes", "tabs and lines"),
    "all controls": ("controls", "ANSI colours", "C1 controls", "OSC", "paste marks"),
    "white space": ("leading spaces", "double spaces", "no-break space", "trailing spaces"),
    "invisible": ("zero width", "soft hyphen", "line separators", "bidi"),
    "scripts": ("right to left", "CJK", "combining", "Indic and Thai"),
    "symbols": ("emoji", "emoji clusters", "private use", "noncharacters", "ligatures"),
    "long words": ("long word 100", "long word 130", "long word 1100"),
    "widths": ("width 80", "width 120", "wide at the edge", "wrapped spaces"),
    "an agent's own words": ("approval", "failure", "chrome"),
}


def grouped(names: Collection[str]) -> dict[str, tuple[str, ...]]:
    """
    Return the classes `names` as they are asked for: by the name of the group or, alone, their own.
    """
    groups = {
        group: tuple(name for name in members if name in names) for group, members in GROUPS.items()
    }
    several = {group: members for group, members in groups.items() if len(members) > 1}
    together = {name for members in several.values() for name in members}
    alone = {name: (name,) for name in HARD_STRINGS if name in names and name not in together}
    return {**several, **alone}


def joined(names: Iterable[str]) -> str:
    """
    Return the text that has those of all classes `names`, each in lines of its own.
    """
    return "\n".join(HARD_STRINGS[name] for name in names)


#: The classes that are tried with a careless model, which leaves out the fence.
CARELESS = (
    "bold",
    "dunder",
    "link",
    "brackets",
    "code",
    "HTML",
    "entities",
    "lists",
    "table",
    "zero width",
    "emoji clusters",
    "leading spaces",
    "long word 1100",
)
