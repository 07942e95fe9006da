"""The Optuna study: every sampler, lost trials, and damaged databases."""

from __future__ import annotations

import dataclasses
import sqlite3

import optuna
import pytest
from optuna.trial import TrialState

from aebnas.errors import AebnasError, RunError, RunFailed
from aebnas.experiment_search import SAMPLERS, SearchSettings
from aebnas.run_folder import RunFolder
from aebnas.searching.study import SPEC, begin, finished, make_sampler, open_study, sample
from aebnas.spaces.definition import load_space
from aebnas.spaces.genome import build_genome
from aebnas.spaces.network_genes import NetworkGenes


@pytest.fixture
def genome(prepared, toy_experiment):
    space = load_space(toy_experiment().space)
    return build_genome(space, prepared.backbone.attach_points, 4, NetworkGenes("disjoint", "margin"))


@pytest.fixture
def opened(tmp_path):
    (tmp_path / "run").mkdir()

    def open_it(**settings):
        made = SearchSettings(**{"objectives": ("accuracy", "macs"), "population": 3, **settings})
        return open_study(RunFolder(tmp_path / "run"), made, 0)

    return open_it


def finish(study, genome, value=0.5, violation=None):
    trial = study.ask()
    genes, _ = sample(trial, genome)
    trial.set_user_attr(SPEC, genome.decode(genes).to_json())
    if violation is not None:
        trial.set_constraint("macs", violation)
    study.tell(trial, [value, 1.0])
    return genes


@pytest.mark.parametrize("constrained", [False, True])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_samples_every_gene(genome, sampler, constrained):
    """In memory, and for longer than the random trials that a model-based sampler begins with."""
    made = make_sampler(SearchSettings(sampler=sampler, population=4), 0)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=made)
    begin(study, genome)
    seen = [finish(study, genome, 0.05 * n, 0.3 - 0.05 * n if constrained else None) for n in range(13)]
    for genes in seen:
        assert genes.keys() == genome.genes.keys()
        assert all(genes[name] in genome.genes[name] for name in genes)
    assert len({str(genes) for genes in seen}) > 4
    assert finished(study) == 13


def test_a_study_that_goes_on_does_not_repeat_its_random_numbers(opened, genome):
    seen = []
    for _ in range(2):
        with opened(sampler="random") as study:
            seen.append([finish(study, genome) for _ in range(3)])
    assert seen[0] != seen[1]
    with opened() as study:
        assert finished(study) == 6
        assert study.directions == [optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE]


def test_samplers_are_those_that_were_asked_for():
    names = {name: type(make_sampler(SearchSettings(sampler=name), 0)).__name__ for name in SAMPLERS}
    assert names == {
        "nsga2": "NSGAIISampler",
        "nsga3": "NSGAIIISampler",
        "tpe": "TPESampler",
        "gp": "GPSampler",
        "random": "RandomSampler",
    }


def test_a_study_begins_with_the_known_shapes(opened, genome):
    with opened() as study:
        begin(study, genome)
        begin(study, genome)
        waiting = study.get_trials(states=(TrialState.WAITING,))
        assert len(waiting) == 1 + len(genome.starts)
        first = finish(study, genome)
    assert all(value == "on" for name, value in first.items() if name in ("exit0", "exit1"))


@pytest.mark.parametrize("sampled", [True, False])
def test_a_trial_of_a_killed_process_is_given_back(opened, genome, sampled):
    with opened() as study:
        begin(study, genome)
        finish(study, genome)
        lost = study.ask()  # and nobody tells how it went
        if sampled:
            genes, _ = sample(lost, genome)
    with opened() as study:
        begin(study, genome)
        assert study.trials[lost.number].state == TrialState.FAIL
        assert finished(study) == 1
        again = [finish(study, genome) for _ in study.get_trials(states=(TrialState.WAITING,))]
        assert finished(study) == 1 + len(again)
        if sampled:
            assert genes in again


