"""
Recognize the clients of Anthropic's API, which send the version of the API that they expect.
"""

from __future__ import annotations

from twisted.web.iweb import IRequest

from kiroworkers.errors import InvalidInput
from kiroworkers.web.recorded_request import record_of

#: The versions that are accepted.  They differ in what they refuse; what is supported here is the
#: same in both.
VERSIONS = ("2023-06-01", "2026-10-21")

_NAME = "anthropic-version"


def names_version(request: IRequest) -> bool:
    """
    Return whether `request` names a version of Anthropic's API, known or not.
    """
    return request.getHeader(_NAME.encode()) is not None


def check_version(request: IRequest) -> None:
    """
    Check the version that `request` names, and set the identifier that its response has.

    Raises:
        InvalidInput: It names none, or one that is unknown.
    """
    request.setHeader(b"request-id", record_of(request).id.encode())
    version = (request.getHeader(_NAME.encode()) or b"").decode("latin-1").strip()
    if version not in VERSIONS:
        known = " or ".join(VERSIONS)
        problem = f"{version[:40]!r} is not a known version" if version else "the header is missing"
        raise InvalidInput(_NAME, f"{_NAME}: {problem}; send {known}")
