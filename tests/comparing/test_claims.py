"""Claims put to results that nobody trained."""

from __future__ import annotations

import pytest
from made_up_results import comparison, point, result

from aebnas.comparing.claims import Evidence, judge
from aebnas.comparing.estimates import paired

SEEDS = (0, 1, 2)


def with_accuracy(name, accuracy, cost=90.0, **options):
    """Three seeds that differ a little, all variants in the same way."""
    return {
        seed: result(name, seed, [point(0.5, 40), point(accuracy + seed / 1000, cost)], **options) for seed in SEEDS
    }


def test_a_claim_is_judged_where_its_variants_are_there(tmp_path):
    found = judge(
        comparison(
            {
                "disjoint": with_accuracy("disjoint", 0.80),
                "joint": with_accuracy("joint", 0.85),
                "mixed": with_accuracy("mixed", 0.84),
                "cgt-hard": with_accuracy("cgt-hard", 0.85, cost=60),
            },
            tmp_path,
        )
    )
    verdicts = {claim.name: claim.verdict for claim in found}
    # More accurate than disjoint, less than joint; as accurate as joint, which is enough, and cheaper.
    assert verdicts["mixed"] == "does not hold"
    assert verdicts["cgt_hard"] == "holds"
    assert not {"cgt_soft", "calex", "ewc", "lwf"} & set(verdicts)


def test_protection_keeps_earlier_exits_if_they_lose_less(tmp_path):
    def sequential(name, loss):
        return {
            seed: result(name, seed, [point(0.9, 40)], forgetting=((0.9, 0.9 - loss - seed / 1000), (0.9, 0.9)))
            for seed in SEEDS
        }

    none, ewc, lwf = (f"sequential:protection={name}" for name in ("none", "ewc", "lwf"))
    found = judge(
        comparison({none: sequential(none, 0.2), ewc: sequential(ewc, 0.1), lwf: sequential(lwf, 0.25)}, tmp_path)
    )
    assert {claim.name: claim.verdict for claim in found} == {"ewc": "holds", "lwf": "does not hold"}


def test_what_ranks_variants_as_their_area_does_is_told_seed_by_seed(tmp_path):
    eefp, ece = (0.7, 0.8, 0.9), (0.1, 0.2, 0.3)
    results = {
        name: with_accuracy(name, 0.6 + place / 10, eefp=eefp[place], ece=ece[place])
        for place, name in enumerate(("joint", "mixed", "disjoint"))
    }
    # The same network with other thresholds says nothing about the measures.
    results["joint:thresholds=per-class"] = with_accuracy("", 0.95, eefp=0.7, ece=0.1)
    (claim,) = (claim for claim in judge(comparison(results, tmp_path)) if claim.name == "eefp")
    # EEFP ranks as the area does in every seed, -ECE the other way round: 1 - (-1).
    assert claim.parts[0].difference.mean == 2.0
    assert claim.verdict == "holds"


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        # In points of accuracy; the interval of three seeds is the mean ± 2.48 deviations.
        ((-1.0, -2.0, -3.5), "within the spread"),  # -2.17 ± 3.13: nothing is shown
        ((-2.0, -2.1, -2.2), "does not hold"),  # -2.1 ± 0.25
        ((-10.0,), "within the spread"),  # no interval
        ((3.0,), "within the spread"),
        ((0.1, 0.0, -0.1), "holds"),  # 0 ± 0.25: not half a point worse
        ((-0.2, -0.21, -0.22), "holds"),  # all below 0, and less than half a point
        ((-0.4, -0.5, -0.6), "does not hold"),  # -0.5 ± 0.25: all below 0, and perhaps more than half a point
        ((0.5, 0.0, -0.5), "within the spread"),  # 0 ± 1.24
        ((2.0, 2.1, 2.2), "holds"),
    ],
)
def test_as_accurate_has_to_be_shown_and_missing_evidence_shows_nothing(points, expected):
    difference = paired({seed: value / 100 for seed, value in enumerate(points)}, dict.fromkeys(SEEDS, 0.0))
    assert Evidence("accuracy", difference, tolerant=True).verdict == expected
    assert Evidence("accuracy", None, tolerant=True).verdict == "within the spread"


def test_calex_is_judged_with_its_own_rule_of_leaving_and_cgt_at_our_default_first(tmp_path):
    plain = "calex:aligned=false+target=labels"
    results = {
        "joint": with_accuracy("joint", 0.85),
        "cgt-hard": with_accuracy("cgt-hard", 0.70),
        "cgt-hard:tau=0.9": with_accuracy("cgt-hard:tau=0.9", 0.85, cost=60),
        "calex": with_accuracy("calex", 0.80, cost=50),
        plain: with_accuracy(plain, 0.82, cost=50),
        "calex:thresholds=per-class": with_accuracy("calex:thresholds=per-class", 0.84, cost=50),
        f"{plain}+thresholds=per-class": with_accuracy("", 0.82, cost=50),
    }
    claims = {claim.name: claim for claim in judge(comparison(results, tmp_path))}
    assert {name: claim.verdict for name, claim in claims.items() if name != "eefp"} == {
        "cgt_hard": "does not hold",
        "cgt_hard_tau_0_9": "holds",
        "calex": "holds",
        "calex_per_exit": "does not hold",
    }
    assert "not the paper's rule" in claims["calex_per_exit"].text
