"""
Define the options of commands that send requests to a running server.
"""

from __future__ import annotations

import argparse
import math

from kiroworkers.settings import inherited_environment

_DEFAULT_URL = "http://127.0.0.1:8080"


def add_server_options(parser: argparse.ArgumentParser) -> None:
    """
    Add the options for the server's address, the token, and the terms of each request.
    """
    parser.add_argument(
        "--url", help=f"address of the server [default: KIROWORKERS_URL, or {_DEFAULT_URL}]"
    )
    parser.add_argument("--token-file", metavar="FILE", help="file with the token to send")
    parser.add_argument(
        "--agent", help="agent that answers [default: the task's, or the server's first]"
    )
    parser.add_argument(
        "--model",
        help="model of the agent that answers, among the server's --models "
        "[default: the task's, or the agent's own]",
    )
    parser.add_argument(
        "--priority", type=int, choices=range(10), metavar="0-9", help="9 is the most urgent"
    )
    parser.add_argument(
        "--timeout", type=seconds, metavar="S", help="longest wait for an answer (seconds)"
    )


def server_address(options: argparse.Namespace) -> str:
    """
    Return the address of the server, from the command line or else from the environment.
    """
    address: str = options.url or inherited_environment().get("KIROWORKERS_URL") or _DEFAULT_URL
    return address


def seconds(text: str) -> float:
    """
    Return the positive number of seconds in the value of an option.

    Raises:
        ValueError: It is something else.
    """
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError
    return number
