"""Validation images that leave at each exit of the finalists, with their classes and what was predicted."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from aebnas.diagnosing.subject import SPLITS
from aebnas.prepare import Prepared
from aebnas.report.describe import FINAL, percent
from aebnas.report.front import Row
from aebnas.report.leaving import Leaving, Seen
from aebnas.report.markup import Markup, tag
from aebnas.report.png import png_uri, thumbnails

# Images per exit, as many as the page can hold: their PNG data may take so many characters.
_PER_EXIT = (8, 6, 4, 3, 2)
_BUDGET = 500_000
_VALIDATION = SPLITS[0]


def examples_section(rows: list[Row], seen: Seen, prepared: Prepared, pick: str) -> list[Markup]:
    """Return for every finalist whose network could be run the images that leave at each of its exits.

    They are drawn at random, the same ones wherever they leave at the same exit of several networks, and wrong answers
    among them are marked.
    """
    shown = [row for row in rows if row["id"] in seen]
    if len(prepared.data.input_shape) != 3:
        return [tag("p", "There are no examples to see: the inputs of these networks are no images.")]
    found = {row["id"]: seen[row["id"]][_VALIDATION] for row in shown}
    count, uris, size = _fitting(found, prepared)
    height, width = size
    kept = [
        tag("image", id=f"x{row}", href=uri, width=width, height=height, style="image-rendering:pixelated")
        for row, uri in uris.items()
    ]
    parts = [
        tag("svg", tag("defs", *kept), width=0, height=0, class_="aside", aria_hidden="true"),
        tag(
            "p",
            f"Up to {count} validation images per exit, drawn at random from those that leave there (not chosen "
            "to look well). ✓ is the class that was predicted, rightly; ✗ a wrong one, before the label of the image.",
        ),
    ]
    for row in shown:
        inside = _of_network(row, found[row["id"]], count, prepared.data.classes, size)
        name = f"{row['id']} (default pick)" if row["id"] == pick else row["id"]
        summary = tag("summary", tag("h3", f"What leaves where: {name}"))
        parts.append(tag("details", summary, *inside, class_="block", open=row["id"] == pick))
    return parts


def _fitting(found: Mapping[str, Leaving], prepared: Prepared) -> tuple[int, dict[int, str], tuple[int, int]]:
    """Return images per exit, the images by their position in the split, and their height and width."""
    split = prepared.data.validation
    count, uris, size = _PER_EXIT[0], {}, (1, 1)
    for count in _PER_EXIT:
        firsts = [_first(left, exit_, count)[0] for left in found.values() for exit_ in left.reached]
        rows = sorted({int(row) for positions in firsts for row in positions})
        if not rows:
            return count, {}, size
        raw = split.subset(torch.tensor(rows)).raw()
        small = thumbnails(raw, prepared.data.preprocessing.scale)
        uris, size = {row: png_uri(image) for row, image in zip(rows, small, strict=True)}, small.shape[1:3]
        if sum(map(len, uris.values())) <= _BUDGET:
            break
    return count, uris, (size[0], size[1])


def _first(left: Leaving, exit_: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return positions in the split, and among the samples that were run, of the first that leave at ``exit_``."""
    places = np.flatnonzero(left.exits == exit_)[:count]
    return left.rows[places], places


def _of_network(row: Row, left: Leaving, count: int, classes: tuple[str, ...], size: tuple[int, int]) -> list[Markup]:
    parts = []
    for number, exit_ in enumerate(left.reached):
        here = left.exits == exit_
        where = FINAL if exit_ == len(row["exits"]) else str(row["exits"][exit_]["attach"])
        right = f", {percent(float((left.labels == left.truth)[here].mean()))} % of them rightly" if here.any() else ""
        heading = f"Exit {number} at {where}" if where != FINAL else "Final exit"
        text = f"{heading}: {int(here.sum()):,} of {len(here):,} leave here{right}"
        shots = [
            _shot(int(position), left, place, classes, size)
            for position, place in zip(*_first(left, exit_, count), strict=True)
        ]
        parts += [tag("h4", text), tag("div", *shots, class_="shots") if shots else tag("p", "No image leaves here.")]
    return parts


def _shot(position: int, left: Leaving, place: int, classes: tuple[str, ...], size: tuple[int, int]) -> Markup:
    truth, said = classes[left.truth[place]], classes[left.labels[place]]
    right = left.truth[place] == left.labels[place]
    sure = f"confidence {left.confidences[place]:.3f}"
    alt = f"Validation image {position}, a {truth}, " + ("predicted rightly" if right else f"taken for {said}")
    image = tag(
        "svg",
        tag("use", href=f"#x{position}"),
        viewBox=f"0 0 {size[1]} {size[0]}",
        role="img",
        aria_label=f"{alt}, {sure}",
    )
    caption = f"✓ {said}" if right else f"✗ {said} (is {truth})"
    shown = tag("figcaption", caption, tag("span", sure, class_="muted"))
    return tag("figure", image, shown, class_="shot" if right else "shot wrong")
