"""Variants as they are written, and what is wrong with them, said before anything is trained."""

from __future__ import annotations

import pytest

from aebnas.comparing.variants import crossed, parse_variants
from aebnas.errors import ExperimentError
from aebnas.experiment import Experiment
from aebnas.resources import resource_folder


def test_keys_are_looked_up_in_the_own_block_then_in_the_regime_then_among_what_decides(toy_experiment):
    ewc, soft, calex, joint = parse_variants(
        [
            "sequential:protection=ewc+strength=30",
            "cgt-soft:tau=0.8+weighting=linear",
            "calex:aligned=false+target=labels",
            "joint:training.lr=1e-3+confidence=margin+thresholds=per-class",
        ],
        toy_experiment(),
    )
    assert (ewc.experiment.regime.name, ewc.experiment.regime.sequential.protection) == ("sequential", "ewc")
    assert ewc.experiment.regime.sequential.strength == 30
    assert (soft.experiment.regime.cgt.tau, soft.experiment.regime.weighting) == (0.8, "linear")
    assert (calex.experiment.regime.calex.aligned, calex.experiment.regime.target) == (False, "labels")
    assert joint.experiment.regime.training.lr == 1e-3
    assert (joint.experiment.confidence, joint.experiment.thresholds) == ("margin", "per-class")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("jonit", "did you mean 'joint'"),
        ("joint:tau=0.5", "no key 'tau'"),
        ("joint:weighting", "is no key=value"),
        ("joint:weighting=", "has no value"),
        ("joint:weighting=heavy", "no exit weighting 'heavy'"),
        ("joint:weighting=linear+weighting=equal", "stands there twice"),
        ("disjoint:weighting=linear", "has no effect under disjoint"),
        ("cgt-hard:sharpness=3", "has no effect under cgt-hard"),
        ("cgt-soft:residual=probability+tau=0.5", "tau has no effect beside its other settings"),
        ("joint:temperature=2", "temperature has no effect beside its other settings"),
        ("joint:training.epochs=3", "the same for all variants"),
        ("disjoint:target=final", "target"),
        ("joint:label_smoothing=2", "label_smoothing"),
    ],
)
def test_what_is_wrong_with_a_variant_is_one_sentence(toy_experiment, word, message):
    with pytest.raises(ExperimentError, match="variant") as caught:
        parse_variants([word], toy_experiment())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_equal_variants_and_none_are_refused(toy_experiment):
    with pytest.raises(ExperimentError, match="are the same"):
        parse_variants(["joint", "joint:weighting=equal"], toy_experiment())
    with pytest.raises(ExperimentError, match="nothing to compare"):
        parse_variants([" "], toy_experiment())


def test_variants_that_differ_in_how_exits_decide_train_alike(toy_experiment):
    one, other, third = parse_variants(
        ["joint", "joint:confidence=margin", "joint:thresholds=per-class"], toy_experiment()
    )
    assert len({one.training_key, other.training_key, third.training_key}) == 1
    assert len({one.key, other.key, third.key}) == 3


def test_epochs_that_no_variant_trains_for_change_no_key(toy_experiment):
    one, other = (
        parse_variants(["joint"], toy_experiment().override({"regime.final_epochs": epochs}))[0] for epochs in (6, 9)
    )
    assert one.key == other.key


def test_a_regime_that_gates_by_the_confidence_trains_anew_for_each(toy_experiment):
    one, other = parse_variants(["cgt-hard", "cgt-hard:confidence=margin"], toy_experiment())
    assert one.training_key != other.training_key


def test_choices_multiply_only_the_variants_that_they_have_an_effect_on(toy_experiment):
    words = ["disjoint", "joint", "joint:weighting=ramp"]
    found = crossed(words, {"confidence": ["margin", "entropy"], "weighting": ["equal", "linear"]}, toy_experiment())
    assert found == [
        "disjoint:confidence=margin",
        "disjoint:confidence=entropy",
        "joint:confidence=margin+weighting=equal",
        "joint:confidence=margin+weighting=linear",
        "joint:confidence=entropy+weighting=equal",
        "joint:confidence=entropy+weighting=linear",
        "joint:weighting=ramp+confidence=margin",
        "joint:weighting=ramp+confidence=entropy",
    ]
    taught = crossed(["joint"], {"target": ["labels", "backbone"], "temperature": ["2", "4"]}, toy_experiment())
    # A temperature counts only where there is a teacher.
    assert taught == [
        "joint:target=labels",
        "joint:target=backbone+temperature=2",
        "joint:target=backbone+temperature=4",
    ]
    assert crossed(["cgt-soft", "joint"], {"tau": ["0.5"]}, toy_experiment()) == ["cgt-soft:tau=0.5", "joint"]


def test_a_choice_without_any_effect_is_refused(toy_experiment):
    with pytest.raises(ExperimentError, match="tau has no effect on any of joint, mixed"):
        crossed(["joint", "mixed"], {"tau": ["0.5"]}, toy_experiment())
    with pytest.raises(ExperimentError, match="there is no key 'tua': did you mean 'tau'"):
        crossed(["joint", "cgt-soft"], {"tua": ["0.5"]}, toy_experiment())


def test_keys_of_finished_results_stay():
    """Another key here means that a folder of finished results is not gone on with."""
    base = Experiment.from_yaml(resource_folder("experiments") / "regimes-fashion-mnist.yaml")
    found = {variant.name: variant.key for variant in parse_variants(base.compare.variants, base)}
    kept = {
        "disjoint": "04e7d327e41c177d",
        "cgt-soft": "77d5e90f05d3ea24",
        "calex:aligned=false+target=labels": "f5a02926a6ee3cc2",
        "sequential:protection=interval": "9dd51658c955baee",
    }
    assert {name: found[name] for name in kept} == kept
