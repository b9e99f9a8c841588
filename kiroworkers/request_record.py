"""
Define the record of a request: what the log says about it when it has ended.
"""

from __future__ import annotations

from attrs import define


@define(eq=False)
class RequestRecord:
    """
    Collect the facts about one request, or about one job, while it is handled.

    Each module that handles the request fills in what it knows.  What is not known, or does
    not apply, stays None.  All text may come from clients, so it is cleaned where it is printed.

    Attributes:
        host: The address of the client, or ``unix`` for a UNIX domain socket.
        user: The name of the client's token, never the token.
        method: The HTTP method; ``JOB`` for a job.
        path: The path without its query.
        protocol: The version of HTTP.
        referrer: The Referer header without its query.
        user_agent: The User-Agent header.
        task: The name of the task, or ``chat``.
        agent: The name of the agent.
        worker: The name of the last worker that was asked.
        attempts: The number of workers that were asked.
        repairs: The number of times that a worker was asked to correct its answer.
        wait: Seconds for which the request was in the queue.
        turn: Seconds for which workers were occupied by it.
        credits: The credits that its turns used, where the agent says.
        tools_denied: The number of requests to use a tool that were denied in its last turn; None
            if there were none.
        tools_unasked: The number of tools that the agent used without asking in its last turn.
        total: Seconds from the first line of the request to the end of its response; of a job,
            from its start to its end.
        status: The HTTP status that was sent.
        sent: The size of the body that was sent, in bytes.
        code: The code of the failure that the client was told.
        job: The identifier of the job that was created.
        replayed: Whether the response to an earlier request was sent again.
        aborted: Whether the connection was closed before the response was complete.
        ended: When the request ended, in seconds since the epoch; None until then.
    """

    host: str | None = None
    user: str | None = None
    method: str | None = None
    path: str | None = None
    protocol: str | None = None
    referrer: str | None = None
    user_agent: str | None = None
    task: str | None = None
    agent: str | None = None
    worker: str | None = None
    attempts: int | None = None
    repairs: int = 0
    wait: float | None = None
    turn: float | None = None
    credits: float | None = None
    tools_denied: int | None = None
    tools_unasked: int | None = None
    total: float | None = None
    status: int | None = None
    sent: int | None = None
    code: str | None = None
    job: str | None = None
    replayed: bool = False
    aborted: bool = False
    ended: float | None = None
