"""
Run a server on real terminals while everything goes wrong at once.

``python -m bench.chaos`` runs `twistd` with sessions on PTYs and over ACP.  Clients send
requests of all kinds, read their responses or do not, and disconnect.  Sessions die, hang,
flood and leave helpers behind.  From outside, processes are killed, the wall clock is set,
the disk is full, the jobs file is locked, the server reloads, and once it is killed and
started again.  What each request does follows from a seed and its number; when it
happens does not.

Counted is what must not happen: see `ledger.FORBIDDEN`.
"""
