An agent that says why it cannot answer (not logged in, login expired, throttled, out of credits, no network, conversation too large, model gone) gives a named error instead of ``answer_unfit``, and the start menu of Kiro 2.28 and 2.29 gets its safe choice.

Dialects, the descriptions of agents' terminals, can be files of the user's (``--agent ./mine.toml``), and ``--agent q`` drives Amazon Q Developer CLI. ``python -m kiroworkers.dialect record`` keeps what a terminal says, and ``check`` shows what a dialect reads from it.
