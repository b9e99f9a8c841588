"""
Choose the environment variables that an agent gets from the server.

A server's environment may hold the secrets of several agents, of a database, and of
whatever else its operator runs.  An agent, and each tool that it starts, gets a few
variables that are not secret, and those that its dialect or the operator names::

    >>> inherited = {"HOME": "/h", "KIRO_API_KEY": "k", "OPENAI_API_KEY": "o"}
    >>> sorted(filter_environment(inherited, ["KIRO_*"]))
    ['HOME', 'KIRO_API_KEY']
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase

#: The variables that every agent gets.
BASELINE = (
    # Where programs and their parts are.
    *("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "NODE_PATH"),
    # The user, and where the user's files are.
    *("HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "XDG_*"),
    # Language and time zone.
    *("LANG", "LANGUAGE", "LC_*", "TZ"),
    # How to reach the network.
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    # The certificates to trust there.
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"),
    "NODE_EXTRA_CA_CERTS",
)

#: Variables that describe the terminal and the folder in which the server was started;
#: a session has its own.
_TERMINAL_VARIABLES = {"COLUMNS", "LINES", "TMUX", "TMUX_PANE", "STY", "PWD", "OLDPWD"}
_TERMINAL_VARIABLES |= {"TERM_PROGRAM", "TERM_PROGRAM_VERSION"}

#: Variables with which systemd addresses the server itself.  An agent that had them could report
#: that the server is ready or alive.
_SERVICE_VARIABLES = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}
_SERVICE_VARIABLES |= {"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"}

#: The server's own options, and those of them that its offline agent reads.
_SERVER_PREFIX = "KIROWORKERS_"
_OFFLINE_PREFIX = "KIROWORKERS_OFFLINE_"


#: The pattern for every variable that is not another agent's own.
EVERYTHING = "*"


def filter_environment(
    inherited: Mapping[str, str],
    patterns: Iterable[str],
    foreign_patterns: Collection[str] = (),
) -> dict[str, str]:
    """
    Return the variables of `inherited` that an agent may have.

    These are the variables of `BASELINE` and those that one of `patterns` matches.  The
    server's own options, and what systemd tells the server, match no pattern.

    Args:
        inherited: The server's environment.
        patterns: Names of variables, or shell patterns for names.
        foreign_patterns: Names and patterns of the variables that belong to other
            agents; `EVERYTHING` does not match these.
    """
    wanted = (*BASELINE, *patterns)
    return {
        name: value for name, value in inherited.items() if _passes(name, wanted, foreign_patterns)
    }


def _passes(name: str, patterns: Iterable[str], foreign_patterns: Iterable[str]) -> bool:
    if name in _TERMINAL_VARIABLES or name in _SERVICE_VARIABLES:
        return False
    if name.startswith(_SERVER_PREFIX):
        patterns = [pattern for pattern in patterns if pattern.startswith(_OFFLINE_PREFIX)]
    elif any(fnmatchcase(name, pattern) for pattern in foreign_patterns):
        patterns = [pattern for pattern in patterns if pattern != EVERYTHING]
    return any(fnmatchcase(name, pattern) for pattern in patterns)
