"""Stratified hold-outs: which samples go to which split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aebnas.errors import DataError

Indices = NDArray[np.int64]


def split_generator(seed: int) -> np.random.Generator:
    """Return the generator that the hold-outs of one data set draw from.

    Raises:
        DataError: ``seed`` is negative.
    """
    if seed < 0:
        raise DataError(f"seed must be 0 or greater to split a data set (got {seed})")
    return np.random.default_rng(seed)


def hold_out(
    labels: Indices, fraction: float, generator: np.random.Generator, *, leave: int = 1
) -> tuple[Indices, Indices]:
    """Split positions of ``labels`` (N,) into (rest, held), both sorted, class by class.

    Of every class with n samples, ``fraction`` * n are held, rounded, but at least 1 and at most n - ``leave``.
    """
    held = [np.empty(0, dtype=np.int64)]
    # Sorted once: a comparison of all labels with each of a thousand classes takes long.
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    for members in np.split(order, starts[1:]):
        members = generator.permutation(members)
        held.append(members[: max(1, min(round(fraction * len(members)), len(members) - leave))])
    chosen = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(labels)), chosen, assume_unique=True), chosen


def require_samples(labels: Indices, classes: Sequence[str], parts: Sequence[str], source: str) -> None:
    """Check that every class has a sample for each of the ``parts`` that ``labels`` are split into.

    Raises:
        DataError: there is only one class, or a class has too few samples; the message names it.
    """
    if len(classes) < 2:
        raise DataError(f"{source} holds only one class, {classes[0]!r}: a classifier needs samples of at least two")
    counts = np.bincount(labels, minlength=len(classes))
    scarce = int(np.argmin(counts))
    if counts[scarce] < len(parts):
        samples = "1 sample" if counts[scarce] == 1 else f"{counts[scarce]} samples"
        raise DataError(
            f"class {scarce} ({classes[scarce]!r}) has {samples} in {source}, too few for {' and '.join(parts)}: "
            f"give it at least {len(parts)}, or leave the class out and number the others from 0 without gaps"
        )
