"""From the few words that somebody answers or gives as options to the values of an experiment file."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aebnas.backbones.build import BACKBONES, wanted_input
from aebnas.backbones.settings import LIBRARIES, BackboneSettings
from aebnas.data.load import DATASETS
from aebnas.devices.profile import load_profile
from aebnas.errors import AebnasError, InputError, MissingExtraError
from aebnas.inputs import ModelInput
from aebnas.registry import unknown_name

Block = dict[str, Any]
# A folder that the library datasets has saved a data set in.
_SAVED_DATASET = ("dataset_dict.json", "dataset_info.json")
_BY_SUFFIX = {".npz": "npz", ".csv": "csv", ".tsv": "csv"}
_WEIGHT_FILES = (".pt", ".pth", ".safetensors", ".bin", ".ckpt")
# Data sets whose images have the size that they have.
_OWN_SIZE = ("digits", "fashion-mnist", "npz")
_NO_WEIGHTS = "none"
_WITH_PATH = ("npz", "folder", "csv", "huggingface")
# Characters of a name that is made up, and of the model's part of it: as a folder's name it is typed again and again.
_LONGEST, _LONGEST_MODEL = 28, 18


@dataclass(frozen=True)
class Choices:
    """What was chosen; the rest of an experiment has defaults.

    Args:
        model: A built-in backbone, torchvision:NAME, timm:NAME, module:callable, or the folder of a saved one.
        checkpoint: File of its weights.
        weights: Pretrained ones of a library by their name there, ``none`` for none; None: the library's choice, unless
            there is a checkpoint.
        data: A data set's name, torchvision:NAME, huggingface:NAME, or the path of a folder, a CSV or an npz file.
        device: A hardware profile's name or file.
        objectives: Costs to keep low beside accuracy; empty: latency where it can be measured, else MACs.
        image_size: Side in pixels that images are resized to; None: their own, or what the backbone was trained on.
        name: Of the experiment; empty: made of data and model.
    """

    model: str = "resnet"
    checkpoint: Path | None = None
    weights: str | None = None
    data: str = "digits"
    device: str = "local"
    objectives: tuple[str, ...] = ()
    trials: int = 60
    space: str = ""
    image_size: int | None = None
    name: str = ""

    def values(self) -> Block:
        """Return the keys of the experiment that were chosen, block by block.

        Raises:
            InputError: a word is nothing that an experiment can name.
        """
        backbone = backbone_of(self.model, self.checkpoint, self.weights)
        size = {} if self.image_size is None else {"image_size": self.image_size}
        data = {**data_of(self.data), **_prepared_for(backbone, self.data), **size}
        objectives = self.objectives or default_objectives(self.device)
        return {
            "name": self.name or default_name(self.data, self.model),
            "data": data,
            "backbone": backbone,
            # Weights that are there already are only adjusted.
            "backbone_training": {"epochs": 6, "lr": 0.005 if "weights" in backbone else 0.1},
            "attach": {"points": 6},
            "space": self.space or ("digits" if self.data == "digits" else "compact"),
            "regime": {"name": "disjoint", "training": {"epochs": 5, "lr": 0.01}, "final_epochs": 12},
            "search": {"trials": self.trials, "objectives": ["accuracy", *objectives], "finalists": 4},
            "device": self.device,
        }


def backbone_of(model: str, checkpoint: Path | None = None, weights: str | None = None) -> Block:
    """Return the block ``backbone`` for a model.

    Raises:
        InputError: there is no such model, or its weights are given twice.
    """
    library = model.partition(":")[0] if ":" in model else ""
    if checkpoint is not None and weights not in (None, _NO_WEIGHTS):
        raise InputError("--weights and --checkpoint exclude each other: leave one of them out")
    if weights is not None and library not in LIBRARIES:
        raise InputError(f"--weights are those of torchvision:NAME and timm:NAME, not of {model}: give --checkpoint")
    if Path(model).is_dir():
        if checkpoint is not None:
            raise InputError(f"{model} is a folder with a model and its weights: leave --checkpoint out")
        return {"name": "folder", "checkpoint": model}
    if model.endswith(_WEIGHT_FILES):
        raise InputError(f"{model} holds weights only: name the model with --model and give this file as --checkpoint")
    if ":" not in model and model not in BACKBONES:
        forms = "torchvision:NAME, timm:NAME, module:callable or a folder"
        raise InputError(f"{unknown_name('model', model, BACKBONES)}; or give {forms}")
    block: Block = {"name": model}
    if checkpoint is not None:
        if not checkpoint.is_file():
            raise InputError(f"--checkpoint {checkpoint} is no file: give one that torch.save or safetensors wrote")
        block["checkpoint"] = str(checkpoint)
    elif library in LIBRARIES and weights != _NO_WEIGHTS:
        block["weights"] = weights or "default"
    return block


def data_of(word: str) -> Block:
    """Return the block ``data`` for a name, or for a path by what lies there.

    Raises:
        InputError: it is no data set that is known, and no path of one.
    """
    path = Path(word).expanduser()
    if word.partition(":")[0] in ("torchvision", "huggingface") and ":" in word:
        return {"name": word}
    if word in DATASETS and word not in _WITH_PATH:
        return {"name": word}
    if path.is_dir():
        saved = any((path / name).is_file() for name in _SAVED_DATASET)
        return {"name": "huggingface" if saved else "folder", "path": word}
    if path.suffix.lower() in _BY_SUFFIX:
        if not path.is_file():
            raise InputError(f"data {word} does not exist: check the path")
        return {"name": _BY_SUFFIX[path.suffix.lower()], "path": word}
    if ":" in word and not path.exists():
        return {"name": word}
    if path.exists():
        raise InputError(f"data {word} is no .npz or .csv file and no folder: give one of these, or a data set's name")
    if word in _WITH_PATH:
        raise InputError(f"data {word} needs its path: give the file or the folder itself instead of {word}")
    named = [name for name in DATASETS if name not in _WITH_PATH and ":" not in name]
    known = unknown_name("data set", word, named)
    raise InputError(f"{known}; or give a folder, a .csv or an .npz file, torchvision:NAME or huggingface:NAME")


def default_objectives(device: str) -> tuple[str, ...]:
    """Return what to keep low on a device: latency if it can be measured.

    Raises:
        ProfileError: there is no such profile.
    """
    return ("latency_ms",) if load_profile(device).measurable else ("macs",)


def default_name(data: str, model: str) -> str:
    """Return a name for an experiment that a folder can have too: the last parts of data and model, as far as short."""
    of_model = _shortened(_plain(model.rpartition(":")[2]), _LONGEST_MODEL)
    of_data = _shortened(_plain(data), _LONGEST - len(of_model) - 1)
    return "-".join(word for word in (of_data, of_model) if word) or "experiment"


def free_name(name: str, *, own: Path | None = None) -> str:
    """Return ``name``, with a number where there is a run of that name already, or an experiment file.

    Args:
        own: The file that the experiment will be in.
    """
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(one for one in names if not (Path("runs") / one).exists() and (own or not Path(f"{one}.yaml").exists()))


def _shortened(name: str, length: int) -> str:
    """Return as many of the first words of ``name`` as have room in ``length`` characters, one cut off if need be."""
    if len(name) <= length:
        return name
    ends = [found.start() for found in re.finditer(r"[-_.]", name) if found.start() <= length]
    return name[: max(ends, default=length)].rstrip("-_.")


def _plain(word: str) -> str:
    stem = Path(word.rpartition(":")[2]).expanduser()
    name = stem.stem if stem.suffix.lower() in _BY_SUFFIX else stem.name
    return plain_name(name)


def plain_name(word: str) -> str:
    """Return ``word`` as a folder can be called: small letters, and a - for what is neither letter, digit, . nor _."""
    return re.sub(r"[^\w.-]+", "-", word).strip("-.").lower()


def _prepared_for(backbone: Mapping[str, Any], data: str) -> Block:
    """Return what images are brought to where the backbone was trained on such: their size, mean and deviation."""
    wanted = _wanted(backbone)
    if wanted is None:
        return {}
    size = {} if data_of(data)["name"] in _OWN_SIZE else {"image_size": list(wanted.size)}
    return {**size, "normalise": "backbone"}


def _wanted(backbone: Mapping[str, Any]) -> ModelInput | None:
    try:
        return wanted_input(BackboneSettings.model_validate(dict(backbone)))
    except MissingExtraError:
        raise
    except AebnasError:
        # What is wrong with it is told when it is tried out, and the file is there then to be corrected.
        return None


def objectives_of(words: Sequence[str]) -> tuple[str, ...]:
    """Return the costs among ``words``, which may be separated by commas; accuracy is always an objective."""
    parts = [part.strip() for word in words for part in word.split(",")]
    return tuple(dict.fromkeys(part for part in parts if part and part != "accuracy"))
