"""One suite that every confidence measure has to pass, and each measure against its formula in float64."""

from __future__ import annotations

import io
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from aebnas.errors import InputError
from aebnas.exits.confidence import CONFIDENCES, PATIENCE, build_confidence
from aebnas.exits.decision import Decider, answers_of, decide, label_probabilities

STATELESS = ["max-probability", "margin", "entropy", "one-vs-all"]
STATEFUL = ["patience", "ensemble"]


def formula(name, logits):
    z = logits.double().numpy()
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    top = np.sort(p, axis=1)
    match name:
        case "max-probability":
            return top[:, -1]
        case "margin":
            return top[:, -1] - top[:, -2]
        case "entropy":
            return 1 + (p * np.log(np.maximum(p, 1e-300))).sum(axis=1) / np.log(z.shape[1])
        case "one-vs-all":
            q = 1 / (1 + np.exp(-z))
            products = [q[:, k] * np.prod(np.delete(1 - q, k, axis=1), axis=1) for k in range(z.shape[1])]
            # The class that is likeliest to be there alone is the one with the largest logit.
            assert np.argmax(products, axis=0).tolist() == z.argmax(axis=1).tolist()
            return np.max(products, axis=0)
    raise AssertionError(f"no formula for {name}")


def answers(name, logits):
    """Labels and confidences of exits in a row, of one sample: a plain loop in float64."""
    labels, sure, run, product = [], [], 0, np.ones(logits.shape[1])
    for place, z in enumerate(logits.astype(np.float64)):
        p = np.exp(z - z.max())
        p /= p.sum()
        if name == "patience":
            run = run + 1 if labels and labels[-1] == z.argmax() else 1
            labels.append(z.argmax())
            sure.append(min(run / 8, 1.0))
        else:
            product = product * p
            mean = product ** (1 / (place + 1))
            labels.append(mean.argmax())
            sure.append(mean.max() / mean.sum())
    return labels, sure


def test_all_measures_are_tested():
    assert list(CONFIDENCES) == STATELESS + STATEFUL
    assert [name for name in CONFIDENCES if build_confidence(name).stateful] == STATEFUL


@pytest.fixture(params=STATELESS)
def name(request):
    return request.param


def draw_logits(classes, seed=0):
    return torch.randn(64, classes, generator=torch.Generator().manual_seed(seed)) * 3


@pytest.mark.parametrize("classes", [2, 3, 100])
def test_is_its_formula(name, classes):
    logits = draw_logits(classes)
    confidence = build_confidence(name)(logits)
    assert confidence.shape == (64,)
    assert confidence.dtype == torch.float32
    assert np.allclose(confidence.numpy(), formula(name, logits), atol=1e-5)


def test_stays_between_0_and_1_at_the_extremes(name):
    logits = torch.tensor([[0.0, 0.0, 0.0], [1e4, -1e4, 0.0], [88.0, 88.0, 88.0], [1e-8, 0.0, 0.0]])
    confidence = build_confidence(name)(logits)
    assert ((confidence >= 0) & (confidence <= 1)).all()
    assert confidence.argmax() == 1


