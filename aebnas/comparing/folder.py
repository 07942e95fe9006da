"""The folder of one comparison: what belongs to it, its results, and that nobody else is at it."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aebnas.comparing.results import Result, StaticResult
from aebnas.comparing.saying import Saying
from aebnas.errors import InputError, RunError
from aebnas.files import first_difference, read_json, write_json
from aebnas.locks import exclusive
from aebnas.store import WeightStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ComparisonFolder:
    """Paths inside the folder of a comparison, and the records that are kept there."""

    path: Path

    @property
    def backbones(self) -> WeightStore:
        """The trained backbones, by seed."""
        return WeightStore(self.path / "backbones")

    @property
    def logits(self) -> WeightStore:
        """What trained networks say, by training and seed."""
        return WeightStore(self.path / "logits")

    @property
    def plots(self) -> Path:
        """Where pictures go."""
        return self.path / "plots"

    @property
    def csv_file(self) -> Path:
        """The table as CSV."""
        return self.path / "comparison.csv"

    @property
    def json_file(self) -> Path:
        """Everything that the table and the picture are made of."""
        return self.path / "comparison.json"

    def features(self, seed: int) -> Path:
        """Return where the features of one seed's backbone go."""
        return self.path / "features" / str(seed)

    def start(self, about: Mapping[str, Any], as_now: Callable[[Mapping[str, Any]], dict[str, Any]] = dict) -> None:
        """Claim the folder for a comparison, or go on with the same one.

        Args:
            about: Nested plain values: all that its results depend on beside their variant and seed.
            as_now: What an earlier version may have kept -> the same as this one says it.

        Raises:
            RunError: it holds another comparison, or something else.
        """
        file = self.path / "about.json"
        if file.exists():
            difference = first_difference(self._known(file, as_now), dict(about))
            if difference is not None:
                key, earlier, now = difference
                raise RunError(
                    f"{self.path} holds a comparison whose {key} is {_short(earlier)}, not {_short(now)}: choose "
                    "another folder with --run-dir, or delete this one"
                )
        elif any(place.name != "compare.lock" for place in self.path.glob("*")):
            raise RunError(f"{self.path} is not empty and holds no comparison: choose another folder with --run-dir")
        write_json(file, dict(about))

    def data_fingerprint(self) -> str | None:
        """Return the fingerprint of the data that the comparison has; None: it has not begun, or is damaged."""
        try:
            return str(read_json(self.path / "about.json")["data"]["fingerprint"]).split(" ")[0]
        except (KeyError, OSError, RunError, TypeError):
            return None  # of what is damaged, ``start`` says so

    @staticmethod
    def _known(file: Path, as_now: Callable[[Mapping[str, Any]], dict[str, Any]]) -> dict[str, Any]:
        try:
            return as_now(read_json(file))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise RunError(f"{file} is damaged: delete it, or choose another folder with --run-dir") from error

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other commands from this folder for the length of the block.

        Raises:
            RunError: another process is at it, or the folder cannot be written.
        """
        busy = f"another process compares in {self.path}: wait for it, stop it, or choose another --run-dir"
        with exclusive(self.path, "compare.lock", lambda: busy):
            yield

    def has_backbone(self, seed: int) -> bool:
        """Tell whether the trained backbone of ``seed`` is there and can be read; a damaged one is made again."""
        if not self.backbones.has(str(seed)):
            return False
        try:
            return "state" in self.backbones.get(str(seed))
        except RunError as error:
            logger.warning("%s; it is made again", error)
            return False

    def write_saying(self, key: str, seed: int, saying: Saying) -> None:
        """Keep what the network of the training ``key`` says, so that other ways of deciding need no training."""
        self.logits.put(f"{key}-seed{seed}", saying.to_record())

    def read_saying(self, key: str, seed: int) -> Saying | None:
        """Return what a training gave; None if it is not there, or damaged (it is trained again)."""
        name = f"{key}-seed{seed}"
        if not self.logits.has(name):
            return None
        try:
            return Saying.from_record(self.logits.get(name))
        except (RunError, KeyError, TypeError, ValueError) as error:
            logger.warning("%s; it is made again", error)
            return None

    def write_result(self, key: str, result: Result) -> None:
        """Keep the result of the variant ``key``."""
        write_json(self._file(key, result.seed), result.to_json())

    def read_result(self, key: str, seed: int) -> Result | None:
        """Return the result of a variant and a seed; None if there is none, or it is damaged (it is made again)."""
        try:
            return Result.from_json(self._read(self._file(key, seed)))
        except (InputError, KeyError, TypeError, ValueError):
            return None

    def write_static(self, result: StaticResult) -> None:
        """Keep the result of a static network."""
        write_json(self._file(_static(result.exit), result.seed), result.to_json())

    def read_static(self, exit_: int | None, seed: int) -> StaticResult | None:
        """Return the result of a static network; None if there is none, or it is damaged (it is made again)."""
        try:
            return StaticResult(**self._read(self._file(_static(exit_), seed)))
        except TypeError:
            return None

    def drop_features(self) -> None:
        """Free the disk of what can be computed again."""
        shutil.rmtree(self.path / "features", ignore_errors=True)

    def _file(self, key: str, seed: int) -> Path:
        return self.path / "results" / f"{key}-seed{seed}.json"

    def _read(self, path: Path) -> dict[str, Any]:
        """Return what is in ``path``; nothing if it is not there or damaged."""
        if not path.exists():
            return {}
        try:
            values = read_json(path)
        except RunError as error:
            logger.warning("%s; it is made again", error)
            return {}
        return values if isinstance(values, dict) else {}


def _static(exit_: int | None) -> str:
    return "static-backbone" if exit_ is None else f"static-exit{exit_ + 1}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
