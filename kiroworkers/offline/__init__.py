"""
Answer by a few rules where no agent is installed.

`replies` turns a prompt into an answer in the words of the request, or into a sample that fits
the schema; `__main__` is the interactive program around it.  Nothing in this package knows the
server, and nothing in it pretends to understand a text.
"""
