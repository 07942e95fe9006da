"""Plug-ins found by name: registered by a decorator where they are defined."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from aebnas.errors import InputError

T = TypeVar("T")


class Registry(Generic[T]):
    """Names of one kind of plug-in.

    Example:
        >>> colours: Registry[str] = Registry("colour")
        >>> _ = colours.add("red")("#f00")
        >>> colours["red"]
        '#f00'

    Args:
        kind: What an entry is called in messages, in the singular.
        error: Raised by a look-up of an unknown name.
    """

    def __init__(self, kind: str, error: type[InputError] = InputError) -> None:
        self.kind = kind
        self._error = error
        self._entries: dict[str, T] = {}

    def add(self, name: str) -> Callable[[T], T]:
        """Return a decorator that registers its argument as ``name``."""

        def register(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._entries[name] = entry
            return entry

        return register

    def __getitem__(self, name: str) -> T:
        try:
            return self._entries[name]
        except KeyError:
            raise self._error(unknown_name(self.kind, name, self._entries)) from None

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the sentence for a name that is not among ``known``, with the nearest one suggested."""
    names = list(known)
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"there is no {kind} {name!r}: {hint}known are {', '.join(names)}"
