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


def hashed_once(of: type[T]) -> type[T]:
    """A frozen dataclass whose hash is worked out once an object: for large ones that are parts of many keys.

    Objects of it must not be pickled: hashes of texts differ from process to process.
    """
    worked_out = of.__hash__

    def remembered(self: T) -> int:
        kept: int | None = self.__dict__.get("_hash")
        if kept is None:
            kept = self.__dict__["_hash"] = worked_out(self)
        return kept

    of.__hash__ = remembered  # type: ignore[assignment]
    return of
