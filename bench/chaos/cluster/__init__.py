"""
Run three servers as one while everything around them fails.

``python -m bench.chaos.cluster`` starts PostgreSQL, three servers and HAProxy on loopback.
Clients create jobs and send live requests through HAProxy.  Meanwhile servers are killed,
stopped, cut off from the database and replaced, PostgreSQL is restarted, made read-only and
taken away, and HAProxy is reloaded.  The agents write down every prompt.

Counted is what must not happen: see `ledger.FORBIDDEN`.  Each prompt that was asked again is
counted as well, by the fault that explains it.
"""
