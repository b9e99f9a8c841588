"""
Which of the server's variables an agent gets.

A server's environment may hold the secrets of several agents, of a database, of
whatever else its operator runs.  An agent, and each tool that it starts, gets a
few that are no secret, and those that its dialect or the operator names::

    >>> inherited = {"HOME": "/h", "KIRO_API_KEY": "k", "OPENAI_API_KEY": "o"}
    >>> sorted(passed(inherited, ["KIRO_*"]))
    ['HOME', 'KIRO_API_KEY']
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase

#: What every agent gets.
BASELINE = (
    # Where programs and their parts are.
    *("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "NODE_PATH"),
    # Whose they are, and where their files go.
    *("HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "XDG_*"),
    # In which language and at what time they speak.
    *("LANG", "LANGUAGE", "LC_*", "TZ"),
    # How the network is reached.
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    # Whom to trust there.
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"),
    "NODE_EXTRA_CA_CERTS",
)

#: Of the terminal and the folder that the server was started in; a session has
#: its own.
_OF_ELSEWHERE = {"COLUMNS", "LINES", "TMUX", "TMUX_PANE", "STY", "PWD", "OLDPWD"}
_OF_ELSEWHERE |= {"TERM_PROGRAM", "TERM_PROGRAM_VERSION"}

#: The server's own knobs, and those of its variables that its own agent reads.
_SERVER = "KIROWORKERS_"
_OFFLINE = "KIROWORKERS_OFFLINE_"


#: A pattern for whatever is nobody else's.
EVERYTHING = "*"


def passed(
    inherited: Mapping[str, str], patterns: Iterable[str], of_others: Collection[str] = ()
) -> dict[str, str]:
    """
    Of the variables `inherited`, those of the baseline, and those whose name
    one of the shell `patterns` matches.  The server's own are in no pattern, and
    what matches `of_others` is not in `EVERYTHING`.
    """
    wanted = (*BASELINE, *patterns)
    return {name: value for name, value in inherited.items() if _passes(name, wanted, of_others)}


def _passes(name: str, patterns: Iterable[str], of_others: Iterable[str]) -> bool:
    if name in _OF_ELSEWHERE:
        return False
    if name.startswith(_SERVER):
        patterns = [each for each in patterns if each.startswith(_OFFLINE)]
    elif any(fnmatchcase(name, each) for each in of_others):
        patterns = [each for each in patterns if each != EVERYTHING]
    return any(fnmatchcase(name, each) for each in patterns)
