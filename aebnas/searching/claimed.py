"""Making records that several processes may want at the same time: each is made by one of them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence

from aebnas.store import Claim, WeightStore

# How long to wait for another process before looking again: longer every time, as trainings take seconds to hours.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0


def make_claimed(
    store: WeightStore,
    keys: Sequence[str],
    missing: Callable[[int], bool],
    make: Callable[[Mapping[int, Claim]], None],
    idle: Callable[[], None],
) -> None:
    """Make what is missing of ``keys``; what other processes are at is waited for, and taken over if they give up.

    Nothing is waited for while a claim is held, so no two processes wait for each other.

    Args:
        missing: Whether there is nothing yet that serves for the key of that number.
        make: Makes the records of the numbers that are claimed; a claim may be released as soon as its record is kept.
        idle: Called while waiting.
    """
    pause = _FIRST_PAUSE_S
    while left := [number for number in range(len(keys)) if missing(number)]:
        with contextlib.ExitStack() as stack:
            claims: dict[int, Claim] = {}
            for number in left:
                claim = store.try_claim(keys[number])
                if claim is not None:
                    claims[number] = stack.enter_context(claim)
            # What somebody has finished in between is there by now.
            mine = {number: claim for number, claim in claims.items() if missing(number)}
            if mine:
                make(mine)
                pause = _FIRST_PAUSE_S
        if not claims:
            idle()
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
