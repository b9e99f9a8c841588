"""
Define how to be notified of changes that other servers make.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Topics(Protocol):
    """
    Pass notifications on to those who subscribed to their topics; see `Notifications`.
    """

    def subscribe(self, topic: str, on_notification: Callable[[str], None], /) -> None:
        """
        Call `on_notification` with the argument of each notification of `topic`.
        """

    def on_connected(self, call: Callable[[], None], /) -> None:
        """
        Call `call` whenever a connection was made: notifications were lost before.
        """
