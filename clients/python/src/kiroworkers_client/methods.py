"""
Describe methods that are made from those of `Calls`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TypeVar

F = TypeVar("F", bound=Callable[..., object])


def describe(method: F, call: Callable[..., object], owner: str, returns: str = "") -> F:
    """
    Return `method` after giving it the signature that `help` shows.

    Args:
        method: The method.
        call: The method of `Calls` that it performs.
        owner: The name of the class that the method belongs to.
        returns: The type that it returns; empty for that of the call's script.
    """
    signature = inspect.signature(call)
    result = returns or str(signature.return_annotation).removeprefix("Script[").removesuffix("]")
    method.__signature__ = signature.replace(return_annotation=result)  # type: ignore[attr-defined]
    method.__qualname__ = f"{owner}.{method.__name__}"
    return method
