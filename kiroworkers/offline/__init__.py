"""
Answer by fixed rules where no agent is installed.

`rules.RULES` holds pure functions from a request to an answer; `__main__` is the
interactive program around them.  Nothing in this package knows the server.
"""
