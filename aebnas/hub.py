"""The Hub of Hugging Face, where data sets and timm's weights lie: is it there at all?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

# Somebody who answers does so in less, and somebody who waits wants to know.
_PATIENCE_S = 10.0


@contextlib.contextmanager
def reached_or_offline() -> Iterator[str]:
    """Give why the Hub cannot be reached, empty if it can; where it cannot, only what was downloaded is looked for.

    Its library would try each of several files again and again, for the better part of a minute.
    """
    try:
        from huggingface_hub import constants
    except ImportError:
        yield ""
        return
    problem, before = _problem(), constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or bool(problem)
    try:
        yield problem
    finally:
        constants.HF_HUB_OFFLINE = before


def _problem() -> str:
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined, unused-ignore]

    try:
        # Any answer will do, one that refuses as well.
        get_session().head(constants.ENDPOINT, timeout=_PATIENCE_S)
    except Exception as error:  # of requests or httpx, by the version of the library
        return f"{constants.ENDPOINT} cannot be reached: {' '.join(str(error).split()) or type(error).__name__}"
    return ""
