"""
Wait for what other servers do with idempotency keys.
"""

from __future__ import annotations

from hashlib import sha256

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from kiroworkers.cluster.rows import encode_text
from kiroworkers.cluster.topics import Topics
from kiroworkers.jobs.stored_response import IdempotencyKey


class PostgresKeyChanges:
    """
    Tell of the idempotency keys of other servers; this is a `KeyChanges`.

    Args:
        clock: Schedules calls.
        notifications: Notifies of keys that have a response or are free.
        interval: Seconds after which a key is looked at without a notification: the lease of
            the server that executes the request may have passed.
    """

    def __init__(self, clock: IReactorTime, notifications: Topics, interval: float) -> None:
        self._clock = clock
        self._interval = interval
        self._waiting: dict[str, list[Deferred[None]]] = {}
        notifications.subscribe("key", self._on_change)
        notifications.on_connected(self._on_connected)

    def next(self, key: IdempotencyKey) -> Deferred[None]:
        """
        Return a Deferred that fires when `key` may have changed; see `KeyChanges.next`.
        """
        digest = key_digest(key)
        changed: Deferred[None] = Deferred(lambda _: self._remove(digest, changed))
        timer = self._clock.callLater(self._interval, self._fire, digest, changed)
        self._waiting.setdefault(digest, []).append(changed)

        def stop_timer(result: object) -> object:
            if timer.active():
                timer.cancel()
            return result

        changed.addBoth(stop_timer)
        return changed

    def _on_change(self, digest: str) -> None:
        for changed in self._waiting.pop(digest, ()):
            changed.callback(None)

    def _on_connected(self) -> None:
        for digest in [*self._waiting]:
            self._on_change(digest)

    def _fire(self, digest: str, changed: Deferred[None]) -> None:
        self._remove(digest, changed)
        changed.callback(None)

    def _remove(self, digest: str, changed: Deferred[None]) -> None:
        waiting = self._waiting[digest]
        waiting.remove(changed)
        if not waiting:
            del self._waiting[digest]


def key_digest(key: IdempotencyKey) -> str:
    """
    Return what names `key` in notifications, as the database computes it.
    """
    texts = map(encode_text, (key.client, key.task, key.key))
    return sha256("\n".join(texts).encode()).hexdigest()
