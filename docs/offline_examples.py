"""
Write ``offline-agent.rst``: what the offline agent makes of 60 ideas, judged by hand.

After a change of its rules, judge again what has changed, then::

    python docs/offline_examples.py
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from kiroworkers.offline.review import analyze_invest
from kiroworkers.offline.story import generate_story

PAGE = Path(__file__).with_name("offline-agent.rst")

_HEAD = """\
The offline agent
=================

The offline agent is a built-in interactive program with the interface of Kiro's classic terminal.
It answers by a few rules, at once, without a network or a model, and it does not understand what it
reads. Use it to develop and test a client.

A story keeps the idea's own words, in whole sentences and in any language. Who wants it and why
are filled in only where the idea states them in a fixed form, such as "As a …, I want to … so that
…"; otherwise the story says ``(actor not stated)`` and ``(benefit not stated)``. The acceptance
criteria are the conditions that the idea states: items of lists, and sentences with "must", "only"
or a number. The INVEST review looks for what a story lacks and for fixed phrases, and quotes what
it found. It gives no score to text that it cannot read as English.

To any other task, and to any ``response_format``, the agent answers with a sample that fits the
schema. Such a response has the header ``X-Kiroworkers-Sample: 1``.

The server runs it on a terminal through the same code as Kiro. You can also use it by hand;
``/help`` explains how:

.. test: skip (needs a person at a terminal)

.. code-block:: sh

   .venv/bin/python -m kiroworkers.offline

With ``KIROWORKERS_OFFLINE_DELAY=3`` it waits 3 s before each answer, to test clients with a slow
agent.

What it makes of 60 ideas
-------------------------

These 60 ideas were written for this page: complete stories, one-liners, technical tasks, lists,
mails and notes, epics, and other languages. Each result was judged by hand:

- *good*: a person who may only use the idea's own words would write the same;
- *fair*: everything is right, but a person would see more;
- *weak*: something that the idea says is missed or misplaced.

{totals}. ``docs/offline_examples.py`` writes this page, and a
test compares it with what the rules say.

.. list-table::
   :header-rows: 1
   :widths: 30 40 20 10

   * - Idea
     - Story
     - Findings of the review, and its score
     - Verdict