def test_a_trial_killed_just_before_its_end_does_not_count(opened, genome):
    with opened() as study:
        begin(study, genome)
        lost = study.ask()
        genes, _ = sample(lost, genome)
        lost.set_user_attr(SPEC, genome.decode(genes).to_json())
    with opened() as study:
        begin(study, genome)
        assert finished(study) == 0


def test_a_failed_candidate_counts(opened, genome):
    with opened() as study:
        trial = study.ask()
        genes, _ = sample(trial, genome)
        trial.set_user_attr(SPEC, genome.decode(genes).to_json())
        trial.set_user_attr("failure", "the loss is nan")
        study.tell(trial, state=TrialState.FAIL)
        assert finished(study) == 1


def test_constraints_are_kept_with_the_trial(opened, genome):
    with opened() as study:
        finish(study, genome, violation=0.25)
        finish(study, genome)
    with opened() as study:
        assert [dict(trial.constraints) for trial in study.trials] == [{"macs": 0.25}, {}]


@pytest.mark.parametrize(
    ("reason", "kind", "told"),
    [
        ("database or disk is full", RunFailed, r"cannot write .*study\.db \(database or disk is full\): free some sp"),
        ("disk I/O error", RunFailed, r"cannot write .*study\.db \(disk I/O error\): free some space, then run again"),
        ("attempt to write a readonly database", RunError, r"study\.db cannot be used \(attempt to write a readonly"),
    ],
)
def test_a_full_disk_is_a_failure_and_a_wrong_file_is_wrong_input(opened, reason, kind, told):
    with pytest.raises(AebnasError, match=told) as caught, opened():
        raise sqlite3.OperationalError(reason)
    assert caught.type is kind


def test_shapes_that_were_not_queued_when_the_process_was_killed_are_queued_now(opened, genome, monkeypatch):
    real, count = optuna.Study.enqueue_trial, []

    def killed(study, *args, **options):
        if count:
            raise KeyboardInterrupt
        count.append(1)
        real(study, *args, **options)

    genome = dataclasses.replace(genome, starts=(("conv1",),))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt), opened() as study:
        patch.setattr(optuna.Study, "enqueue_trial", killed)
        begin(study, genome)
    with opened() as study:
        begin(study, genome)
        begin(study, genome)
        assert len(study.get_trials(states=(TrialState.WAITING,))) == 2


def test_a_queued_trial_that_was_killed_before_it_was_sampled_comes_back_with_its_genes(opened, genome):
    with opened() as study:
        begin(study, genome)
        lost = study.ask()
        fixed = study.trials[lost.number].system_attrs["fixed_params"]
    with opened() as study:
        begin(study, genome)
        again = [trial.system_attrs["fixed_params"] for trial in study.get_trials(states=(TrialState.WAITING,))]
        assert again == [fixed]


@pytest.mark.parametrize("kept", [0.03, 0.2, 0.5, 0.8])
def test_a_truncated_database_is_named(opened, genome, tmp_path, kept):
    with opened() as study:
        finish(study, genome)
    path = tmp_path / "run" / "study.db"
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    told = r"study\.db cannot be used .*delete this one file; finished evaluations"
    with pytest.raises(RunError, match=told), opened() as study:
        begin(study, genome)
        finished(study)


@pytest.mark.parametrize("content", [b"no database at all, but text" * 100, b"\x00" * 8192])
def test_a_file_of_something_else_is_named(opened, tmp_path, content):
    (tmp_path / "run" / "study.db").write_bytes(content)
    with pytest.raises(RunError, match=r"study\.db cannot be used"), opened():
        pass
    (tmp_path / "run" / "study.db").unlink()
    with opened() as study:
        assert finished(study) == 0


def test_a_folder_without_a_place_for_the_database_is_named(opened, tmp_path):
    (tmp_path / "run" / "study.db").mkdir()
    with pytest.raises(RunError, match=r"study\.db cannot be used \(unable to open database file\)"), opened():
        pass
