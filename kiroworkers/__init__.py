"""
Keep a pool of warm Kiro CLI sessions and serve them over HTTP as typed JSON.

A request goes through these packages, each of which knows only those after it::

    web            routes, authorization and limits of the HTTP API
    jobs           asynchronous requests, idempotency and webhooks
    execution      one request: its prompt, its attempts, its validated answer
    tasks, chat    what to ask: prompts, and the schemas of answers
    pool           the dispatcher, the queue and the workers
    session        one agent's process, from its start through its turns to its end
    conversations  what an agent's output means: bytes to events

`workspaces` prepares the folders that sessions run in, and `process` starts the agents
and ends them.  `tap` reads the command line, `server` and `assembly` put everything
together, and `settings` defines the options.  `client` and `cli` are for the other side
of the connection.  `offline` is an agent of its own, for machines without Kiro, with Kiro's
interface from `classic`.
"""

__version__ = "0.1.0"
