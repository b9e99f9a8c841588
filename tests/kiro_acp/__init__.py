"""
A stand-in for ``kiro-cli acp``, with the engines v2 and v3, and with faults on demand.

It sends what captures of the real program hold: notifications around each session and turn,
answers in pieces of 1 to 40 characters, several messages in one write and messages cut in
two.  As the real ``kiro-cli`` does, it forks the process that speaks.  The prompt may have
the faults of `tests.fakeacp` and these::

    error=NAME   fail as NAME in `tests.kiro_acp.failures` says
    bare=NAME    v2: name the failure only in error/rate_limit, before a bare error
    stall=N      report N times that the stream stalls
    retry=N      v2: report N retries
    fallback     v2: another model answers; fallback=none: no other model is there
    compact      summarize the conversation first; compact=dropped: without a summary
    compact=failed       and compact=silent (without a reason): then nothing follows
    discard      v2: take back a draft
    again        v3: send the beginning twice, with the same identifier
    interrupted  v2: interrupt the tools of the turn, and say nothing more
    quoted       v2: quote that sentence in the answer
    filtered     report a refusal apart from the response; filtered=error: and fail
    subagent=K   v2: a tool of the kind K runs in a session of the agent's own
    oauth        wait for the login of an MCP server
    question     v3: ask the user a question that is no permission
    more         v3: send more text after the end of the turn and before the response
    wake         v3: begin a turn of its own after the response
    thought      v3: send a thought first
    display      v3: report an error of an MCP server in a healthy turn
    whose        say in the answer which model gave it

``FAKEKIRO`` may have the faults of the whole session that `tests.fakeacp` has, and these::

    new=S        make a session in S seconds       fork=no   do not fork
    clear=unproven   v2: do not clear, and report success without saying of what
    clear=late, clear=early  v2: when clear/status comes; also clear=refused, clear=none
    used=P       report that P percent of the context are used
    engines=v3   have that engine only
    tidy         send each message in one write

For ``session/set_model``, ``session/set_config_option`` and ``_kiro.dev/commands/execute``,
the log of ``FAKEKIRO_LOG`` also has what they ask for.  Files of sessions are written below
``KIRO_HOME`` if that is set, as they are by Kiro.
"""
