import numpy as np
import pytest
import torch

from aebnas.exits.policy import Policy, thresholds_from_json
from aebnas.rebuild import rebuild
from aebnas.report import leaving as module
from aebnas.report.examples import examples_section
from aebnas.report.leaving import see_leaving


@pytest.fixture(scope="module")
def finalists(finished):
    found = [row for row in finished.rows if row["finalist"]]
    assert found
    return found


@pytest.fixture(scope="module")
def seen(finished, finalists):
    made, problems = see_leaving(finalists, finished.prepared(), finished.folder)
    assert problems == {}
    return made


def test_on_all_of_validation_shares_and_accuracy_are_those_of_the_front(finalists, seen):
    for row in finalists:
        left = seen[row["id"]]["validation"]
        assert len(left.exits) == left.of
        assert left.accuracy == pytest.approx(row["accuracy_val"], abs=1e-6)
        shares = np.zeros(len(row["exits"]) + 1)
        shares[list(left.shares)] = list(left.shares.values())
        assert shares == pytest.approx(row["exit_shares"], abs=1e-6)


def test_on_test_accuracy_is_the_one_that_was_scored(finalists, seen):
    for row in finalists:
        assert seen[row["id"]]["test"].accuracy == pytest.approx(row["accuracy_test"], abs=1e-6)


def test_samples_leave_where_the_network_itself_lets_them_go(finished, finalists, seen):
    row, prepared = finalists[0], finished.prepared()
    network, left = rebuild(row, prepared, finished.folder), seen[row["id"]]["test"]
    images = torch.cat([batch.images for batch in prepared.data.test.batches(64)])
    said = network.predict(images, Policy(row["confidence"], thresholds_from_json(row["thresholds"])))
    assert (said.exits.numpy()[left.rows] == left.exits).all() and (said.labels.numpy()[left.rows] == left.labels).all()
    assert np.allclose(said.confidence.numpy()[left.rows], left.confidences, atol=1e-5)


def test_of_expensive_networks_a_part_is_seen_the_same_for_all(finished, finalists, monkeypatch):
    monkeypatch.setattr(module, "_BUDGET_MACS", 1.0)
    monkeypatch.setattr(module, "_FEWEST", 12)
    found, _ = see_leaving(finalists, finished.prepared(), finished.folder)
    rows = {tuple(splits["validation"].rows) for splits in found.values()}
    assert len(rows) == 1 and len(set(rows.pop())) == 12
    assert all(splits["validation"].of == len(finished.prepared().data.validation) for splits in found.values())


def test_examples_are_images_that_leave_there_with_their_labels(finished, finalists, seen):
    prepared, row = finished.prepared(), finalists[0]
    text = "".join(examples_section(finalists[:1], seen, prepared, row["id"]))
    left, classes = seen[row["id"]]["validation"], prepared.data.classes
    for exit_ in left.reached:
        here = np.flatnonzero(left.exits == exit_)
        assert f"{len(here):,} of {len(left.exits):,} leave here" in text
        for place in here[:8]:
            truth, said = classes[left.truth[place]], classes[left.labels[place]]
            what = "predicted rightly" if truth == said else f"taken for {said}"
            assert f"Validation image {left.rows[place]}, a {truth}, {what}" in text
    shown = {int(part.split('"')[0]) for part in text.split('href="#x')[1:]}
    assert shown == {int(part.split('"')[0]) for part in text.split('<image id="x')[1:]}


def test_fewer_examples_are_shown_where_they_would_fill_the_page(finished, finalists, seen, monkeypatch):
    monkeypatch.setattr("aebnas.report.examples._BUDGET", 100)
    text = "".join(examples_section(finalists, seen, finished.prepared(), finalists[0]["id"]))
    assert "Up to 2 validation images per exit" in text
