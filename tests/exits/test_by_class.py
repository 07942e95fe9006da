"""Figures of classes against a loop over samples, and names that a reader can tell apart."""

from __future__ import annotations

import json

import numpy as np
import pytest

from aebnas.exits.by_class import by_class, left_out, shown_names

ODD = ("cat", "", "cat", "naïve\u2028x", "na\u0069\u0308ve", "a, b", "[bold]", "  ", "\udcff", "猫")


def test_figures_are_those_of_a_loop():
    generator = np.random.default_rng(0)
    truth = generator.choice(4, 50, p=[0.6, 0.3, 0.1, 0.0])
    right, static = generator.random(50) < 0.7, generator.random(50) < 0.8
    exits, took = generator.integers(0, 3, 50), generator.random(50)
    found = by_class(ODD[:4], truth, right, exits, 3, latency_ms=took, backbone_right=static)
    for label, one in enumerate(found):
        own = truth == label
        assert (one.label, one.name, one.samples) == (label, ODD[label], int(own.sum()))
        if own.any():
            assert one.recall == pytest.approx(right[own].mean())
            assert one.backbone_recall == pytest.approx(static[own].mean())
            assert one.latency_ms_mean == pytest.approx(took[own].mean())
            assert one.exit_shares == pytest.approx([(exits[own] == exit_).mean() for exit_ in range(3)])
    assert found[3].to_json() == {
        "label": 3,
        "name": ODD[3],
        "samples": 0,
        "recall": None,
        "exit_shares": None,
        "latency_ms_mean": None,
        "backbone_recall": None,
    }


def test_what_was_not_measured_is_not_known():
    (one,) = by_class(("x",), np.zeros(2, int), np.array([True, False]), np.array([0, 1]), 2)
    assert (one.recall, one.exit_shares, one.latency_ms_mean, one.backbone_recall) == (0.5, (0.5, 0.5), None, None)
    assert json.loads(json.dumps(one.to_json()))["exit_shares"] == [0.5, 0.5]


def test_names_can_be_shown_and_told_apart():
    shown = shown_names(ODD)
    assert len(set(shown)) == len(ODD)
    assert shown[0] == "cat (class 0)" and shown[2] == "cat (class 2)"
    assert shown[1] == "(class 1)" and shown[7] == "(class 7)"
    assert shown[3] == "naïve\\u2028x" and shown[4] == "naïve" and shown[9] == "猫"
    # What cannot be encoded would end the program when it is printed.
    assert "".join(shown).encode() and "".join(shown).isprintable()


def test_names_that_say_all_stay_as_they_are():
    assert shown_names(["0", "1", "T-shirt/top"]) == ["0", "1", "T-shirt/top"]


def test_classes_without_samples_are_named():
    names = [f"c{number}" for number in range(9)]
    every = np.arange(9)
    assert left_out({"validation": every, "test": every}, names) is None
    said = left_out({"validation": every[1:], "test": every[:2]}, names)
    assert said == (
        "validation has no sample of c0; test has no sample of c2, c3, c4, c5, c6 and 2 more: balanced accuracy leaves "
        "such classes out"
    )
