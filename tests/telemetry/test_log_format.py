"""
Tests for `kiroworkers.telemetry.log_format`.
"""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Any

from twisted.logger import LogLevel, formatEventAsClassicLogText
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.request_record import RequestRecord
from kiroworkers.telemetry.access_log import combined_line
from kiroworkers.telemetry.log_format import (
    bounded,
    journal_json_line,
    journal_lines,
    json_line,
    levels_from,
    syslog_lines,
    text_lines,
)


class Secret:
    """
    Represent an object that no log should print.
    """

    def __repr__(self) -> str:
        return "a secret"


class Kind(Enum):
    """
    Represent a value that is shown as its text.
    """

    THROTTLED = "throttled"


def event(format: str = "{text}", /, **fields: Any) -> dict[str, Any]:
    """
    Return a log event of the server.
    """
    return {
        "log_format": format,
        "log_level": LogLevel.warn,
        "log_namespace": "kiroworkers.tests",
        "log_time": 1.5,
        **fields,
    }


def parsed(event: dict[str, Any]) -> dict[str, Any]:
    """
    Return the JSON object for `event`.
    """
    line = json_line(event)
    assert line.count("\n") == 1
    assert line.endswith("\n")
    value: dict[str, Any] = json.loads(line)
    return value


class TextTests(SynchronousTestCase):
    """
    Tests for the formats that people read.
    """

    def test_as_twistd(self) -> None:
        """
        A line is the one that twistd prints.
        """
        for shown in (event("{a} {b:.1f}", a="x", b=2), event("{f()}", f=lambda: 1), event("")):
            self.assertEqual(text_lines(shown), formatEventAsClassicLogText(shown) or "")

    def test_other_libraries(self) -> None:
        """
        The system that another library names stands in the place of its logger.
        """
        shown = event(text="x", log_system="HTTPChannel,3\x1b")
        self.assertRegex(text_lines(shown), r"^\S+ \[HTTPChannel,3\\x1b\] x\n$")

    def test_not_formattable(self) -> None:
        """
        An event whose fields are missing shows its format, and none of its fields.
        """
        text = text_lines(event("{missing}", secret=Secret()))
        self.assertIn("cannot format this event (KeyError): {missing}", text)
        self.assertNotIn("secret", text)

    def test_long(self) -> None:
        """
        A long message is cut, and says by how much.
        """
        text = text_lines(event(text="x" * 100_000))
        self.assertLess(len(text), 9000)
        self.assertIn("… (91,808 more characters)", text)

    def test_blocks(self) -> None:
        """
        The texts that an event names follow its message, indented and without controls.
        """
        shown = event("slow", log_blocks=("screen",), screen="a\nb\x1b[31m\n2026 fake")
        self.assertEqual(text_lines(shown).split("\n", 1)[1], "\ta\n\tb\\x1b[31m\n\t2026 fake\n")

    def test_journal(self) -> None:
        """
        For journald, each line begins with its priority, and none has a time.
        """
        shown = event("a {text}", text="b\n<0>c", traceback="one\ntwo")
        self.assertEqual(
            journal_lines(shown),
            "<4>[kiroworkers.tests#warn] a b\\n<0>c\n<4>\tone\n<4>\ttwo\n",
        )
        for level, priority in [("debug", 7), ("info", 6), ("error", 3), ("critical", 2)]:
            shown = event(text="x", log_level=LogLevel.levelWithName(level))
            self.assertTrue(journal_lines(shown).startswith(f"<{priority}>["))
            self.assertTrue(journal_json_line(shown).startswith(f'<{priority}>{{"time"'))
        self.assertEqual((journal_lines(event("")), journal_json_line(event(""))), ("", ""))

    def test_syslog(self) -> None:
        """
        For syslog, a line has no time.
        """
        self.assertEqual(syslog_lines(event(text="x")), "[kiroworkers.tests#warn] x\n")


