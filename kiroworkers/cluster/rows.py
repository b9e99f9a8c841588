r"""
Convert jobs and texts between Python and PostgreSQL.

PostgreSQL stores texts in UTF-8, without NUL characters and lone surrogates.  JSON is stored in
ASCII, which has neither.  In every other text that a client may choose, these characters and
the backslash are escaped::

    >>> print(encode_text("C:\\\0"))
    C:\\\u0000
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from kiroworkers.jobs.job import Job, Webhook
from kiroworkers.jobs.json_rows import result_from_json

#: The columns of a row that `job_from_row` reads.
JOB_COLUMNS = (
    "id, client, agent, task, payload, created, priority, timeout, state, attempts, ended, "
    "result, callback, tries, due, model, request_id, traceparent, number"
)

#: Likewise, without the parts that may be large.
COLUMNS_WITHOUT_RESULT = JOB_COLUMNS.replace("payload", "'{}'").replace("result", "NULL")

_FIELDS = JOB_COLUMNS.split(", ")
_ENCODED = ("id", "client", "agent", "task", "model", "request_id", "traceparent")

_UNSTORABLE = re.compile("[\\\\\x00\ud800-\udfff]")
_ESCAPE = re.compile(r"\\(\\|u[0-9a-f]{4})")


def encode_text(text: str) -> str:
    """
    Return `text` as PostgreSQL can store it.
    """
    return _UNSTORABLE.sub(
        lambda found: "\\\\" if found[0] == "\\" else f"\\u{ord(found[0]):04x}", text
    )


def decode_text(text: str) -> str:
    """
    Return the text of which `encode_text` returned `text`.
    """
    return _ESCAPE.sub(lambda found: "\\" if found[1] == "\\" else chr(int(found[1][1:], 16)), text)


def job_from_row(row: Sequence[Any]) -> Job:
    """
    Return the job in a row of `JOB_COLUMNS`.
    """
    fields = dict(zip(_FIELDS, row, strict=True))
    for name in _ENCODED:
        fields[name] = decode_text(fields[name])
    url, tries, due = (fields.pop(name) for name in ("callback", "tries", "due"))
    fields["payload"] = json.loads(fields["payload"])
    if fields["result"] is not None:
        fields["result"] = result_from_json(fields["state"], fields["result"])
    webhook = None if url is None else Webhook(decode_text(url), tries, due)
    return Job(**fields, callback=webhook)
