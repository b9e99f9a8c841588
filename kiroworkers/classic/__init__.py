"""
Imitate Kiro's classic interface: a line editor, a prompt, and answers as Kiro prints them.

The offline agent has this interface, and so have `kiroworkers.testing` and the stand-ins of the
tests.  It runs in agents and in tests, never in a server.
"""
