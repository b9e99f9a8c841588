"""
Run a server of which nobody takes note, to compare others with it.

``python -m bench.unobserved PARTS ...`` takes the arguments of twistd after `PARTS`: names of what
observes requests and sessions all the same, with commas between them.  `terminals` is what viewers
of terminals are shown.  Without it, there are no logs, no metrics and no history.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from unittest.mock import patch

from twisted.scripts import twistd

from kiroworkers import server
from kiroworkers.request_record import RequestRecord
from kiroworkers.telemetry.live_terminals import LiveTerminals
from kiroworkers.telemetry.observers import ObserveSession, observe_all
from kiroworkers.web.recorded_request import AccessLog


def _terminals_only(factories: Sequence[ObserveSession]) -> ObserveSession:
    """
    Return what observes sessions, without all of `factories` but the live terminals.
    """

    def is_terminals(factory: ObserveSession) -> bool:
        return isinstance(getattr(factory, "__self__", None), LiveTerminals)

    # The server adds to the factories until it starts.
    return lambda info: observe_all([*filter(is_terminals, factories)])(info)


def main() -> None:
    """
    Serve until killed.
    """
    parts = sys.argv.pop(1).split(",")
    observe = _terminals_only if "terminals" in parts else lambda factories: lambda info: None
    with (
        patch.object(server, "observe_all", observe),
        patch.object(RequestRecord, "report", lambda *arguments, **data: None),
        patch.object(AccessLog, "write", lambda log, record: None),
    ):
        twistd.run()


if __name__ == "__main__":
    main()
