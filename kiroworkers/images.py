"""
Check the images that a client sends in a conversation.

An image stays the base64 text that came in the request: agents take the same form, so it is
neither decoded nor encoded again.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from string import ascii_letters, digits

from attrs import field, frozen

from kiroworkers.errors import InvalidInput

#: The maximum number of images in one request.
MAX_IMAGES = 100

#: The first bytes of an image of each media type that is accepted.
_SIGNATURES = {
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/gif": re.compile(rb"GIF8[79]a"),
    "image/webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
}

MEDIA_TYPES = tuple(_SIGNATURES)

#: Names that are in use although they are not registered.
_ALIASES = {"image/jpg": "image/jpeg"}

_ALPHABET = (ascii_letters + digits + "+/").encode()

#: What stands for base64 text that an agent has sent.
LEFT_OUT = b"(base64 left out)"

#: The characters that encode as many bytes as the longest signature has.
_SIGNATURE_LENGTH = 16

#: The longest text of a data URL before its data, in characters.
_MAX_PREFIX = 200

_DATA_URL = re.compile(r"data:([^;,]*)(?:;[^;,]*)*;base64\s*", re.IGNORECASE)

#: Base64 in an agent's message: an attribute of a JSON object, or a data URL.  Text that is in a
#: string of JSON has its quotation marks escaped, so it is not found.
_ENCODED = re.compile(
    rb'((?:"(?:data|blob)"\s*+:\s*+"|data:[\w.+/-]{1,100};base64,))[A-Za-z0-9+/]{256,}+={0,2}'
)


@frozen
class Image:
    """
    Represent an image in a request; make it with `image_from_base64` or `image_from_url`.

    Attributes:
        media_type: One of `MEDIA_TYPES`.
        data: The bytes of the image, as base64 text.
        field: The path in the request's body at which it was found, for errors.
    """

    media_type: str
    data: str = field(repr=False)
    field: str = ""

    @property
    def size(self) -> int:
        """
        Return the number of bytes of the image.
        """
        return len(self.data) // 4 * 3 - self.data.count("=", -2)

    def __str__(self) -> str:
        """
        Return the description that stands for the image where its bytes must not.
        """
        return f"{self.media_type}, {self.size} bytes"


def image_from_base64(media_type: object, data: object, field: str) -> Image:
    """
    Return the image that a request has at `field`, after checking it.

    It takes one or two milliseconds for each megabyte.

    Args:
        media_type: The value that the request gives as its media type.
        data: The value that the request gives as its base64 text.
        field: The path of the image in the request's body.

    Raises:
        InvalidInput: The media type is not accepted, or the data is not base64 of such an image.
    """
    name = media_type.lower() if isinstance(media_type, str) else ""
    name = _ALIASES.get(name, name)
    signature = _SIGNATURES.get(name)
    if signature is None:
        accepted = ", ".join(MEDIA_TYPES)
        raise InvalidInput(field, f"{field}: the media type must be one of {accepted}")
    if not isinstance(data, str) or not data:
        raise InvalidInput(field, f"{field}: the image is empty; it must be base64 text")
    if not _is_base64(data):
        raise InvalidInput(field, f"{field}: the image is not valid base64")
    if not signature.match(b64decode(data[:_SIGNATURE_LENGTH])):
        raise InvalidInput(field, f"{field}: the data is not an image of the type {name}")
    return Image(name, data, field)


def image_from_url(url: object, field: str) -> Image:
    """
    Return the image in the data URL that a request has at `field`, after checking it.

    Any other URL is refused, because the server would have to fetch it.

    Args:
        url: The value that the request gives as the image's URL.
        field: The path of the URL in the request's body.

    Raises:
        InvalidInput: The value is not a data URL, or the image in it is not accepted.
    """
    start, comma, data = url.partition(",") if isinstance(url, str) else ("", "", "")
    if not start[:5].lower() == "data:":
        raise InvalidInput(
            field,
            f"{field} must be a data URL, such as data:image/png;base64,…: "
            "the server fetches no images",
        )
    match = _DATA_URL.fullmatch(start) if comma and len(start) <= _MAX_PREFIX else None
    if match is None:
        raise InvalidInput(field, f"{field} must have the form data:MEDIA-TYPE;base64,DATA")
    return image_from_base64(match[1].strip(), data, field)


def check_accepted(images: Sequence[Image], accepted: bool, agent: str) -> None:
    """
    Refuse images that an agent cannot take.

    Args:
        images: The images of a request.
        accepted: Whether the agent accepts images.
        agent: The agent's name.

    Raises:
        InvalidInput: There are images, and the agent does not accept them.
    """
    if images and not accepted:
        field = images[0].field
        raise InvalidInput(field, f"{field}: agent {agent} does not accept images")


def without_images(data: bytes, images: Sequence[Image]) -> bytes:
    """
    Return the JSON in `data` with a description instead of the base64 text of each image.

    Args:
        data: What is sent to an agent.
        images: The images that it may contain, each as a whole string, in their order.
    """
    pieces, position = [], 0
    for image in images:
        text = f'"{image.data}"'.encode()
        start = data.find(text, position)
        if start >= 0:
            pieces += [data[position:start], f'"({image})"'.encode()]
            position = start + len(text)
    return b"".join((*pieces, data[position:])) if pieces else data


def without_base64(message: bytes) -> bytes:
    """
    Return the message of an agent, or its beginning, with `LEFT_OUT` for each long base64 text.
    """
    return _ENCODED.sub(rb"\1" + LEFT_OUT, message)


def after_base64(data: bytes) -> bytes:
    """
    Return what follows the base64 text at the beginning of `data`.
    """
    return data.lstrip(_ALPHABET).lstrip(b"=")


def _is_base64(text: str) -> bool:
    """
    Return whether `text` is the standard encoding of some bytes, with its padding.
    """
    # Much faster than decoding everything.
    if len(text) % 4 or not text.isascii():
        return False
    end = text[-4:]
    if text[:-4].encode().translate(None, _ALPHABET):
        return False
    try:
        # Strict decoders also refuse bits that belong to no byte.
        return b64encode(b64decode(end, validate=True)).decode() == end
    except ValueError:
        return False
