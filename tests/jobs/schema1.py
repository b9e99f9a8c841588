"""
A database of jobs as servers with version 1 of the schema wrote it.

Nothing here changes: such databases exist.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

_SCHEMA = """
    CREATE TABLE jobs (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        client TEXT NOT NULL,
        agent TEXT NOT NULL,
        task TEXT NOT NULL,
        created REAL NOT NULL,
        priority INTEGER NOT NULL,
        timeout REAL,
        state TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        ended REAL,
        callback TEXT,
        tries INTEGER NOT NULL DEFAULT 0,
        due REAL,
        asked TEXT NOT NULL,
        said TEXT
    );
    CREATE INDEX jobs_unfinished ON jobs (agent, number, state)
        WHERE state IN ('queued', 'running');
    CREATE INDEX jobs_client ON jobs (client, number);
    CREATE INDEX jobs_ended ON jobs (ended) WHERE ended IS NOT NULL AND due IS NULL;
    CREATE INDEX jobs_due ON jobs (due) WHERE due IS NOT NULL;
    CREATE TABLE keys (
        client TEXT NOT NULL,
        task TEXT NOT NULL,
        word TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        job TEXT REFERENCES jobs (id) ON DELETE CASCADE,
        said TEXT,
        kept REAL,
        PRIMARY KEY (client, task, word)
    ) WITHOUT ROWID;
    CREATE INDEX keys_job ON keys (job) WHERE job IS NOT NULL;
    CREATE INDEX keys_kept ON keys (kept) WHERE kept IS NOT NULL;
    PRAGMA user_version = 1;
"""

#: The response of each job that was done or had failed, by the job's id.
_RESPONSES = {
    "done": r'{"status":200,"body":{"title":"An idea \ud800\u00e9","estimate":1.1,'
    r'"big":12345678901234567890,"acceptanceCriteria":[],"error":"no failure","code":null},'
    r'"headers":{}}',
    "unknown_task": r'{"status":404,"body":{"error":"Task '
    "'write-poem'"
    r' not found",'
    r'"code":"unknown_task"},"headers":{}}',
    "invalid_input": r'{"status":400,"body":{"error":"Idea is required","code":"invalid_input",'
    r'"field":"idea"},"headers":{}}',
    "invalid_body": r'{"status":400,"body":{"error":"The body must be an object",'
    r'"code":"invalid_input"},"headers":{}}',
    "prompt_too_long": r'{"status":413,"body":{"error":"The request makes a prompt of 9000 bytes; '
    r"this agent's terminal accepts at most 4096"
    r'","code":"prompt_too_long"},"headers":{}}',
    "no_time_left": r'{"status":503,"body":{"error":"Cannot answer within 2 seconds: an answer is '
    r'expected to take at least 3.5 seconds","code":"no_time_left","retryAfter":4},"headers":{}}',
    "timed_out": r'{"status":504,"body":{"error":"No answer within 1.5 seconds",'
    r'"code":"timed_out"},"headers":{}}',
    "session_lost": r'{"status":502,"body":{"error":"The agent'
    "'"
    r"s session ended before it "
    r'answered, after 2 attempts: it exited with status 1","code":"session_lost"},"headers":{}}',
    "output_too_long": r'{"status":502,"body":{"error":"The agent was stopped: it wrote more than '
    r'1048576 bytes","code":"output_too_long"},"headers":{}}',
    "context_full": r'{"status":502,"body":{"error":"The agent cannot answer this request: '
    r'\ud800\u00e9 is full","code":"context_full"},"headers":{}}',
    "refusal": r'{"status":502,"body":{"error":"The agent cannot answer this request: no",'
    r'"code":"refusal"},"headers":{}}',
    "max_tokens": r'{"status":502,"body":{"error":"The agent cannot answer this request: no",'
    r'"code":"max_tokens"},"headers":{}}',
    "max_turn_requests": r'{"status":502,"body":{"error":"The agent cannot answer this request: '
    r'no","code":"max_turn_requests"},"headers":{}}',
    "cancelled_turn": r'{"status":502,"body":{"error":"The agent cannot answer this request: no",'
    r'"code":"cancelled"},"headers":{}}',
    "agent_error": r'{"status":502,"body":{"error":"The agent cannot answer this request: no",'
    r'"code":"agent_error"},"headers":{}}',
    "approval_denied": r'{"status":502,"body":{"error":"The agent cannot answer this request: rm",'
    r'"code":"approval_denied"},"headers":{}}',
    "answer_unfit": r'{"status":502,"body":{"error":"The agent'
    "'"
    r"s answer does not match the "
    r'schema: title is required","code":"answer_unfit","reasons":["no JSON object",'
    r'"title is required"],"worker":"worker1","request":7},"headers":{}}',
    "unreadable": r'{"status":502,"body":{"error":"The agent'
    "'"
    r"s answer could not be read "
    r'reliably: a line was cut","code":"unreadable","worker":"worker1","request":7},"headers":{}}',
    "unreadable_turn": r'{"status":502,"body":{"error":"The agent'
    "'"
    r"s answer could not be read "
    r'reliably: a line was cut","code":"unreadable"},"headers":{}}',
    "fault": r'{"status":500,"body":{"error":"Internal server error","code":"fault"},'
    r'"headers":{}}',
}

#: What identifies a request for a story with this body: ``{"idea": "An idea"}``.
_FINGERPRINT = "3e1589149154d4bd57b6612413bbea6c06e8dfdffd7126f19066a71bc571c20d"

#: The response to it, which is replayed under the key ``k1``.
_REPLAYED = r'{"status":200,"body":{"title":"x"},"headers":{"Worker":"worker1","Attempts":"1"}}'


def write_database(file: Path, client: str, agent: str, now: float = 1000.25) -> dict[str, Any]:
    """
    Write a database with a job for each way to end, one that is queued and one that runs.

    Args:
        file: The path of the database.
        client: The client that owns everything.
        agent: The agent that the jobs are for.
        now: When everything happened, in seconds since the epoch.

    Returns:
        Each job that has ended, by its id, as ``GET /jobs/<id>`` returned it.
    """
    db = sqlite3.connect(file, isolation_level=None)
    db.executescript(_SCHEMA)
    bodies: dict[str, Any] = {}
    for id in ("queued", "running", "cancelled", *_RESPONSES):
        response = _RESPONSES.get(id)
        state = id if response is None or id == "done" else "failed"
        ended = None if id in ("queued", "running") else now
        db.execute(
            "INSERT INTO jobs (id, client, agent, task, created, priority, state, attempts, "
            "ended, asked, said) VALUES (?, ?, ?, 'generate-story', ?, 5, ?, 1, ?, ?, ?)",
            (id, client, agent, now, state, ended, '{"idea":"An idea"}', response),
        )
        if ended is None:
            continue
        bodies[id] = {
            "id": id,
            "task": "generate-story",
            "agent": agent,
            "state": state,
            "location": f"/jobs/{id}",
            "created": int(now * 1000),
            "ended": int(now * 1000),
            "attempts": 1,
            "model": None,
            "requestId": None,
        }
        if response is not None:
            stored = json.loads(response)
            if state == "done":
                bodies[id]["result"] = stored["body"]
            else:
                bodies[id]["error"] = {"status": stored["status"], **stored["body"]}
    db.execute(
        "INSERT INTO keys (client, task, word, fingerprint, said, kept) "
        "VALUES (?, 'generate-story', 'k1', ?, ?, ?)",
        (client, _FINGERPRINT, _REPLAYED, now),
    )
    db.close()
    return bodies
