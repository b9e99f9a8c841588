"""
Run calls that may take long in other processes, with limits on their time and memory.

Checking an answer takes microseconds, unless the answer is long or the schema is a
client's own, which can be made to take hours or gigabytes.  The event loop must not wait for
that, so such a `Call` is given to a `ProcessPool`.  Its helper processes are not agents.
"""
