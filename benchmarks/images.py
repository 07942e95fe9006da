"""Image files read from disk: the first look at them, images per second, and memory, by number of processes."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from aebnas.data.load import load_data
from aebnas.data.settings import DataSettings

CASES = [(kind, gib, workers) for kind in ("png", "jpg") for gib, workers in ((0.0, 0), (0.0, 1), (0.0, 2), (2.0, 2))]
SIDE, BATCH, EPOCHS = 64, 128, 2


@dataclass(frozen=True)
class Row:
    """One way of reading one folder.

    Attributes:
        first_s, next_s: To load the data when nothing is known of the files, and when they are known.
        per_s: Training images in a second by the clock, in the best epoch.
        per_processor_s: And in a second of processor time of all processes.
        peak_mib: Proportional set size of all processes, beyond that of this one before the data were loaded.
    """

    files: str
    ram_gib: float
    workers: int
    first_s: float
    next_s: float
    per_s: float
    per_processor_s: float
    peak_mib: float


def make_files(root: Path, count: int) -> None:
    """Write ``count`` images of Fashion-MNIST, tinted by class, as PNG and as JPEG."""
    data = load_data(DataSettings(name="fashion-mnist"), seed=0).train
    tints = np.random.default_rng(0).uniform(0.3, 1, (10, 3))
    for place, (image, label) in enumerate(zip(data.raw(count).numpy(), data.labels.tolist(), strict=False)):
        colours = (image[0][..., None] * tints[label]).astype(np.uint8)
        picture = Image.fromarray(colours).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        for kind in ("png", "jpg"):
            folder = root / kind / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            picture.save(folder / f"{place:05}.{kind}", quality=90)


def measure(root: Path, kind: str, ram_gib: float, workers: int) -> Row:
    """Load the files of ``kind`` below ``root`` twice, and read the training images some times."""
    torch.set_num_threads(1)
    settings = DataSettings(name="folder", path=root / kind, ram_gib=ram_gib, workers=workers)
    with tempfile.TemporaryDirectory() as cache, _memory() as peak:
        os.environ["AEBNAS_CACHE_DIR"] = cache
        times = []
        for _ in range(2):
            train = None
            start = time.perf_counter()
            train = load_data(settings, seed=0).train
            times.append(time.perf_counter() - start)
        assert train is not None
        rates = []
        for epoch in range(EPOCHS):
            start, work = time.perf_counter(), _processor_s()
            count = sum(len(batch.labels) for batch in train.batches(BATCH, seed=epoch))
            rates.append((count / (time.perf_counter() - start), count / (_processor_s() - work)))
    best, best_of_processors = (max(each) for each in zip(*rates, strict=True))
    return Row(kind, ram_gib, workers, *times, best, best_of_processors, peak[0])


def _processor_s() -> float:
    """Return the processor time of this process and of those that it started and that have ended."""
    return sum(os.times()[:4])


@contextmanager
def _memory() -> Iterator[list[float]]:
    """Give a list whose one entry is the largest size of this process and its children, in MiB beyond now's."""
    base, over = _pss_mib(os.getpid()), threading.Event()
    peak = [0.0]

    def watch() -> None:
        children = Path(f"/proc/self/task/{os.getpid()}/children")
        while not over.wait(0.05):
            sizes = map(_pss_mib, (os.getpid(), *map(int, children.read_text().split())))
            peak[0] = max(peak[0], sum(sizes) - base)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def _pss_mib(process: int) -> float:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except (OSError, ProcessLookupError):  # it has ended
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)


def main() -> None:
    """Print the table; write it where it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2,000 images instead of 20,000")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as one flat object")
    options = parser.parse_args()
    table, figures = Table(*Row.__annotations__), {}
    with tempfile.TemporaryDirectory() as folder:
        make_files(Path(folder), 2_000 if options.quick else 20_000)
        for case in CASES:
            # A process of its own for each, for memory that was freed is not given back.
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
                row = alone.submit(measure, Path(folder), *case).result()
            values = asdict(row)
            table.add_row(
                *(
                    f"{value:.2g}"
                    if isinstance(value, float) and value < 100
                    else f"{value:.0f}"
                    if isinstance(value, float)
                    else str(value)
                    for value in values.values()
                )
            )
            name = "_".join(map(str, case))
            figures |= {f"{name}_{key}": value for key, value in values.items() if key.endswith(("_s", "_mib"))}
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
