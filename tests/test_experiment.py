"""The experiment file: read, written, overridden, and every mistake told by its key."""

from __future__ import annotations

import dataclasses

import pytest
import yaml
from torch import nn

from aebnas.data.augment import Augment
from aebnas.data.settings import AugmentSettings
from aebnas.data.splits import TensorSplit
from aebnas.errors import ExperimentError
from aebnas.experiment import Experiment
from aebnas.experiment_search import SAMPLERS
from aebnas.resources import resource_folder, resource_names


def read(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return Experiment.from_yaml(path)


@pytest.mark.parametrize("name", resource_names("experiments"))
def test_packaged_experiments_are_valid_and_come_back_from_yaml(tmp_path, name):
    experiment = Experiment.from_yaml(resource_folder("experiments") / f"{name}.yaml")
    assert experiment.name == name
    assert read(tmp_path, experiment.to_yaml()) == experiment


def test_a_file_without_keys_is_the_default_and_one_cut_off_to_nothing_is_not(tmp_path):
    assert read(tmp_path, "{}") == Experiment()
    with pytest.raises(ExperimentError, match=r"mine\.yaml is empty: name at least data and backbone"):
        read(tmp_path, "")
    assert read(tmp_path, Experiment().to_yaml()) == Experiment()


def test_every_setting_survives_yaml(tmp_path):
    text = """
        name: mine-2.0
        seed: 7
        data: {name: npz, path: data/x.npz, validation: 0.3}
        backbone: {name: "pkg.mod:make", options: {width: 4, pretrained: false, scale: 1.5, kind: small},
                   checkpoint: w.pt, leaves: [stem]}
        backbone_training: null
        attach: {points: 3, modules: [layer1, layer2]}
        space: aebnas-stages
        regime: {name: mixed, target: backbone, temperature: 2.0, weighting: linear, train_samples: 100,
                 training: {epochs: 2, optimizer: sgd, clip_norm: null, patience: 3}}
        confidence: margin
        search: {trials: 9, timeout: 60.5, sampler: tpe, objectives: [accuracy, macs, latency_ms],
                 target: {cost: macs, value: 5.0e+5, rule: two-sided, min_accuracy: 0.8}, accuracy_drop: 0.01}
        device: raspberry-pi-4
        cache_gib: 0
    """
    experiment = read(tmp_path, text)
    assert read(tmp_path, experiment.to_yaml()) == experiment
    assert experiment.backbone.options == {"width": 4, "pretrained": False, "scale": 1.5, "kind": "small"}
    assert experiment.search.cost_objectives == ("macs", "latency_ms")
    assert (experiment.backbone_training, experiment.regime.training.clip_norm) == (None, None)


def test_relative_paths_of_a_file_become_absolute(tmp_path, monkeypatch):
    """So that a run can be used from another folder than the one that it was started in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    experiment = read(
        tmp_path,
        """
        data: {name: npz, path: data/x.npz, data_dir: ~/data}
        backbone: {name: resnet, checkpoint: ../w.pt}
        space: spaces/mine.yaml
        device: mine.yml
        search: {start_from: [runs/before]}
        """,
    )
    assert experiment.search.start_from == (tmp_path / "runs" / "before",)
    assert experiment.data.path == tmp_path / "data" / "x.npz"
    assert experiment.data.data_dir == tmp_path / "home" / "data"
    assert experiment.backbone.checkpoint.is_absolute()
    assert experiment.backbone.checkpoint.resolve() == tmp_path.parent / "w.pt"
    assert experiment.space == str(tmp_path / "spaces" / "mine.yaml")
    assert experiment.device == str(tmp_path / "mine.yml")
    monkeypatch.chdir("/")
    assert read(tmp_path, experiment.to_yaml()) == experiment


def test_names_and_absolute_paths_of_a_file_stay(tmp_path):
    path = tmp_path / "x.npz"
    experiment = read(tmp_path, f"data: {{name: npz, path: {path}}}\nspace: digits\ndevice: x86-server")
    assert (experiment.data.path, experiment.data.data_dir, experiment.backbone.checkpoint) == (path, None, None)
    assert (experiment.space, experiment.device) == ("digits", "x86-server")


def test_the_embedded_experiment_needs_no_file():
    assert Experiment.embedded().name == "digits"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trails: 3", r"there is no key 'trails'.*known are name, seed"),
        ("regim: {}", r"there is no key 'regim': did you mean 'regime'\?"),
        ("search: {trails: 3}", r"no key 'search\.trails': did you mean 'search\.trials'\?"),
        ("regime: {training: {epoch: 3}}", r"'regime\.training\.epoch': did you mean 'regime\.training\.epochs'\?"),
        ("search: {target: {valeu: 3}}", r"search\.target\.(value: is missing|valeu)"),
        ("backbone_training: {epcohs: 3}", r"did you mean 'backbone_training\.epochs'\?"),
        ("search: {trials: many}", r"search\.trials: .*integer.*\(got 'many'\)"),
        ("search: {trials: 0}", r"search\.trials: .*greater than or equal to 1 \(got 0\)"),
        ("search: {trials: 2.5}", r"search\.trials: .*\(got 2\.5\)"),
        ("search: [3]", r"search: must hold keys and values \(got \[3\]\)"),
        ("attach: {modules: stages.0}", r"attach\.modules: must be a list \(got 'stages\.0'\)"),
        ("attach: {modules: []}", r"attach\.modules: .*at least 1"),
        ("search: {target: {rule: at-most}}", r"search\.target\.value: is missing$"),
        ("1: 2", r"1: keys must be text"),
        ("a: 1\n---\nb: 2", r"expected a single document.* found another document"),
        ("search: {sampler: nsga4}", r"search\.sampler: .*'nsga2'.*\(got 'nsga4'\)"),
        ("search: {objectives: [accuracy, latency]}", r"no objective 'latency': did you mean 'latency_ms'\?"),
        ("search: {objectives: [accuracy]}", r"search\.objectives: name accuracy and at least one of macs"),
        ("search: {objectives: [macs, latency_ms]}", r"name accuracy"),
        ("search: {objectives: [accuracy, macs, macs]}", r"each once"),
        ("search: {target: {value: 0}}", r"search\.target\.value: .*greater than 0"),
        ("search: {target: {value: 1, rule: exactly}}", r"search\.target\.rule: .*two-sided"),
        ("confidence: margins", r"confidence: there is no confidence.*did you mean 'margin'\?"),
        ("accelerator: gpu", r"there is no accelerator 'gpu'.*cuda"),
        ("data: {name: digit}", r"data: there is no data set 'digit': did you mean 'digits'\?"),
        ("regime: {name: joined}", r"regime: there is no regime 'joined'"),
        ("regime: {weighting: linaer}", r"there is no exit weighting 'linaer': did you mean 'linear'\?"),
        ("name: a/b", r"name: must begin with a letter or digit.*\(got 'a/b'\)"),
        ("name: ..", r"name: must begin with a letter or digit"),
        ("name: 12", r"name: must be text, in quotes.*\(got 12\)"),
        ("seed: -1", r"seed: .*greater than or equal to 0"),
        ("seed: 10000000000000000000000", r"seed: .*less than 2147483648"),
        ("backbone_training: {lr: .inf}", r"backbone_training\.lr: .*finite"),
        ("cache_gib: -1", r"cache_gib: "),
        ("attach: {points: 17}", r"attach\.points: "),
        ("regime: {training: {lr: 0}}", r"regime\.training\.lr: "),
        ("model: my_model", r"model takes a Module from Python, not str"),
        ("- a\n- b", r"must hold keys and values, not list"),
        ("just text", r"must hold keys and values, not str"),
        ("search: {trials: 3", r"is not valid YAML at line 1"),
        ("a: !!python/object/apply:os.getcwd []", r"is not valid YAML"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(tmp_path, text, message):
    with pytest.raises(ExperimentError, match=message) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "mine.yaml"))
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_told(tmp_path):
    with pytest.raises(ExperimentError, match=r"none\.yaml does not exist: check the path"):
        Experiment.from_yaml(tmp_path / "none.yaml")
    with pytest.raises(ExperimentError, match=r"cannot read"):
        Experiment.from_yaml(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe4")
    with pytest.raises(ExperimentError, match=r"cannot read .*latin\.yaml"):
        Experiment.from_yaml(tmp_path / "latin.yaml")


def test_override_sets_dotted_keys_and_leaves_none_alone():
    base = Experiment(seed=3)
    changed = base.override({"search.trials": 5, "regime.training.lr": 0.5, "device": None, "seed": 0})
    assert (changed.search.trials, changed.regime.training.lr, changed.seed) == (5, 0.5, 0)
    assert changed.device == base.device
    assert (base.search.trials, base.seed) == (60, 3)
    assert base.override({}) == base


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"search.trials": "many"}, r"the options: search\.trials: .*\(got 'many'\)"),
        ({"search.trails": 3}, r"the options: there is no key 'search\.trails': did you mean 'search\.trials'"),
        ({"serach.trials": 3}, r"the options: there is no key 'serach'.*did you mean 'search'"),
        ({"search.target.value": -1.0}, r"the options: search\.target\.value"),
        ({"search.trials.more": 1}, r"the options: search\.trials"),
        ({"confidence": "sure"}, r"the options: confidence: there is no confidence"),
    ],
)
def test_override_tells_mistakes_like_the_file(options, message):
    with pytest.raises(ExperimentError, match=message):
        Experiment().override(options)


def test_override_reaches_into_a_block_that_is_off():
    changed = Experiment().override({"search.target.value": 2.0})
    assert changed.search.target.value == 2.0
    assert Experiment(backbone_training=None).override({"backbone_training.epochs": 2}).backbone_training.epochs == 2


def test_own_objects_are_noted_and_kept(toy_data):
    model = nn.Linear(1, 1)
    experiment = Experiment(name="own", model=model, datasets=toy_data)
    assert (experiment.backbone.name, experiment.data.name) == ("custom", "custom")
    assert experiment.backbone_training is None  # it comes trained
    changed = experiment.override({"search.trials": 2})
    assert changed.model is model
    assert changed.datasets is toy_data
    assert {"model", "datasets"}.isdisjoint(yaml.safe_load(experiment.to_yaml()))


def test_an_own_model_is_trained_only_on_request():
    assert Experiment(model=nn.Linear(1, 1), backbone_training={"epochs": 2}).backbone_training.epochs == 2


@pytest.mark.parametrize(("key", "kind"), [("model", "Module"), ("datasets", "DataBundle")])
def test_own_objects_of_the_wrong_kind_are_refused(key, kind):
    with pytest.raises(ValueError, match=rf"{key} takes a {kind} from Python, not dict"):
        Experiment(**{key: {}})


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Experiment().seed = 4


def test_every_sampler_that_is_offered_is_accepted():
    for sampler in SAMPLERS:
        assert Experiment().override({"search.sampler": sampler}).search.sampler == sampler


AUGMENTED = "data: {augment: {flip: true, shift: 2}}\n"


def test_features_of_augmented_images_may_be_kept_in_copies(tmp_path):
    experiment = read(tmp_path, AUGMENTED + "cache_copies: 4")
    assert (experiment.cache_copies, experiment.data.augment.flip, experiment.data.augment.shift) == (4, True, 2)
    assert read(tmp_path, experiment.to_yaml()) == experiment
    mixed = read(tmp_path, AUGMENTED + "cache_copies: 4\nsearch: {genes: {regime.name: [disjoint, joint]}}")
    assert mixed.choose({"regime.name": "disjoint"}).cache_copies == 4
    assert mixed.choose({"regime.name": "joint"}).cache_copies == 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("cache_copies: 2", "cache_copies above 1 needs images that differ: set data.augment"),
        (AUGMENTED + "cache_copies: 2\nregime: {name: calex}", "cache_copies must be 1 where branches hear of those"),
        (AUGMENTED + "cache_copies: 2\ncascade: inputs", "cache_copies must be 1 where branches hear of those"),
        (
            AUGMENTED + "cache_copies: 2\nsearch: {genes: {cascade: [none, both]}}",
            "cache_copies must be 1 where branches hear of those",
        ),
        (
            AUGMENTED + "cache_copies: 2\nsearch: {genes: {regime.name: [disjoint, calex]}}",
            "cache_copies must be 1 where branches hear of those",
        ),
        (AUGMENTED + "cache_copies: 2\nregime: {name: joint}", "cache_copies must be 1 where no regime trains on"),
        ("data: {augment: {shift: -1}}", r"data\.augment\.shift"),
        ("data: {augment: {spin: 3}}", r"there is no key 'data\.augment\.spin'"),
    ],
)
def test_copies_that_nobody_could_use_are_refused(tmp_path, text, sentence):
    with pytest.raises(ExperimentError, match=sentence):
        read(tmp_path, text)


def test_own_data_may_be_augmented(toy_data):
    with pytest.raises(ValueError, match="cache_copies above 1 needs images that differ"):
        Experiment(datasets=toy_data, cache_copies=2)
    augment = Augment(AugmentSettings(flip=True), len(toy_data.train))
    train = TensorSplit(toy_data.train.images, toy_data.train.labels, toy_data.preprocessing, augment)
    mine = Experiment(datasets=dataclasses.replace(toy_data, train=train), cache_copies=2)
    assert Experiment.model_validate(mine.model_dump()).cache_copies == 2  # as a run folder knows it, without the data
