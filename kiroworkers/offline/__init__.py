"""
The built-in agent: a program that answers by rules where no agent is installed.

`rules.RULES` are pure functions from a request to an answer; `__main__` is the
interactive program around them.  Nothing here knows the server.
"""
