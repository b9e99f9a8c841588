"""
Claim jobs from the shared database, and tell it what became of them.

Each function executes one SQL function of the schema in one statement, which commits by itself;
`migrations/0001_initial.sql` says what each of them does.  All of them block.  They raise
`psycopg.Error` if the database cannot be used, and may then have been executed all the same.

A claim is identified by the server's number, the job's id, and the number of the job's claims.
What a server stores about a job applies only while its claim is valid: until the job has ended,
was claimed again or was released.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import evolve
from psycopg import Connection
from psycopg.types.json import Jsonb

from kiroworkers.cluster.claimed_job import ClaimedJob
from kiroworkers.cluster.rows import (
    COLUMNS_WITHOUT_RESULT,
    JOB_COLUMNS,
    decode_text,
    encode_text,
    job_from_row,
)
from kiroworkers.jobs.job import Job, JobAnswer, JobFailure, JobState
from kiroworkers.jobs.json_rows import result_to_json

_CLAIM = (
    f"SELECT claims, failures, watched, {JOB_COLUMNS} FROM claim_jobs(%s, %s::text[], %s::int[])"
).encode()

_PAYLOADS = b"""
    SELECT id, payload FROM jobs
    WHERE id = ANY (%s::text[]) AND state = 'running' AND owner = %s