def test_a_larger_lead_is_surer(name):
    lead = torch.linspace(0, 8, 20)
    logits = torch.stack([lead, torch.zeros(20), torch.zeros(20)], dim=1)
    assert (build_confidence(name)(logits).diff() > 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_gives_float32_for_other_precisions(name, dtype):
    assert build_confidence(name)(draw_logits(5).to(dtype)).dtype == torch.float32


@pytest.mark.parametrize("name", STATELESS + STATEFUL)
def test_one_class_is_refused(name):
    with pytest.raises(InputError, match="2 classes"):
        build_confidence(name)(torch.zeros(4, 1))


def test_one_vs_all_neither_overflows_nor_cancels():
    logits = torch.tensor([[1e8, -1e8], [1e8, 1e8], [-1e8, -1e8], [200.0, 30.0], [1e8, 0.0], [-40.0, -50.0]])
    expected = [1.0, 0.0, 0.0, np.exp(-30.0), 0.5, np.exp(-40.0)]
    np.testing.assert_allclose(build_confidence("one-vs-all")(logits).numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("mask", [None, [True] * 9, [False] * 9, [True, False] * 4 + [True], [False] * 8 + [True]])
@pytest.mark.parametrize("name", STATEFUL)
def test_a_stateful_measure_is_a_plain_loop_over_the_exits_that_are_on(name, mask):
    # Ten exits, so that patience comes to its end; they mostly agree, so that runs are long.
    logits = [draw_logits(4) * 2 + draw_logits(4, seed=1 + exit_) for exit_ in range(10)]
    labels, confidences = decide(build_confidence(name), logits, mask)
    on = [exit_ for exit_ in range(10) if mask is None or exit_ == 9 or mask[exit_]]
    assert labels.dtype == torch.int64 and confidences.dtype == torch.float32
    assert labels.shape == confidences.shape == (len(on), 64)
    for sample in range(64):
        expected = answers(name, np.stack([logits[exit_][sample].numpy() for exit_ in on]))
        assert labels[:, sample].tolist() == expected[0]
        np.testing.assert_allclose(confidences[:, sample].numpy(), expected[1], atol=1e-5)
    if name == "patience" and mask is None:
        assert set((confidences * PATIENCE).long().flatten().tolist()) == set(range(1, 9))


def test_k_exits_agree_above_k_minus_1_steps_of_patience():
    decided = decide(build_confidence("patience"), [torch.eye(3)] * 10)[1][:, 0].tolist()
    for k in range(2, 10):
        for bar, needed in ((np.nextafter((k - 1) / PATIENCE, 2), k), (k / PATIENCE, k), ((k - 1) / PATIENCE, k - 1)):
            first = next((place + 1 for place, sure in enumerate(decided) if sure >= bar), None)
            assert first == (needed if needed <= PATIENCE else None)


def test_probabilities_of_labels_are_softmaxes_by_hand():
    logits = [draw_logits(4, seed=exit_) for exit_ in range(3)]
    labels = torch.stack([(z.argmax(1) + place) % 4 for place, z in enumerate(logits)])
    found = label_probabilities([logits[0], logits[1].half(), logits[2]], labels)
    assert found.dtype == torch.float32 and found.shape == (3, 64)
    logits[1] = logits[1].half().float()
    for exit_, sample in np.ndindex(3, 64):
        powers = np.exp(logits[exit_][sample].double().numpy())
        assert float(found[exit_, sample]) == pytest.approx(powers[labels[exit_, sample]] / powers.sum(), rel=1e-5)


@pytest.mark.parametrize("name", STATELESS)
def test_a_stateless_measure_decides_exit_by_exit(name):
    logits = [draw_logits(5, seed=exit_) for exit_ in range(3)]
    labels, confidences = decide(build_confidence(name), logits, [False, True])
    assert torch.equal(labels, torch.stack(logits[1:]).argmax(2))
    assert torch.equal(confidences, torch.stack([build_confidence(name)(z) for z in logits[1:]]))


def test_a_mask_has_one_flag_per_branch():
    with pytest.raises(ValueError, match="zip"):
        decide(build_confidence("margin"), [draw_logits(3)] * 3, [True])


@pytest.mark.parametrize("prefixes", [False, True])
@pytest.mark.parametrize("name", STATELESS + STATEFUL)
def test_answers_are_those_of_the_exits_that_are_on(name, prefixes):
    logits, truth = [draw_logits(4, seed=exit_) for exit_ in range(4)], torch.arange(64) % 4
    answers = answers_of(build_confidence(name), logits, truth, prefixes=prefixes)
    assert answers.truth.tolist() == truth.tolist()
    assert (answers.depends, answers.prefixes, answers.classes) == (name in STATEFUL, prefixes, 4)
    assert len(answers.masks()) == (4 if prefixes else 8)
    for mask in answers.masks():
        confidences, labels = answers.say(mask)
        expected = decide(build_confidence(name), logits, mask)
        np.testing.assert_array_equal(labels, expected[0].numpy())
        np.testing.assert_array_equal(confidences, expected[1][:-1].numpy())


@pytest.mark.parametrize("name", STATEFUL)
def test_a_state_that_was_cut_goes_on_as_before(name):
    """Rows that left are dropped from the state: what is left over says the same."""
    measure, kept = build_confidence(name), torch.arange(64) % 3 > 0
    state = measure(draw_logits(5))[2]
    assert state.shape == (64, measure.state_size(5)) and state.dtype == torch.float32
    whole, cut = measure(draw_logits(5, seed=1), state), measure(draw_logits(5, seed=1)[kept], state[kept])
    assert all(torch.equal(a[kept], b) for a, b in zip(whole, cut, strict=True))


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("name", STATELESS + STATEFUL)
def test_exports_to_onnx_with_any_batch(name, with_state, classes):
    decider, file = Decider(build_confidence(name)), io.BytesIO()
    logits, inputs, outputs = draw_logits(classes, seed=1), ["logits"], ["label", "confidence"]
    given = [logits]
    if decider.measure.stateful:
        outputs.append("next_state")
        if with_state:
            inputs.append("state")
            given.append(decider(draw_logits(classes))[2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            decider,
            tuple(value[:1] for value in given),
            file,
            opset_version=17,
            dynamo=False,
            input_names=inputs,
            output_names=outputs,
            dynamic_axes={name: {0: "n"} for name in inputs + outputs},
        )
    onnx.checker.check_model(onnx.load_from_string(file.getvalue()))
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    ran = session.run(None, {name: value.numpy() for name, value in zip(inputs, given, strict=True)})
    for got, expected in zip(ran, decider(*given), strict=True):
        assert got.dtype == expected.numpy().dtype
        np.testing.assert_allclose(got, expected.numpy(), atol=1e-6)


def test_an_unknown_name_gets_a_hint():
    with pytest.raises(InputError, match="did you mean 'margin'"):
        build_confidence("margins")
