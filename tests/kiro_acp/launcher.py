"""
Act as the program ``kiro-cli`` when it is asked to speak ACP.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence

from tests.fakekiro import faults_in, ignore
from tests.kiro_acp.engine import KiroEngine, Options
from tests.kiro_acp.v2 import EngineV2
from tests.kiro_acp.v3 import EngineV3

#: The flags that have a value, each with the version that introduced it.
_FLAGS = {
    "--agent": (1, 26),
    "--agent-engine": (2, 3),
    "--model": (2, 4),
    "--effort": (2, 4),
    "--trust-tools": (2, 4),
    "--auth-method": (2, 4),
}
_ALIASES = {"rust": "v2", "kas": "v3"}
_ENGINES: Mapping[str, type[KiroEngine]] = {"v2": EngineV2, "v3": EngineV3}

_HELP = "Usage: kiro-cli acp [OPTIONS]\n\nOptions:\n"


def main(arguments: Sequence[str], classes: Mapping[str, type[KiroEngine]] = _ENGINES) -> int:
    """
    Act as ``kiro-cli`` with these arguments, and return the exit status.

    Args:
        arguments: The arguments.
        classes: What acts as each engine.
    """
    words = os.environ.get("FAKEKIRO_VERSION", "2.11.0").split(".")
    version = tuple(map(int, words))
    faults = faults_in(os.environ.get("FAKEKIRO", ""))
    engines = faults.get("engines", "v1,v2,v3").split(",")
    if "--help" in arguments:
        print(_HELP + "".join(_help(version, engines)))
        return 0
    values = _values(arguments[1:], version)
    known = {name for name, engine in _ALIASES.items() if engine in engines} | set(engines)
    if values is not None and not known.issuperset({values.get("--agent-engine", engines[-1])}):
        values = None
    if arguments[:1] != ["acp"] or values is None:
        print(f"error: unexpected argument in {list(arguments)}", file=sys.stderr)
        return 2
    login_file = os.environ.get("FAKEKIRO_LOGIN")
    if login_file is not None and not os.path.exists(login_file):
        print("You are not logged in, please log in with kiro-cli login", file=sys.stderr)
        return 1
    if "broken" in faults:
        print("the database of models is locked", file=sys.stderr)
        return 1
    if "stubborn" in faults:
        ignore(signal.SIGTERM, signal.SIGHUP)
    if faults.get("fork") != "no" and (child := os.fork()):
        # Of the two processes only the child ends when its input does.  A signal to this
        # one alone leaves the child behind.
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1
    options = Options(
        version=version,
        agent=values.get("--agent", ""),
        model=values.get("--model", ""),
        effort=values.get("--effort", ""),
        keeps_token=values.get("--auth-method") == "cli",
        trusts="--trust-all-tools" in arguments,
    )
    default = "v3" if version >= (3, 0) or "v2" not in engines else "v2"
    engine = values.get("--agent-engine", default)
    return classes[_ALIASES.get(engine, engine)](faults, options).run()


def _help(version: tuple[int, ...], engines: Sequence[str]) -> Iterator[str]:
    """
    Yield the lines of the help about the flags of a version.
    """
    for flag, since in _FLAGS.items():
        if version >= since:
            value = "|".join(engines) if flag == "--agent-engine" else flag[2:].upper()
            yield f"      {flag} <{value}>\n"


def _values(arguments: Sequence[str], version: tuple[int, ...]) -> dict[str, str] | None:
    """
    Return the value of each flag; None if a version like this does not know them.
    """
    values, rest = {}, list(arguments)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if name == "--trust-all-tools" and not equals:
            continue
        if version < _FLAGS.get(name, (99,)):
            return None
        if not equals:
            if not rest:
                return None
            value = rest.pop(0)
        values[name] = value
    return values
