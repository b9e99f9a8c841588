"""
Check the calls by which a server reports that a job has ended.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from hashlib import sha256

from kiroworkers_client.base_errors import InvalidResponseError
from kiroworkers_client.jobs import Job, job_from
from kiroworkers_client.responses import json_object

_HEADER = "x-kiroworkers-signature"


class InvalidSignature(ValueError):
    """
    Raised when a call does not come from a server that has the secret.
    """


def verify_callback(headers: Mapping[str, str], body: bytes, secret: str | bytes) -> Job:
    """
    Return the job that a call reports, after checking the call's signature.

    A call may arrive twice; `Job.id` tells whether it did.

    Args:
        headers: The headers of the request; the case of their names does not matter.
        body: The body of the request, exactly as it was received.
        secret: The content of the server's ``--callback-secret-file``; white space around it
            does not count.

    Raises:
        InvalidSignature: The signature is missing or wrong.  Answer 401 or 403.
        ValueError: The secret is empty, or the call describes no job.
    """
    key = (secret.encode() if isinstance(secret, str) else secret).strip()
    if not key:
        raise ValueError("the secret is empty")
    received = next((value for name, value in headers.items() if name.lower() == _HEADER), None)
    if received is None:
        raise InvalidSignature("the request has no header X-Kiroworkers-Signature")
    expected = "sha256=" + hmac.new(key, body, sha256).hexdigest()
    # As bytes, because strings that are not ASCII cannot be compared.
    if not hmac.compare_digest(expected.encode(), received.strip().encode("utf-8", "replace")):
        raise InvalidSignature("the signature does not match the body")
    try:
        return job_from(json_object(body) or {})
    except InvalidResponseError as error:
        raise ValueError(str(error)) from None
