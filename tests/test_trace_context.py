"""
Tests for `kiroworkers.trace_context`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.trace_context import TraceContext, parse_traceparent

_TRACE, _PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class TraceparentTests(SynchronousTestCase):
    """
    Tests for the header traceparent.
    """

    def test_read(self) -> None:
        """
        A header of version 00, or of a later one with more parts, names the trace and the span.
        """
        for header, sampled in [
            (f"00-{_TRACE}-{_PARENT}-01", True),
            (f" 00-{_TRACE}-{_PARENT}-00 ", False),
            (f"00-{_TRACE}-{_PARENT}-03", True),
            (f"cc-{_TRACE}-{_PARENT}-01-what-the-future-brings", True),
        ]:
            expected = TraceContext(_TRACE, _PARENT, sampled)
            self.assertEqual(parse_traceparent(header), expected, header)

    def test_invalid(self) -> None:
        """
        A header that the specification calls invalid is not read.
        """
        for header in [
            "",
            "00",
            f"ff-{_TRACE}-{_PARENT}-01",
            f"00-{_TRACE}-{_PARENT}-01-more",
            f"00-{'0' * 32}-{_PARENT}-01",
            f"00-{_TRACE}-{'0' * 16}-01",
            f"00-{_TRACE.upper()}-{_PARENT}-01",
            f"00-{_TRACE[1:]}-{_PARENT}-01",
            f"00-{_TRACE}-{_PARENT}-0x",
        ]:
            self.assertIsNone(parse_traceparent(header), header)

    def test_written(self) -> None:
        """
        What is written is read as the same context.
        """
        for sampled in (True, False):
            context = TraceContext(_TRACE, _PARENT, sampled)
            self.assertEqual(parse_traceparent(context.traceparent), context)