"""

_END = f"SELECT {COLUMNS_WITHOUT_RESULT} FROM end_job(%s, %s, %s, %s, %s, %s)".encode()

_CANCEL = f"SELECT {COLUMNS_WITHOUT_RESULT} FROM cancel_job(%s, %s, %s)".encode()

#: The place of the payload in a row of `_CLAIM`, and of the id.
_PAYLOAD, _ID = (3 + JOB_COLUMNS.split(", ").index(name) for name in ("payload", "id"))


def claim_jobs(
    connection: Connection[Any], server: int, wanted: Mapping[str, int]
) -> list[ClaimedJob]:
    """
    Claim the next jobs in fair order, and return them.

    The list is empty if the server's lease has passed: it must renew its lease first.

    Args:
        connection: The database.
        server: The number of this server.
        wanted: The number of jobs to claim at most, by agent.
    """
    agents = [encode_text(agent) for agent in wanted]
    rows = connection.execute(_CLAIM, (server, agents, [*wanted.values()])).fetchall()
    large = [row[_ID] for row in rows if row[_PAYLOAD] is None]
    if large:
        # Only read, while nothing is locked, what may not fit into the buffers of a socket.
        payloads = dict(connection.execute(_PAYLOADS, (large, server)).fetchall())
        rows = [
            (*row[:_PAYLOAD], payloads.get(row[_ID]), *row[_PAYLOAD + 1 :])
            if row[_PAYLOAD] is None
            else row
            for row in rows
        ]
    return [
        ClaimedJob(job_from_row(columns), claims, failures, watched)
        for claims, failures, watched, *columns in rows
        # Without a payload, the job was cancelled meanwhile.
        if columns[_PAYLOAD - 3] is not None
    ]


def release_job(
    connection: Connection[Any],
    server: int,
    id: str,
    claims: int,
    attempts: int,
    failures: int,
    *,
    first: bool,
) -> None:
    """
    Put a claimed job back into its queue; this changes nothing if the claim is not valid.

    Args:
        connection: The database.
        server: The number of this server.
        id: The job's id.
        claims: The number of the claim.
        attempts: The number of workers that were asked.
        failures: How often its turn failed in a way that may be the job's fault.
        first: Whether it is the next job of its client; otherwise it waits as if it came now.
    """
    values = (server, encode_text(id), claims, attempts, failures, first)
    connection.execute("SELECT release_job(%s, %s, %s, %s, %s, %s)", values)


def end_job(
    connection: Connection[Any],
    server: int,
    id: str,
    claims: int,
    attempts: int,
    state: JobState,
    result: JobAnswer | JobFailure,
) -> Job | None:
    """
    Store the end of a claimed job, and return it.

    The result is kept as well if the lease has passed and nobody has claimed the job since.  It
    can be stored twice, in case the first answer was lost.

    Args:
        connection: The database.
        server: The number of this server, which calls the job's webhook.
        id: The job's id.
        claims: The number of the claim.
        attempts: The number of workers that were asked.
        state: The final state.
        result: The answer, or the failure.

    Returns:
        The job without its payload, or None if the claim is not valid.
    """
    values = (server, encode_text(id), claims, attempts, state, result_to_json(result))
    row = connection.execute(_END, values).fetchone()
    return None if row is None else evolve(job_from_row(row), result=result)


def cancel_job(connection: Connection[Any], id: str, server: int, now: float) -> Job | None:
    """
    Cancel an unfinished job, whoever runs it, and return it without its payload.

    Args:
        connection: The database.
        id: The job's id.
        server: The number of this server, which calls the job's webhook.
        now: The current time in seconds since the epoch.

    Returns:
        The job, or None if it is not unfinished.
    """
    row = connection.execute(_CANCEL, (server, encode_text(id), now)).fetchone()
    return None if row is None else job_from_row(row)


def register_server(
    connection: Connection[Any],
    seconds: float,
    name: str,
    version: str,
    address: str,
    account: str,
    state: str,
    agents: Mapping[str, Any],
) -> int:
    """
    Add this server to those that run, with a lease of some seconds, and return its number.
    """
    values = (seconds, name, version, address, account, state, Jsonb(dict(agents)))
    row = connection.execute(
        "SELECT register_server(%s, %s, %s, %s, %s, %s, %s)", values
    ).fetchone()
    assert row is not None, "the function returns a number"
    return int(row[0])


def heartbeat(
    connection: Connection[Any],
    server: int,
    seconds: float,
    state: str,
    agents: Mapping[str, Any],
    held: Mapping[str, int],
    complete: bool,
) -> list[str] | None:
    """
    Renew the lease of this server, and take back what was swept but not claimed since.

    Args:
        connection: The database.
        server: The number of this server.
        seconds: For how long the lease lasts from now.
        state: The state of the server.
        agents: What to tell about its agents, by name.
        held: The numbers of the claims that the server holds, by the ids of their jobs; also those
            of jobs whose end is still to be stored.
        complete: Whether `held` has all of them, because no claim is being made.  Then other jobs
            of this server are queued again: the answer to their claim was lost.

    Returns:
        The ids of jobs in `held` whose claims are not valid any more; None if the server is not
        known any more and must register again.
    """
    ids = [encode_text(id) for id in held]
    values = (server, seconds, state, Jsonb(dict(agents)), ids, [*held.values()], complete)
    row = connection.execute(
        "SELECT heartbeat(%s, %s, %s, %s, %s::text[], %s::bigint[], %s)", values
    ).fetchone()
    assert row is not None, "the function returns a value"
    return None if row[0] is None else [decode_text(id) for id in row[0]]


def leave_server(connection: Connection[Any], server: int) -> None:
    """
    End the lease of this server, so that others take over its jobs and webhooks at once.
    """
    connection.execute("SELECT leave_server(%s)", (server,))


def sweep(connection: Connection[Any], server: int) -> tuple[int, int]:
    """
    Queue the jobs of servers whose lease has passed, and take over their webhooks.

    Call this only if the connection was unbroken for as long as a lease lasts: after an
    interruption nobody has renewed a lease.

    Args:
        connection: The database.
        server: The number of this server, which takes over the webhooks.

    Returns:
        The number of jobs, and the number of webhooks.
    """
    row = connection.execute("SELECT jobs, webhooks FROM sweep(%s)", (server,)).fetchone()
    assert row is not None, "the function returns one row"
    return int(row[0]), int(row[1])
