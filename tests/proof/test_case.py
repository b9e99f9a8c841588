"""
Tests for `kiroworkers.proof.case`.
"""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations.acp.known_sessions import RESUMED
from kiroworkers.errors import AnswerSchemaMismatch
from kiroworkers.proof.case import (
    Case,
    Form,
    copy_task,
    foreign_ids,
    level_without_answer,
    problem_with,
    quote,
)
from kiroworkers.proof.hard_strings import CARELESS, HARD_STRINGS
from kiroworkers.proof.report import Level
from kiroworkers.tasks import find_answer

ONE, TWO = "case-0000000000000001", "case-0000000000000002"


class CaseTests(SynchronousTestCase):
    """
    Tests for `Case` and its task.
    """

    def test_hard_strings(self) -> None:
        """
        Each hard string is found unaltered in what the scripted model writes, in both forms and
        for both layouts: what an agent prints literally is judged as exact.
        """
        task = copy_task()
        for name, text in HARD_STRINGS.items():
            for form in Form:
                case = Case(ONE, text, form)
                request = task.accept(case.request)
                for layout in ("compact", "lines"):
                    prompt = task.prompt(request, layout)
                    search = task.answer_search(request, case.model_text(prompt))
                    self.assertEqual(search.find().value, case.answer, f"{name}, {form}")

    def test_echo(self) -> None:
        """
        The request is no answer, so that an agent that echoes its prompt does not pass.
        """
        task, case = copy_task(), Case(ONE, "a text")
        request = task.accept(case.request)
        echo = json.dumps(case.request)
        with self.assertRaises(AnswerSchemaMismatch):
            find_answer(echo, task.answer_schema)
        self.assertIn(echo.replace(" ", "")[:20], task.prompt(request).replace(" ", ""))

    def test_as_asked(self) -> None:
        """
        A model that does as it is asked writes a fence, and escapes what the prompt names.
        """
        text = Case(ONE, "a & `b` \x7f").model_text("")
        self.assertTrue(text.startswith("```json\n") and text.endswith("\n```"))
        self.assertIn("a \\u0026 \\u0060b\\u0060 \\u007f", text)

    def test_careless(self) -> None:
        """
        A careless model writes neither, and each of its texts has a class.
        """
        self.assertIn('"a & `b`"', Case(ONE, "a & `b`", Form.CARELESS).model_text(""))
        self.assertLessEqual(set(CARELESS), set(HARD_STRINGS))


class ProblemTests(SynchronousTestCase):
    """
    Tests for `problem_with`.
    """

    case = Case(ONE, "two **bold** words")

    def test_right(self) -> None:
        """
        The copy of the text, with its identifier, is right.
        """
        self.assertIsNone(problem_with(self.case, 200, {"copyOf": ONE, "copy": self.case.text}))

    def test_altered(self) -> None:
        """
        A text that was altered is lossy, and both texts are shown.
        """
        problem = problem_with(self.case, 200, {"copyOf": ONE, "copy": "two bold words"})
        assert problem is not None
        self.assertIs(problem.level, Level.LOSSY)
        self.assertEqual(
            problem.sentence, 'expected "two **bold** words", received "two bold words"'
        )

    def test_altered_late(self) -> None:
        """
        A long text is shown from a little before the difference on.
        """
        case = Case(ONE, "x" * 1000 + "yz")
        problem = problem_with(case, 200, {"copyOf": ONE, "copy": "x" * 1000 + "z"})
        assert problem is not None
        self.assertIn("from character 980 on", problem.sentence)
        self.assertIn('yz"', problem.sentence)

    def test_not_a_text(self) -> None:
        """
        An answer of another shape is shown as well.
        """
        for body in ([1], {"copyOf": ONE}, None):
            problem = problem_with(self.case, 200, body)
            assert problem is not None
            self.assertIs(problem.level, Level.LOSSY)

    def test_missing(self) -> None:
        """
        An error is a lost answer, and its code and sentence are shown.
        """
        body = {"error": "It could not be read", "code": "unreadable"}
        problem = problem_with(self.case, 502, body)
        assert problem is not None
        self.assertIs(problem.level, Level.LOSSY)
        self.assertIn("502 unreadable: It could not be read", problem.sentence)

    def test_refused_resumption(self) -> None:
        """
        If only the server has kept the agent from continuing an earlier conversation, that agent
        leaks.
        """
        reason = f"No session can be started: {RESUMED} abc, which another request may have"
        problem = problem_with(self.case, 503, {"error": reason, "code": "no_session"})
        assert problem is not None
        self.assertIs(problem.level, Level.LEAKS)
        self.assertIs(level_without_answer("exit status 1"), Level.LOSSY)

    def test_foreign(self) -> None:
        """
        An answer with another case's identifier leaks, wherever it has it.
        """
        for body in (
            {"copyOf": TWO, "copy": self.case.text},
            {"copyOf": ONE, "copy": f"my project is {TWO}"},
        ):
            problem = problem_with(self.case, 200, body)
            assert problem is not None
            self.assertIs(problem.level, Level.LEAKS)
            self.assertIn(TWO, problem.sentence)


class TextTests(SynchronousTestCase):
    """
    Tests for what finds identifiers and shortens texts.
    """

    def test_foreign_ids(self) -> None:
        """
        Identifiers are found in the order of their appearance, each once.
        """
        text = f"{TWO} {ONE}, {TWO} case-12 case-"
        self.assertEqual(foreign_ids(text, None), [TWO, ONE])
        self.assertEqual(foreign_ids(text, TWO), [ONE])

    def test_quote(self) -> None:
        """
        A quoted text is ASCII and short.
        """
        self.assertEqual(quote("ü\n"), '"\\u00fc\\n"')
        self.assertLess(len(quote("x" * 1000)), 200)
