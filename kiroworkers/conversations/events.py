"""
What happens in a conversation, as values.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from attrs import frozen

#: How the end of a turn was known: by the line editor that reads again, by the
#: agent's own sign that it is idle and a quiet moment, by a text that looks like
#: the prompt and a quiet moment, or by the response of a protocol.
Completion: TypeAlias = Literal["prompt", "idle-sign", "quiet", "response"]

#: Where the text of an answer was read.
Source: TypeAlias = Literal["terminal", "journal", "protocol"]


@frozen
class Ready:
    """
    The agent shows its prompt: what is typed now is read by its line editor.
    """


@frozen
class Submitted:
    """
    The agent took the prompt and let go of the keys: everything before was
    echo, and from now on an interrupt is a signal to it.
    """


@frozen
class Answered:
    """
    The turn is over and the prompt is back; `text` is all that was printed
    between, as a reader would have seen it.

    Attributes:
        completion: how that is known.
        wrapped: the agent may have cut long lines, so that a line's end in
            `text` need not be one of the answer's.
    """

    text: str
    completion: Completion
    wrapped: bool = False


@frozen
class TextChunk:
    """
    A piece of the answer, as soon as it is certain.
    """

    text: str


@frozen
class LateOutput:
    """
    The agent sent `text` (empty for output that is no text) after the end of its
    turn, before another prompt was submitted.
    """

    text: str


@frozen
class Working:
    """
    The agent uses a tool, which it calls `what`.
    """

    what: str


@frozen
class NeedsApproval:
    """
    The agent asks, in the words `question`, whether it may use a tool.

    Attributes:
        number: tells questions in the same words apart; one that is asked again
            for each step towards its answer has the same.
    """

    question: str
    number: str = ""


@frozen
class NeedsChoice:
    """
    The agent stops at a menu on its way to the first prompt: `question` is the
    part of it that was recognized, and `keys` go towards its safe choice.
    """

    question: str
    keys: bytes


@frozen
class AgentFailure:
    """
    The agent says why it cannot answer: a `kind` of trouble, the line `detail`
    that proves it, and the seconds to wait where it names them.
    """

    kind: str
    detail: str
    retry_after: int | None = None


@frozen
class NeedsEmptying:
    """
    The turn was cancelled, and the agent put its prompt back into the composer.
    """


@frozen
class NeedsConfirmation:
    """
    The agent asks whether it should really clear the conversation.
    """


@frozen
class Cleared:
    """
    The agent confirmed that it forgot the conversation, and shows its prompt.
    """


@frozen
class NotCleared:
    """
    The agent shows its prompt after the clear command, but confirmed nothing;
    `text` is what it said instead.
    """

    text: str


@frozen
class Overflowed:
    """
    The turn printed more than `limit` bytes; the rest of it is not kept.
    """

    limit: int


@frozen
class PromptLost:
    """
    The prompt went away though nothing was typed.
    """


Event: TypeAlias = (
    Ready
    | Submitted
    | TextChunk
    | LateOutput
    | Working
    | Answered
    | NeedsApproval
    | NeedsChoice
    | NeedsEmptying
    | AgentFailure
    | NeedsConfirmation
    | Cleared
    | NotCleared
    | Overflowed
    | PromptLost
)
