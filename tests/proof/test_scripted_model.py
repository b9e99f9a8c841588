"""
Tests for `kiroworkers.proof.scripted_model`.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.model_server.reply import ModelReply
from kiroworkers.model_server.request import Message, ModelRequest
from kiroworkers.proof.case import Case
from kiroworkers.proof.scripted_model import ScriptedModel, evidence_of

ONE, TWO = Case("case-0000000000000001", "one"), Case("case-0000000000000002", "two")


def request(
    *texts: str, tools: tuple[str, ...] = ("bash",), structured: bool = False
) -> ModelRequest:
    """
    Return a request with a system message and messages of the user.
    """
    messages = (Message("system", "You help."), *(Message("user", text) for text in texts))
    return ModelRequest("/v1/chat/completions", messages, tools, structured=structured)


class ScriptedModelTests(SynchronousTestCase):
    """
    Tests for `ScriptedModel`.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.model = ScriptedModel(self.clock.seconds)
        self.model.add(ONE)

    def test_copies(self) -> None:
        """
        A request with the identifier of a case gets the copy of its text.
        """
        prompt = f"Copy this: {ONE.id}"
        self.assertEqual(self.model.reply_to(request(prompt)).text, ONE.model_text(prompt))
        (seen,) = self.model.requests_for(ONE)
        self.assertEqual((seen.case_id, seen.foreign, seen.tools), (ONE.id, (), ("bash",)))

    def test_script(self) -> None:
        """
        A case may have a reply of its own, which sees the request.
        """
        self.model.add(TWO, lambda asked: ModelReply(asked.path))
        self.assertEqual(self.model.reply_to(request(TWO.id)).text, "/v1/chat/completions")

    def test_leak_before(self) -> None:
        """
        A request that holds an earlier case before its own is about its own, and leaks.
        """
        self.model.reply_to(request(ONE.id))
        self.model.close(ONE)
        self.model.add(TWO)
        reply = self.model.reply_to(request(f"an earlier {ONE.id}", "an answer", TWO.id))
        self.assertEqual(reply.text, TWO.model_text(""))
        (leak,) = self.model.leaks_since(0)
        self.assertEqual((leak.number, leak.case_id, leak.foreign), (1, TWO.id, (ONE.id,)))
        self.assertIn("an earlier", leak.excerpt)
        self.assertEqual(self.model.leaks_since(2), [])
        self.assertIn(ONE.id, str(evidence_of([leak])))

    def test_leak_behind(self) -> None:
        """
        A memory behind the prompt does not make the request one about the earlier case.
        """
        self.model.close(ONE)
        self.model.add(TWO)
        self.model.reply_to(request(f"{TWO.id} (memory: {ONE.id})"))
        (leak,) = self.model.leaks_since(0)
        self.assertEqual((leak.case_id, leak.foreign), (TWO.id, (ONE.id,)))

    def test_leak_between_running_cases(self) -> None:
        """
        A request with the text of another case that runs at the same time leaks.
        """
        self.model.add(TWO)
        self.model.reply_to(request(ONE.id, TWO.id))
        self.assertEqual(len(self.model.leaks_since(0)), 1)

    def test_unknown_identifier(self) -> None:
        """
        Text that only looks like an identifier, such as that of another proof, is no leak.
        """
        self.model.reply_to(request(f"case-ffffffffffffffff {ONE.id}"))
        self.assertEqual(self.model.leaks_since(0), [])

    def test_background(self) -> None:
        """
        A request for a title or for other JSON gets no answer to the case, and is remembered.
        """
        title = self.model.reply_to(request("Generate a title for: ", ONE.id, tools=()))
        other = self.model.reply_to(request(ONE.id, structured=True))
        self.assertEqual((title.text, other.text), ("A few words", "{}"))
        self.assertEqual(self.model.reply_to(request("What next?")).text, "A few words")
        self.assertEqual([seen.is_background for seen in self.model.requests], [True, True, False])

    def test_turn_that_mentions_titles(self) -> None:
        """
        A request with tools is a turn, also if the agent's instructions mention titles.
        """
        reply = self.model.reply_to(request("Each task has a concise title.", ONE.id))
        self.assertEqual(reply.text, ONE.model_text(""))

    def test_tools_that_mention_titles(self) -> None:
        """
        So is one without callable tools whose descriptions or results mention titles.
        """
        messages = (
            Message("tools", "Generate a title"),
            Message("user", ONE.id),
            Message("tool", "You are a title generator"),
        )
        reply = self.model.reply_to(ModelRequest("/v1/messages", messages))
        self.assertEqual(reply.text, ONE.model_text(""))

    def test_summary_of_another_conversation(self) -> None:
        """
        A request to sum up the conversation of a case that was answered leaks its text.
        """
        self.model.close(ONE)
        prompt = f"Summarize this conversation:\n{ONE.id}\nSummary (max 80 chars):"
        self.assertEqual(self.model.reply_to(request(prompt, tools=())).text, "A few words")
        (leak,) = self.model.leaks_since(0)
        self.assertEqual((leak.case_id, leak.foreign, leak.is_repeat), (None, (ONE.id,), True))
        self.assertIn("Summarize this", leak.excerpt)

    def test_summary_of_its_own_conversation(self) -> None:
        """
        While the case runs, such a request is about the agent's own conversation; so is a title.
        """
        prompt = f"Summarize this conversation:\n{ONE.id}\nSummary (max 80 chars):"
        self.model.reply_to(request(prompt, tools=()))
        self.model.close(ONE)
        self.model.reply_to(request("Generate a title for: ", ONE.id, tools=()))
        self.assertEqual(self.model.leaks_since(0), [])

    def test_sent_again_later(self) -> None:
        """
        A request about a case that was answered several cases ago leaks its text, whatever it asks
        for; a moment after the answer it may belong to the turn.
        """
        self.model.close(ONE)
        self.model.reply_to(request(ONE.id))
        self.model.reply_to(request("Extract facts from:", ONE.id, tools=()))
        self.assertEqual(self.model.leaks_since(0), [])
        for number in range(4):
            later = Case(f"case-000000000000001{number}", "later")
            self.model.add(later)
            self.model.close(later)
        self.model.reply_to(request("Extract facts from:", ONE.id, tools=()))
        self.model.reply_to(request("Generate a title for: ", ONE.id, tools=()))
        leaks = self.model.leaks_since(0)
        self.assertEqual([leak.foreign for leak in leaks], [(ONE.id,)] * 2)
        self.assertTrue(all(leak.is_repeat for leak in leaks))

    def test_noted_once(self) -> None:
        """
        A request that was noted before its reply is remembered once; one without a reply, too.
        """
        asked, counted = request(ONE.id), request(ONE.id)
        self.model.note(asked)
        self.model.reply_to(asked)
        self.model.note(counted)
        self.assertEqual([seen.number for seen in self.model.requests], [0, 1])

    def test_waits_for_a_request(self) -> None:
        """
        The request for an answer to a case can be awaited, before and after it came.
        """
        self.model.add(TWO)
        before, other = self.model.requested(ONE), self.model.requested(TWO)
        self.model.reply_to(request("Generate a title", ONE.id, tools=()))
        self.assertNoResult(before)
        self.model.reply_to(request(ONE.id))
        self.assertEqual(self.successResultOf(before).number, 1)
        self.assertEqual(self.successResultOf(self.model.requested(ONE)).number, 1)
        self.assertNoResult(other)
        other.cancel()
        self.failureResultOf(other, CancelledError)
        self.model.reply_to(request(TWO.id))

    def test_waits_for_a_hang_up(self) -> None:
        """
        The end of an endless reply can be awaited; that of another reply is no hang-up on it.
        """
        self.model.add(TWO, lambda asked: ModelReply("Well", endless=True))
        endless, ended = request(TWO.id), request(ONE.id)
        self.model.reply_to(endless)
        self.model.reply_to(ended)
        gone = self.model.abandoned(TWO)
        self.model.note_abandoned(ended)
        self.assertNoResult(gone)
        self.model.note_abandoned(endless)
        self.assertEqual(self.successResultOf(gone).case_id, TWO.id)
        self.assertEqual(self.successResultOf(self.model.abandoned(TWO)).case_id, TWO.id)
