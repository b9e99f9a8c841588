"""
Number the images of a conversation.
"""

from __future__ import annotations

from attrs import define, field

from kiroworkers.errors import InvalidInput
from kiroworkers.images import MAX_IMAGES, Image


@define
class ImageList:
    """
    Collect the images of a conversation in their order.
    """

    _images: list[Image] = field(factory=list)

    def add(self, image: Image) -> str:
        """
        Add `image`, and return the text that stands for it in its message.

        Raises:
            InvalidInput: There are too many images.
        """
        if len(self._images) == MAX_IMAGES:
            raise InvalidInput(
                image.field, f"{image.field}: a request may have at most {MAX_IMAGES} images"
            )
        self._images.append(image)
        return f"[image {len(self._images)}]"

    def all(self) -> tuple[Image, ...]:
        """
        Return the images.
        """
        return tuple(self._images)
