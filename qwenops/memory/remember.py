"""What was worked out about an object, kept for as long as the object lives.

Headers are large and not hashable; the same object asked again is the usual case (a search over settings), so what
depends on a header alone is remembered by its identity and forgotten with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar
from weakref import ref

T = TypeVar("T")


class ByIdentity(Generic[T]):
    """Values by the identity of the object they were made from."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self._found: dict[int, tuple[ref[Any], T]] = {}

    def __call__(self, thing: Any) -> T:
        """The value for this very object, made on first use."""
        key = id(thing)
        found = self._found.get(key)
        if found is not None and found[0]() is thing:
            return found[1]
        value = self._make(thing)
        self._found[key] = (ref(thing, lambda _: self._found.pop(key, None)), value)
        return value