"""

#: Each idea, the verdict on its story and review, and a remark.
EXAMPLES: list[tuple[str, str, str]] = [
    (
        "As a project manager, I want to export the filtered story list to CSV so that I "
        "can share status with people who have no login.",
        "good",
        "",
    ),
    (
        "As an accountant I want to see all unpaid invoices in order to send reminders "
        "before the end of the month.",
        "good",
        "",
    ),
    (
        "As a nurse, I want to confirm a dose by scanning the wristband, because typing "
        "the patient number leads to mix-ups.\n"
        "\n"
        "- The scan takes less than 2 seconds\n"
        "- A wrong wristband is refused with a sound\n"
        "- Every confirmation is logged with time and name",
        "good",
        "",
    ),
    (
        "So that support can find a customer's problem faster, show the last ten orders "
        "next to the chat.",
        "good",
        "",
    ),
    (
        "As the owner of a small shop I would like to be able to block a customer, so "
        "that I get no more spam orders.",
        "good",
        "",
    ),
    (
        "CSV export",
        "fair",
        "",
    ),
    (
        "Dark mode",
        "fair",
        "",
    ),
    (
        "🚀 faster search!!!",
        "fair",
        "",
    ),
    (
        "Users should be able to filter stories by status and owner",
        "good",
        "",
    ),
    (
        "Only admins can delete projects",
        "good",
        "",
    ),
    (
        "Let managers approve timesheets from their phone",
        "good",
        "",
    ),
    (
        "Rename the Save button to Publish",
        "good",
        "",
    ),
    (
        "Undo",
        "fair",
        "",
    ),
    (
        "Add a comment to a story",
        "good",
        "",
    ),
    (
        "notify me when a build fails",
        "fair",
        "who is to be notified is stated as “me” only",
    ),
    (
        "Log in with Google",
        "good",
        "",
    ),
    (
        "Search results should be sorted by date, newest first.",
        "fair",
        "a sentence, not a wish",
    ),
    (
        "I want to reset my password by email",
        "good",
        "",
    ),
    (
        "It should be possible to print the delivery note for the driver.",
        "good",
        "the driver is not the actor",
    ),
    (
        "Dashboard for warehouse managers",
        "good",
        "",
    ),
    (
        "GET /orders must return 429 with Retry-After when a client sends more than 100 "
        "requests a minute.",
        "fair",
        "a requirement, not a wish",
    ),
    (
        "Migrate the session table from MySQL 5.7 to PostgreSQL 16 without downtime.",
        "good",
        "",
    ),
    (
        "Set `Cache-Control: no-store` on /api/me for compliance reasons.",
        "good",
        "",
    ),
    (
        "Refactor OrderService: split it into OrderReader and OrderWriter.",
        "fair",
        "",
    ),
    (
        "npm audit reports 3 high severity issues in lodash@4.17.15, update to 4.17.21.",
        "fair",
        "a finding, not a wish",
    ),
    (
        "```\n"
        "Traceback (most recent call last):\n"
        "  KeyError: 'total'\n"
        "```\n"
        "The invoice page fails when an order has no items. It should show an empty "
        "invoice.",
        "fair",
        "the wish is a complaint",
    ),
    (
        "Log every failed login with IP, user agent and timestamp; keep the log for 90 days.",
        "fair",
        "“keep the log for 90 days” is a condition that stays within the wish",
    ),
    (
        "Webhook retries: exponential backoff, at most 5 attempts, signature in "
        "X-Signature (HMAC-SHA256).",
        "fair",
        "the parts stay in one sentence",
    ),
    (
        "Invoice archive\n"
        "\n"
        "- list of all invoices, newest first\n"
        "- download as PDF\n"
        "- search by customer and amount\n"
        "- must not show invoices of other tenants",
        "good",
        "",
    ),
    (
        "# Two-factor login\n"
        "\n"
        "1. The user enters e-mail and password.\n"
        "2. The user gets a code, e.g. 123456, by text message.\n"
        "3. The code is valid for 10 minutes.\n"
        "4. After 5 wrong codes the account is locked for one hour.",
        "good",
        "",
    ),
    (
        "Requirements:\n"
        "* upload up to 10 files\n"
        "* 20 MB each\n"
        "* PNG, JPG or PDF\n"
        "* a progress bar for each file",
        "fair",
        "nothing is named, so the first item is the title",
    ),
    (
        "Checkout\n[ ] guest checkout\n[ ] saved addresses\n[x] credit card\n[ ] invoice",
        "good",
        "",
    ),
    (
        "Given a cart with two items\n"
        "When I remove one of them\n"
        "Then the total is updated\n"
        "And the removed item is gone",
        "fair",
        "the steps are also the title",
    ),
    (
        "Bulk edit of tags:\n"
        "- choose several stories\n"
        "- add or remove a tag\n"
        "  for all of them at once\n"
        "- undo works for 30 seconds",
        "good",
        "",
    ),
    (
        "Hi team,\n"
        "\n"
        "we talked about this last week: the customers keep asking for a way to see "
        "their\n"
        "invoices online. Right now support sends every invoice by hand, which takes "
        "about\n"
        "two hours a day.\n"
        "\n"
        "It must work on a phone. Invoices older than ten years need not be shown.\n"
        "\n"
        "Thanks,\n"
        "Support",
        "fair",
        "the wish is a complaint",
    ),
    (
        "> Can we please get an overview of who is on holiday?\n"
        "> I always have to ask around.\n"
        "Yes, good idea. A calendar with one row for each person would do.",
        "weak",
        "the wish is in the last sentence",
    ),
    (
        'Customer quote: "I never know whether my parcel has left the warehouse." We '
        "should show the shipping status on the order page.",
        "good",
        "",
    ),
    (
        "We lose orders because nobody sees the emails",
        "fair",
        "a complaint; the reason is not taken for a benefit",
    ),
    (
        "The login page is too slow. It takes 8 seconds on a phone; it should take at most 2.",
        "fair",
        "the wish is a complaint",
    ),
    (
        "meeting notes 12/3: sales wants discount codes. max 20%, one per order, expire "
        "after 30 days. marketing: must be possible to create 500 at once. open: refunds?",
        "weak",
        "notes without sentences are not taken apart",
    ),
    (
        "Right now every user sees every project. This is confusing and, for some "
        "customers, a problem of confidentiality. Therefore a user should only see the "
        "projects of their own teams. Admins still see all of them.",
        "good",
        "",
    ),
    (
        "Build a complete customer portal with login, invoices, contracts, support "
        "tickets, a knowledge base, chat, notifications, a mobile app and reports for "
        "managers.",
        "good",
        "the review finds an epic",
    ),
    (
        "Replace our ERP system.",
        "fair",
        "the review cannot know that this is an epic",
    ),
    (
        "We want to sell our product in Japan. That means translation, yen prices, local "
        "payment methods, Japanese address forms, invoices that follow Japanese law and "
        "support in the local time zone.",
        "fair",
        "what Japan means is not among the criteria",
    ),
    (
        "Als Händler möchte ich meine Bestellungen als CSV exportieren, damit ich sie in "
        "Excel auswerten kann. Der Export muss in unter 10 Sekunden fertig sein.",
        "good",
        "",
    ),
    (
        "Passwort zurücksetzen per E-Mail",
        "fair",
        "",
    ),
    (
        "Benutzer sollen Berichte nach Abteilung filtern können. Es dürfen nur Berichte "
        "der eigenen Abteilung sichtbar sein.",
        "good",
        "no form in German states who",
    ),
    (
        "Beim Speichern soll geprüft werden, ob z. B. die IBAN gültig ist. Fehlerhafte "
        "Eingaben müssen rot markiert werden.",
        "good",
        "",
    ),
    (
        "Wir brauchen eine Übersicht aller Wartungstermine für die nächsten 30 Tage.",
        "fair",
        "",
    ),
    (
        "En tant que responsable de projet, je veux exporter la liste filtrée afin que "
        "mon équipe puisse planifier sans compte.",
        "good",
        "",
    ),
    (
        "Exporter les histoires en CSV",
        "fair",
        "",
    ),
    (
        "Le client doit pouvoir annuler sa commande pendant 24 heures. Après ce délai, "
        "le bouton disparaît.",
        "fair",
        "the second sentence is a condition without a sign of one",
    ),
    (
        "在庫が5個以下の商品を一覧で表示したい。担当者に毎朝メールで通知する必要がある。",
        "good",
        "",
    ),
    (
        "パスワードをメールで再設定できるようにする",
        "fair",
        "",
    ),
    (
        "Exportar la lista de pedidos a Excel",
        "fair",
        "",
    ),
    (
        "Экспорт отчётов в PDF",
        "fair",
        "",
    ),
    (
        "👩‍👩‍👧 family accounts: one payer, up to 6 members 👍🏽",
        "fair",
        "",
    ),
    (
        "asdf",
        "good",
        "nothing is pretended",
    ),
    (
        "???",
        "good",
        "nothing is pretended",
    ),
    (
        "Make it better, faster and more modern, etc.",
        "good",
        "the review finds what is vague",
    ),
]


def page() -> str:
    """
    Return the page as it must be.
    """
    counts = Counter(verdict for _, verdict, _ in EXAMPLES)
    totals = ", ".join(f"{counts[verdict]} are {verdict}" for verdict in ("good", "fair", "weak"))
    return _HEAD.format(totals=f"Of the 60, {totals}") + "".join(_rows())


def _rows() -> Iterator[str]:
    for idea, verdict, remark in EXAMPLES:
        story = generate_story({"idea": idea})
        review = analyze_invest({"story": story})
        cells = [
            [line or " " for line in idea.split("\n")],
            [
                f"*title* {_plain(story['title'])}",
                f"*asA* {_plain(story['asA'])}",
                f"*iWant* {_plain(story['iWant'])}",
                f"*soThat* {_plain(story['soThat'])}",
                f"*storyPoint* {story['storyPoint']}",
                *(f"*criterion* {_plain(text)}" for text in story["acceptanceCriteria"]),
            ],
            [
                ", ".join(warning["criterion"] for warning in review["warnings"]) or "none",
                str(review.get("score", "no score")),
            ],
            [verdict + (f": {remark}" if remark else "")],
        ]
        cells[0] = [_plain(line) for line in cells[0]]
        for number, lines in enumerate(cells):
            for position, line in enumerate(lines):
                lead = "     " if number or position else "   * "
                mark = "- " if position == 0 else "  "
                yield f"{lead}{mark}| {line}".rstrip() + "\n"


def _plain(text: str) -> str:
    """
    Return `text` without markup of reStructuredText.
    """
    return re.sub(r"([\\*`|_])", r"\\\1", text)


def main() -> None:
    """
    Write the page.
    """
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
