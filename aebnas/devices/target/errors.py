"""What an agent refuses, in the words of its protocol."""

from __future__ import annotations

RUNTIME, PROVIDER, BLOCK, DISK, REQUEST = "runtime", "provider", "block", "disk", "request"


class Refused(Exception):
    """A request, or one of its files, that cannot be served.

    Args:
        kind: ``runtime``, ``provider``, ``block``, ``disk`` or ``request``: what is at fault.
        message: One sentence.
        name: The file at fault; None ends the request.
    """

    def __init__(self, kind: str, message: str, name: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.name = name


def in_one_line(error: BaseException, longest: int = 500) -> str:
    """Return what ``error`` says, on one line, cut where it becomes a novel."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= longest else f"{text[:longest]} ..."
