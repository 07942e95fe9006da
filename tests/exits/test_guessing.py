"""Whether a classifier knows more than one that looks at no image."""

from __future__ import annotations

import numpy as np
import pytest

from aebnas.exits.guessing import Guess


@pytest.mark.parametrize(
    ("counts", "kind", "accuracy"),
    [([50, 50], "plain", 0.5), ([90, 10], "plain", 0.9), ([90, 10], "balanced", 0.5), ([90, 0, 10], "balanced", 0.5)],
)
def test_the_best_guess_is_the_largest_class_or_any(counts, kind, accuracy):
    guess = Guess.of(np.repeat(np.arange(len(counts)), counts), kind)
    assert guess == Guess(pytest.approx(accuracy), 100, kind)


@pytest.mark.parametrize(
    ("base", "samples", "little", "enough"),
    [
        # Ten classes: nearly twice as good is little; two classes: that would be perfect.
        (0.1, 10_000, 0.18, 0.20),
        (0.5, 10_000, 0.54, 0.56),
        (0.9, 10_000, 0.905, 0.92),
        # A thousand classes: 1 % is ten times as good as a guess.
        (0.001, 10_000, 0.0015, 0.01),
        # On 40 samples a guesser may have 65 % by chance.
        (0.5, 40, 0.65, 0.67),
    ],
)
def test_how_much_more_is_little_depends_on_the_classes_and_on_the_samples(base, samples, little, enough):
    guess = Guess(base, samples)
    assert guess.little_more(little) and guess.little_more(base) and guess.little_more(0.0)
    assert not guess.little_more(enough)


def test_the_warning_says_what_to_do():
    warning = Guess(0.251, 400).warning(0.27)
    assert warning is not None
    for words in ("27.0 %", "largest class, 25.1 %", "train it longer", "labels", "data.normalise"):
        assert words in warning
    assert "balanced accuracy" in (Guess(0.25, 400, "balanced").warning(0.27) or "")
    assert Guess(0.251, 400).warning(0.9) is None
