"""
Check that an agent gives exact answers, from fresh conversations, without using tools.

An agent's interface claims this, but reports neither a resumed conversation nor a memory file
nor a text that it altered.  ``kiroworkers prove`` therefore starts a server with the agent and
a model server that sees every prompt, and compares.  `report` has the form of the result.
"""
