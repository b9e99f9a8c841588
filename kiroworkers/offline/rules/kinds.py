"""
Describe each kind of action: its usual benefit, outcomes and object.

The sentences are templates.  `{it}` is the object with a definite article ("the
stories"), `{one}` the object as the idea words it ("stories").  `{is}`, `{has}` and
`{match}` agree with it in number.  `{actor}` and `{an_actor}` are the person who acts,
`{action}` is the wish in the idea's words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from kiroworkers.offline.rules.action import Action
from kiroworkers.offline.rules.people import in_third_person
from kiroworkers.offline.rules.words import definite, is_plural, shorten, with_article

_MAX_OBJECT_LENGTH = 100


@dataclass(frozen=True)
class Kind:
    """
    Describe one kind of action.

    Attributes:
        benefit: The reason for it, for an idea that gives none.
        outcomes: The observable results of success, the most significant first.
        nothing: The name of the object, for an idea that names none.
    """

    benefit: str
    outcomes: tuple[str, ...]
    nothing: str = "the result"


KINDS: Mapping[str, Kind] = {
    "export": Kind("I can use {it} outside the application", (
        "Starting the export downloads a file with {it}",
        "The file holds the same values as the screen",
        "With nothing to export, a message says so and no file is downloaded"), "the data"),
    "import": Kind("I do not have to enter {it} by hand", (
        "After the import, {it} {is} shown in the application",
        "A message gives the number of entries taken in and the number refused",
        "An entry that cannot be read is refused with its position and the reason"), "the data"),
    "upload": Kind("I have {it} at hand where the work is done", (
        "After the upload, {it} {is} listed and can be opened",
        "A file of a kind that is not accepted is refused, and a message gives the reason",
        "The progress is shown while the upload runs"), "the file"),
    "search": Kind("I get to {it} without going through everything", (
        "A search shows {it} that {match} what was entered, and nothing else",
        "When nothing matches, a message says so",
        "Selecting a result opens it"), "the entries"),
    "filter": Kind("I see only what matters to me at the moment", (
        "With a filter set, only what matches it is shown",
        "The active filter and the number of matches are shown",
        "Clearing the filter shows everything again"), "the entries"),
    "sort": Kind("what matters most comes first", (
        "After sorting, {it} {is} shown in the chosen order",
        "Choosing the same order again reverses it",
        "The order is still there after the page is opened again"), "the entries"),
    "group": Kind("I can find together what belongs together", (
        "After this, {it} {is} shown in the chosen group",
        "The number of entries in each group is shown",
        "Taking the mark away restores the earlier view"), "the entries"),
    "notify": Kind("I learn of it in time to act", (
        "The {actor} gets one message for each event, and none without an event",
        "The message says what happened and links to it",
        "{an_actor} who has turned these messages off gets none"), "the message"),
    "send": Kind("those concerned know what they need to know", (
        "After sending, the recipient has {it}",
        "The {actor} sees that {it} {is} sent, and when",
        "When it cannot be delivered, a message gives the reason"), "the message"),
    "view": Kind("I know how things stand without having to ask", (
        "The {actor} sees {it} on the screen",
        "After a change to the underlying data, reopening the view shows the new state",
        "When there is nothing to show, a message says so"), "the current state"),
    "track": Kind("I know what happened and what comes next", (
        "The current state of {it} and the time of its last change are shown",
        "Each change adds an entry with its time to the history"), "the progress"),
    "create": Kind("I have {one} to work with", (
        "After saving, {it} {is} shown with the values entered",
        "Leaving out a required value gives a message that names it, and nothing is saved",
        "After the page is opened again, {it} {is} still there"), "the new entry"),
    "edit": Kind("I can keep {it} up to date", (
        "After saving, the new state of {it} is shown",
        "Cancelling leaves {it} as before",
        "An invalid value is refused with a message that names it"), "the entry"),
    "delete": Kind("what is no longer needed is out of the way", (
        "A question has to be confirmed before {it} {is} removed",
        "After confirming, {it} {is} no longer shown anywhere",
        "Answering the question with no leaves {it} in place"), "the entry"),
    "archive": Kind("I can concentrate on what is current", (
        "Afterwards {it} {is} no longer among the current entries",
        "In the archive, {it} can still be read"), "the entry"),
    "login": Kind("only I can reach what is mine", (
        "With valid credentials, the {actor} sees their own start page",
        "With wrong credentials, access is refused; the message does not say which part is wrong",
        "After signing out, the start page asks for credentials again"), "the account"),
    "register": Kind("I can start without asking anybody for access", (
        "After registering, the {actor} can sign in with the new account",
        "An address that is already in use is refused with a message",
        "A confirmation is sent to the address given"), "the account"),
    "reset": Kind("I can go on without asking for help", (
        "After the reset, {it} {has} the new value and the old one is no longer accepted",
        "A reset that was asked for but not completed changes nothing",
        "A request that has expired is refused with a message"), "the value"),
    "report": Kind("I can base decisions on figures", (
        "The {actor} sees {it} with the period and the time at which the figures were taken",
        "The totals equal the sum of the entries behind them",
        "A period without data shows zero, not an error"), "the figures"),
    "configure": Kind("it works the way I need it to", (
        "After saving, the new settings of {it} take effect",
        "The current settings are shown before they are changed",
        "An invalid setting is refused with a message that names it"), "the application"),
    "manage": Kind("I can keep {it} complete and correct", (
        "An addition to {it} is shown after saving, and still there after reopening the page",
        "A change to {it} is shown after saving",
        "A removal from {it} has to be confirmed first"), "the entries"),
    "mode": Kind("it works the way I need it to", (
        "Switching on {it} takes effect at once, on every page",
        "Switching it off brings back the earlier state",
        "The choice is still in effect after signing in again"), "the setting"),
    "approve": Kind("nothing goes ahead without a decision", (
        "After the decision, its outcome is shown at {it} with the name and the time",
        "A decision against it asks for a reason, which is shown as well",
        "What has been decided cannot be decided a second time"), "the entry"),
    "assign": Kind("it is clear who takes care of what", (
        "After assigning, the name of the person is shown at {it}",
        "The person sees {it} among their own work",
        "A change of the person is shown in the history"), "the entry"),
    "share": Kind("others see the same as I do", (
        "The person it is shared with can open {it}",
        "Anybody else who follows the link is refused",
        "Taking the share back ends the access"), "the entry"),
    "comment": Kind("questions are settled where they come up", (
        "After sending, the text is shown with its author and time",
        "An empty text cannot be sent",
        "Everybody with access to the entry sees the text"), "the comment"),
    "connect": Kind("I do not have to carry data from one place to the other", (
        "Once connected, the name and the state of the connection to {it} are shown",
        "A change on one side is seen on the other",
        "When the other side cannot be reached, a message says so and nothing is lost"),
        "the other system"),
    "migrate": Kind("nothing is lost in the change", (
        "Afterwards the number of entries in {it} is the same as before",
        "A sample of entries, compared before and after, holds the same values",
        "A run that fails leaves the old state in use"), "the data"),
    "pay": Kind("the matter is settled in one place", (
        "After the payment, a confirmation with the amount is shown",
        "A payment that is refused takes no money, and a message gives the reason",
        "The payment is listed with its date and amount"), "the payment"),
    "schedule": Kind("everybody knows when it takes place", (
        "After saving, {it} {is} shown in the calendar with its date and time",
        "A time that is already taken is refused with a message",
        "A time in the past is refused with a message"), "the entry"),
    "cancel": Kind("I am not held to something I no longer want", (
        "After confirming, {it} {is} shown as cancelled",
        "What was cancelled has no further effect",
        "When it is too late to cancel, a message says so"), "the entry"),
    "restore": Kind("a mistake costs me nothing", (
        "Afterwards the state from before is shown again",
        "What can be brought back is listed with its time",
        "When nothing can be brought back, the action is not offered"), "the earlier state"),
    "validate": Kind("mistakes are found before they do harm", (
        "The result of checking {it} is shown as passed or failed",
        "Each fault found is named with its place",
        "When there is no fault, a message says so"), "the entry"),
    "protect": Kind("nobody sees or changes what they should not", (
        "Somebody without permission is refused, and a message says so",
        "Somebody with permission sees no difference",
        "A refused attempt is recorded with its time"), "the data"),
    "print": Kind("I have it on paper", (
        "The print preview shows {it} in full",
        "Nothing is cut off at the page edges"), "the page"),
    "copy": Kind("I do not have to start from nothing", (
        "After copying, there is a second entry with the values of the first",
        "Changing the copy leaves the original as it is"), "the entry"),
    "translate": Kind("I can read it in my language", (
        "After choosing the language, {it} {is} shown in it",
        "A text without a translation is shown in the default language"), "the text"),
    "fix": Kind("I can work without this problem", (
        "The steps that led to the problem now end with the expected result",
        "An automated test repeats these steps"), "the problem"),
    "improve": Kind("the same work costs me less time", (
        "A figure agreed on beforehand is measured before and after, and has improved",
        "What worked before gives the same results as before"), "the work"),
    "automate": Kind("I can spend the time on something else", (
        "After the start, the state of {it} is shown until the end",
        "When it fails, a message gives the step and the reason",
        "The result and the time it took are listed"), "the run"),
    "use": Kind("I can do my work without a workaround", (
        "{an_actor} finds {it} in the application and can use it",
        "What was done with {it} is still there after the page is opened again"), "the feature"),
}  # fmt: skip
UNKNOWN = Kind("I can do my work without a workaround", (
    "{an_actor} can {action}, from start to finish and without help",
    "The result is shown on the screen and is still there after the page is opened again",
    "When it cannot be done, a message gives the reason"), "the result")  # fmt: skip


def kind_for(action: Action) -> Kind:
    """
    Return the description of the kind of `action`, or of an unknown kind.
    """
    return KINDS.get(action.kind, UNKNOWN)


def benefit_of(action: Action, actor: str) -> str:
    """
    Return a plausible reason for `action`, as `actor` would say it.
    """
    return _filled(kind_for(action).benefit, action, actor)


def outcomes_of(action: Action, actor: str) -> list[str]:
    """
    Return the observable results of `action` by `actor`.
    """
    reported = replace(
        action, text=in_third_person(action.text), object=in_third_person(action.object)
    )
    return [_filled(template, reported, actor) for template in kind_for(action).outcomes]


def _filled(template: str, action: Action, actor: str) -> str:
    kind = kind_for(action)
    noun = shorten(action.object, _MAX_OBJECT_LENGTH)
    it = definite(noun) if noun else kind.nothing
    plural_noun = is_plural(it)
    return template.format_map(
        {
            "it": it,
            "one": noun or kind.nothing,
            "actor": actor,
            "an_actor": with_article(actor),
            "action": shorten(action.text, 120),
            "is": "are" if plural_noun else "is",
            "has": "have" if plural_noun else "has",
            "match": "match" if plural_noun else "matches",
        }
    )
