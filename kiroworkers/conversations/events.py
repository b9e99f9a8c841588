"""
Define the events of a conversation, as immutable values.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from attrs import field, frozen

from kiroworkers.errors import FailureKind

#: How the end of a turn was known: ``prompt``, the line editor reads again;
#: ``idle-sign``, the agent's own idle marker and a quiet moment; ``quiet``, a text that
#: looks like the prompt and a quiet moment; ``response``, the response of a protocol.
Completion: TypeAlias = Literal["prompt", "idle-sign", "quiet", "response"]

#: Where the text of an answer was read.
Source: TypeAlias = Literal["terminal", "journal", "protocol"]


#: What a tool does.
Access: TypeAlias = Literal["read", "write", "execute", "network", "other"]

#: What an agent reports about a turn that goes on: it summarizes the conversation, it asks its
#: service again, its service is silent, or another model answers.
NoticeKind: TypeAlias = Literal["compaction", "retry", "stall", "model_fallback"]


@frozen
class Usage:
    """
    Hold what a turn cost, as the agent reported it.

    Attributes:
        credits: The credits that the turn used; None if the agent did not say.
        context_percent: How much of the model's context the conversation fills after the
            turn, from 0 to 100; None if the agent did not say.
    """

    credits: float | None = None
    context_percent: float | None = None


@frozen
class Ready:
    """
    Reported when the agent shows its prompt and there is no answer to report.
    """


@frozen
class Submitted:
    """
    Reported when the agent has taken the prompt and started the turn.

    Everything that it printed before is echo.  From now on, an interrupt reaches the turn.
    """


@frozen
class Answered:
    """
    Reported when the turn is over and the prompt is back.

    Attributes:
        text: Everything that the turn printed, as plain text.
        completion: How the end of the turn was known.
        wrapped: Whether the agent may have cut long lines, so that some line breaks in
            `text` may not be part of the answer.
        styled: The offsets in `text`, in ascending order, at which the agent changed the
            style or erased something.  Text that contains one was rendered, so it may differ
            from what the model wrote.
        usage: What the turn cost.
    """

    text: str
    completion: Completion
    wrapped: bool = False
    styled: tuple[int, ...] = ()
    usage: Usage = field(factory=Usage)


@frozen
class TextChunk:
    """
    Reported for each part of the answer, as soon as that part can no longer change.
    """

    text: str


@frozen
class TextDiscarded:
    """
    Reported when the agent restarts its answer: the chunks of this turn so far no longer count.
    """


@frozen
class Notice:
    """
    Reported when the agent reports something about a turn that goes on.

    Attributes:
        kind: What the notice is about.
        detail: A description for the operator and the client.
    """

    kind: NoticeKind
    detail: str


@frozen
class LateOutput:
    """
    Reported when output of a turn arrives after its end and before the next prompt.

    Attributes:
        text: The output, or an empty string for output that is not text.
    """

    text: str


@frozen
class Working:
    """
    Reported when the agent uses a tool.

    Attributes:
        what: The agent's name for what it does.
    """

    what: str


@frozen
class ToolUsed:
    """
    Reported when a tool has run.

    Attributes:
        title: The agent's name for the tool, with its command or file.
        access: What the tool does.
        asked: Whether the agent asked for an approval first, and was not denied it.
        inside: Whether all that the tool accesses is known to be inside the session's folder.
    """

    title: str
    access: Access
    asked: bool
    inside: bool = False


@frozen
class NeedsApproval:
    """
    Reported when the agent asks whether it may use a tool.

    Attributes:
        question: The question in the agent's words, with the tool and its command where the
            agent shows them.
        number: An identifier that tells apart two questions in the same words.  A
            question that is reported again for each step towards its answer keeps it.
        grantable: Whether the question may be allowed.  A question of the model to its user,
            for example, is not a request for a permission.
    """

    question: str
    number: str = ""
    grantable: bool = True


@frozen
class NeedsChoice:
    """
    Reported when the agent stops at a menu before its first prompt.

    Attributes:
        question: The part of the menu that was recognized.
        keys: The keys that lead to the menu's safe choice.
    """

    question: str
    keys: bytes


@frozen
class AgentFailure:
    """
    Reported when the agent states why it cannot answer.

    Attributes:
        kind: What kind of failure it is.
        detail: The line of the output that says so.
        retry_after: The seconds to wait, where the agent names them.
        words: The words by which it was recognized; empty if it was not by words.
        quoted: Whether a client wrote these words, so that the agent may only quote them.
    """

    kind: FailureKind
    detail: str
    retry_after: int | None = None
    words: str = field(default="", eq=False, repr=False)
    quoted: bool = False

    @property
    def affects_all_sessions(self) -> bool:
        """
        Return whether the failure is known to affect every session of the agent.
        """
        return self.kind.affects_all_sessions and not self.quoted


@frozen
class ComposerNotEmpty:
    """
    Reported when a cancelled turn left its prompt in the agent's input field.

    It must be erased with `Conversation.empty_composer` before anything is typed.
    """


@frozen
class NeedsConfirmation:
    """
    Reported when the agent asks whether it should really clear the conversation.
    """


@frozen
class Cleared:
    """
    Reported when the agent has confirmed a clear and shows its prompt.
    """


@frozen
class NotCleared:
    """
    Reported when the agent shows its prompt after a clear without confirming it.

    Attributes:
        text: What the agent printed instead of the confirmation.
    """

    text: str


@frozen
class Overflowed:
    """
    Reported when a turn has printed too much; the rest of its output is not kept.

    Attributes:
        limit: The number of bytes that may be kept of a turn.
    """

    limit: int


@frozen
class PromptLost:
    """
    Reported when the prompt went away although nothing was typed.
    """


Event: TypeAlias = (
    Ready
    | Submitted
    | TextChunk
    | TextDiscarded
    | Notice
    | LateOutput
    | Working
    | ToolUsed
    | Answered
    | NeedsApproval
    | NeedsChoice
    | ComposerNotEmpty
    | AgentFailure
    | NeedsConfirmation
    | Cleared
    | NotCleared
    | Overflowed
    | PromptLost
)
