"""
Make the `Calls` of both clients from the arguments of their users.
"""

from __future__ import annotations

import random
import time
import uuid
from typing import Final

from kiroworkers_client.calls import Calls
from kiroworkers_client.retries import RetryPolicy
from kiroworkers_client.sending import Sender

#: The seconds that a request to a task may take: the server's own --request-timeout.
TIMEOUT: Final = 120.0

#: Whether and how failed requests are sent again.
RETRY: Final = RetryPolicy()


def new_calls(
    base_url: str, token: str | None, timeout: float | None, retry: RetryPolicy | None
) -> Calls:
    """
    Return the calls to a server, with the system's clock and randomness.

    Raises:
        ValueError: If an argument is invalid.
    """
    sender = Sender(base_url, token, retry, time.monotonic, random.random)
    return Calls(sender, timeout, lambda: uuid.uuid4().hex)
