"""Claims put to results that nobody trained."""

from __future__ import annotations

from made_up_results import comparison, point, result

from aebnas.comparing.claims import judge

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
    (claim,) = (claim for claim in judge(comparison(results, tmp_path)) if claim.name == "eefp")
    # EEFP ranks as the area does in every seed, -ECE the other way round: 1 - (-1).
    assert claim.parts[0].difference.mean == 2.0
    assert claim.verdict == "holds"
