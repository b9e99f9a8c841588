"""
Recognize an agent that gives a new session the identifier of an earlier one.

The protocol calls the identifier unique.  Some agents derive it from the working directory, and
then resume the earlier conversation from disk, although they were asked for a new session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b

from kiroworkers.conversations.acp.texts import printable
from kiroworkers.conversations.dialects.dialect import Dialect

#: The maximum number of identifiers that are remembered for an agent.
MAX_KNOWN_SESSIONS = 10_000

#: The length of a digest, in bytes.
_DIGEST_SIZE = 16

#: The beginning of `resumed`, by which ``kiroworkers prove`` recognizes it in a server's reason.
RESUMED = "the agent resumed session"

#: How much of an identifier a message shows, in characters.
_MAX_SHOWN_ID = 60


class KnownSessions:
    """
    Remember the identifiers of an agent's sessions, as digests.

    All conversations with the agent share one object, so two sessions at the same time cannot have
    the same identifier either.  A session counts as soon as the agent has opened it, even if it
    never gets a prompt: the identifier is then known before anything can be remembered under it.
    The identifiers that were seen longest ago are forgotten first.

    Args:
        digests: The digests of the identifiers that are known already, the oldest first.
        on_new: Called with the digest of each new identifier.
        limit: The maximum number of identifiers.
    """

    def __init__(
        self,
        digests: Iterable[str] = (),
        on_new: Callable[[str], object] = lambda digest: None,
        limit: int = MAX_KNOWN_SESSIONS,
    ) -> None:
        self._on_new = on_new
        self._limit = limit
        self._digests: dict[str, None] = {}
        for digest in digests:
            self._keep(digest)

    def __len__(self) -> int:
        return len(self._digests)

    def __iter__(self) -> Iterator[str]:
        return iter(self._digests)

    def add(self, id: str) -> bool:
        """
        Remember the identifier `id` of a session, and return whether it is new.
        """
        digest = digest_of(id)
        known = digest in self._digests
        self._keep(digest)
        if not known:
            self._on_new(digest)
        return not known

    def _keep(self, digest: str) -> None:
        # It becomes the last one even if it is known: the agent may repeat it many times.
        self._digests.pop(digest, None)
        self._digests[digest] = None
        if len(self._digests) > self._limit:
            del self._digests[next(iter(self._digests))]


def digest_of(id: str) -> str:
    """
    Return the digest of an identifier, which may itself contain names of files.
    """
    return blake2b(id.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_SIZE).hexdigest()


def resumed(id: str, remedy: str) -> str:
    """
    Return the description of a session whose identifier was used before.

    Args:
        id: The identifier.
        remedy: What the operator can do, from `remedy_for`.
    """
    return (
        f"{RESUMED} {printable(id, _MAX_SHOWN_ID)}, which another request may have "
        f"used: its answers could reveal that request; {remedy}"
    )


def remedy_for(dialect: Dialect) -> str:
    """
    Return what an operator can do against sessions that are resumed.
    """
    if dialect.isolates_sessions:
        return "use --reset recycle, so that each request gets a process and a folder of its own"
    if dialect.state_dirs:
        return (
            "if the agent keeps its conversations in a folder that [[state]] gives to each "
            "session, set sessions = true there, and run kiroworkers prove"
        )
    return (
        "give each session a state folder of its own ([[state]] in the agent's dialect), or make "
        "the agent start without resuming"
    )
