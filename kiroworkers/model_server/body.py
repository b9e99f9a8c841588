"""
Decode the body of a request.
"""

from __future__ import annotations

import gzip
import importlib
import io
import json
import zlib
from typing import Any

from kiroworkers.model_server.content import BadRequest, Json

#: The maximum length of a body that arrived compressed, in bytes.
_MAX_LENGTH = 1 << 26

#: The modules that decode zstd: one of Python 3.14, and a package of others.
_ZSTD_MODULES = ("compression.zstd", "zstandard")


def read_body(data: bytes, encoding: str = "") -> Json:
    """
    Return the JSON object in a request's body.

    Args:
        data: The body.
        encoding: The header ``Content-Encoding``; empty if there is none.

    Raises:
        BadRequest: The body is not JSON or not an object, or its encoding is not supported.
    """
    try:
        body = json.loads(_decode(data, encoding.strip().lower()))
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"The body must be JSON: {error}") from None
    if not isinstance(body, dict):
        raise BadRequest("The body must be a JSON object")
    return body


def _decode(data: bytes, encoding: str) -> bytes:
    match encoding:
        case "" | "identity":
            return data
        case "gzip":
            return _read(gzip.open(io.BytesIO(data)), encoding, (OSError, EOFError, zlib.error))
        case "zstd" if (zstd := _zstd()) is not None:
            return _read(zstd.open(io.BytesIO(data), "rb"), encoding, zstd.ZstdError)
    raise BadRequest(f"Content-Encoding {encoding} is not supported", 415)


def _read(file: Any, encoding: str, errors: Any) -> bytes:
    """
    Return all bytes of the decoder `file`.

    Args:
        file: The decoder, a file.
        encoding: The name of the encoding, for the message.
        errors: The types of the decoder's errors.
    """
    try:
        data: bytes = file.read(_MAX_LENGTH + 1)
    except errors as error:
        raise BadRequest(f"The body must be {encoding} data: {error}") from None
    if len(data) > _MAX_LENGTH:
        raise BadRequest(f"The decoded body may have at most {_MAX_LENGTH} bytes", 413)
    return data


def _zstd() -> Any:
    """
    Return a module that decodes zstd, or None.
    """
    for name in _ZSTD_MODULES:
        try:
            return importlib.import_module(name)
        except ImportError:
            pass
    return None
