"""
Read and write the header that relates the spans of one trace, which is called traceparent.

W3C Trace Context, level 1: https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import re

from attrs import frozen

#: Version 00, and the beginning of later versions, which may append further parts.
_TRACEPARENT = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<parent>[0-9a-f]{16})"
    r"-(?P<flags>[0-9a-f]{2})(?P<rest>-.*)?"
)

_SAMPLED = 0x01


@frozen
class TraceContext:
    """
    Hold which trace a request belongs to.

    Attributes:
        trace_id: The identifier of the trace, as 32 hexadecimal digits.
        parent_id: The identifier of the span that sent the request, as 16 hexadecimal digits.
        sampled: Whether the sender records the trace.
    """

    trace_id: str
    parent_id: str
    sampled: bool = True

    @property
    def traceparent(self) -> str:
        """
        Return the value of the header.
        """
        return f"00-{self.trace_id}-{self.parent_id}-{_SAMPLED if self.sampled else 0:02x}"


def parse_traceparent(header: str) -> TraceContext | None:
    """
    Return the context in the value of a traceparent header, or None if it is not valid.
    """
    match = _TRACEPARENT.fullmatch(header.strip())
    if match is None or match["version"] == "ff" or (match["version"] == "00" and match["rest"]):
        return None
    if not (match["trace"].strip("0") and match["parent"].strip("0")):
        return None
    return TraceContext(match["trace"], match["parent"], bool(int(match["flags"], 16) & _SAMPLED))