class JSONTests(SynchronousTestCase):
    """
    Tests for `json_line`.
    """

    def test_fields(self) -> None:
        """
        An object has the time, the level, the logger, the message and the event's own facts, if
        they are known.
        """
        shown = event(
            "{worker}: {kind}",
            worker="worker1",
            kind=Kind.THROTTLED,
            file=Path("/x"),
            number=3,
            ratio=0.5,
            nothing=None,
            empty="",
        )
        self.assertEqual(
            parsed(shown),
            {
                "time": "1970-01-01T00:00:01.500Z",
                "level": "warn",
                "namespace": "kiroworkers.tests",
                "message": "worker1: Kind.THROTTLED",
                "worker": "worker1",
                "kind": "throttled",
                "file": "/x",
                "number": 3,
                "ratio": 0.5,
            },
        )

    def test_no_objects(self) -> None:
        """
        Objects, and the fields of other libraries, are left out: they may be secret.
        """
        shown = event("x", secret=Secret(), data=b"bytes", items=["a"], log_source=Secret())
        self.assertEqual({*parsed(shown)}, {"time", "level", "namespace", "message"})
        other = event("x", log_namespace="kiroworkers_of_others", password="secret")
        self.assertNotIn("secret", json_line(other))

    def test_own_names(self) -> None:
        """
        No field of an event replaces its time, level or message.
        """
        shown = event("x", time="never", level="none", message="fake", namespace="fake")
        self.assertNotIn("fake", json_line(shown))
        self.assertEqual(parsed(shown)["level"], "warn")

    def test_control_characters(self) -> None:
        """
        Characters that control a terminal are escaped, and the text can be had back.
        """
        text = 'a\x1b[2J\x9b\u202e\r\n\u2028\x00"\\\udcff é'
        line = json_line(event(text=text, worker=text))
        self.assertTrue(line[:-1].isprintable(), line)
        self.assertEqual(json.loads(line)["worker"], text)
        self.assertIn("é", line)

    def test_traceback(self) -> None:
        """
        A traceback is a field, and is not in the message.
        """
        own = parsed(event("{text}:\n{traceback}", text="broken", traceback="one\n  two\n"))
        self.assertEqual((own["message"], own["traceback"]), ("broken:", "one\n  two"))
        failed = parsed(event("broken", log_failure=Failure(ValueError("why"))))
        self.assertTrue(failed["traceback"].endswith("ValueError: why"))

    def test_hidden_message(self) -> None:
        """
        A failure whose message may quote a client shows its type and its place only.
        """
        try:
            raise ValueError("a secret")
        except ValueError:
            failure = Failure()
        value = parsed(event("broken", log_failure=failure, log_without_message=True))
        self.assertNotIn("a secret", value["traceback"].replace('raise ValueError("a secret")', ""))
        self.assertIn("test_hidden_message", value["traceback"])
        self.assertTrue(value["traceback"].endswith("builtins.ValueError"))

    def test_long(self) -> None:
        """
        However long its fields are, an object is bounded, complete, and has its first facts.
        """
        fields = {f"field{number}": "é\x1b" * 5000 for number in range(100)}
        line = json_line(event("{worker}", worker="worker1", **fields, log_failure=None))
        self.assertLess(len(line.encode()), 33 * 1024)
        value = json.loads(line)
        self.assertEqual((value["message"], value["worker"]), ("worker1", "worker1"))
        self.assertIn("more characters)", value["field0"])
        self.assertLess(len(value), 60)

    def test_long_traceback(self) -> None:
        """
        The end of a long traceback is kept.
        """
        value = parsed(event("x", traceback="line\n" * 20_000 + "ValueError: why"))
        self.assertTrue(value["traceback"].endswith("ValueError: why"))
        self.assertRegex(value["traceback"], r"^\([\d,]+ more characters\) …")

    def test_numbers(self) -> None:
        """
        A number that JSON does not have is a string.
        """
        value = parsed(event("x", delay=float("inf"), ratio=float("nan"), turn=1.5))
        self.assertEqual((value["delay"], value["ratio"], value["turn"]), ("inf", "nan", 1.5))

    def test_unknown(self) -> None:
        """
        An event of another library may have no time, and a failure no traceback.
        """
        shown = {"log_format": "x"}
        self.assertEqual(parsed(shown)["time"], None)
        self.assertEqual(text_lines(shown), "- [-#info] x\n")
        failure = Failure(ValueError("x"))
        self.patch(failure, "getTraceback", lambda: 1 / 0)
        self.assertIn("no traceback: ZeroDivisionError", json_line(event("x", log_failure=failure)))

    def test_request(self) -> None:
        """
        The end of a request is one object with its facts, instead of the line of text.
        """
        record = RequestRecord("id1", host="unix", method="GET", path="/kiro", status=200, ended=0)
        value = parsed(event("{line}", line=combined_line(record), record=record))
        self.assertEqual(value["message"], "GET /kiro: 200")
        self.assertEqual((value["requestId"], value["address"]), ("id1", "unix"))
        self.assertNotIn("line", value)


class BoundTests(SynchronousTestCase):
    """
    Tests for `bounded` and `levels_from`.
    """

    def test_bounded(self) -> None:
        """
        Only text above the limit is cut.
        """
        self.assertEqual(bounded("abc", 3), "abc")
        self.assertEqual(bounded("abcd", 3), "abc… (1 more characters)")

    def test_levels(self) -> None:
        """
        A level includes those that are more severe.
        """
        self.assertEqual(levels_from("error"), {"error", "critical"})
        self.assertEqual(len(levels_from("debug")), 5)
