"""The ledger: every verdict follows from its rule, at both sides of it."""

import ast
import json

import nbformat
import numpy as np
import pytest

from uturn_lib import claims
from uturn_lib.measures.estimate import Estimate
from uturn_lib.measures.retention import Heterogeneity
from uturn_lib.profiles import ROOT, figure_folder

T_M = Estimate(1.0, 0.8, 1.2)
T_S = Estimate(2.0, 1.8, 2.2)


def at(value, half=0.02):
    return Estimate(value, value - half, value + half)


def test_memorization_and_speciation():
    sigmas, curve = (0.1, 1.0, 80.0), [at(0.99), at(0.5), at(0.0)]

    def memorization(first=0.99, last=0.0, t_m=T_M):
        return claims.memorization("f", "laptop", sigmas, [at(first), curve[1], at(last)], t_m).verdict

    assert memorization() == "holds"
    assert memorization(first=0.9) == memorization(last=0.06) == "does not hold"
    assert memorization(t_m=Estimate(1.0, 0.0, 1.2)) == memorization(t_m=Estimate(9.0, 5.0, np.inf)) == "does not hold"

    def speciation(last, low):
        return claims.speciation("f", "laptop", 10, [at(last)], T_S, Estimate(0.5, low, 0.8)).verdict

    assert speciation(0.1, 0.2) == "holds"
    assert speciation(0.1, -0.1) == speciation(0.3, 0.2) == "does not hold"


def test_gaussian_test_needs_both_halves():
    def verdict(between, beyond=0.0, left=None):
        measured = [at(0.5 + between), at(0.2 + beyond)]
        unexplained = None if left is None else [at(0.9), at(left)]  # the first level lies below T_s and does not count
        t_m = Estimate(1, 1, 1)
        return claims.gaussian_test("f", "laptop", (1.5, 3.0), measured, [0.5, 0.2], t_m, T_S, unexplained).verdict

    assert verdict(0.04) == "not testable here"
    assert verdict(0.04, left=0.01) == "holds"
    assert (
        verdict(0.06) == verdict(0.04, 0.03) == verdict(0.04, left=0.03) == verdict(0.06, left=0.01) == "does not hold"
    )


def test_individual_transitions():
    def spread(p):
        return Heterogeneity(np.ones(2), at(0.3), 0.1, np.zeros(3), p, p, 0.28)

    verdict = lambda a, b: claims.individual_transitions("f", "laptop", spread(a), spread(b)).verdict  # noqa: E731
    assert verdict(0.001, 0.009) == "holds"
    assert verdict(0.001, 0.02) == verdict(0.02, 0.001) == "does not hold"


def test_insensitivity_needs_images_and_quality():
    def verdict(moved, changed):
        return claims.insensitive(
            "f", "laptop", {"a": at(0.0), "b": at(moved)}, {"a": at(changed), "b": at(0.0)}, at(3.0, 0.5)
        ).verdict

    assert verdict(0.04, -0.4) == "holds"
    assert verdict(0.06, 0.0) == verdict(0.0, -0.6) == "does not hold"


@pytest.mark.parametrize(
    "frechet, nearness, artificial, verdict",
    [
        ((2.0, 2.2, 2.1), (0.3, 1.0, 1.0), 9.0, "holds"),
        ((2.0, 2.9, 2.1), (0.3, 1.0, 1.0), 9.0, "does not hold"),  # the fair level is worse than the full run
        ((2.0, 2.2, 2.1), (0.3, 0.8, 1.0), 9.0, "does not hold"),  # copies; the last level is fair but not cheap
        ((2.0, 2.2, 2.1), (0.3, 1.0, 1.0), 2.3, "does not hold"),  # the artificial start does as well
    ],
)
def test_faster(frechet, nearness, artificial, verdict):
    claim = claims.faster(
        "f",
        "laptop",
        (0.1, 4.0, 80.0),
        (10, 24, 48),
        [at(f) for f in frechet],
        [at(n) for n in nearness],
        at(2.1, 0.3),
        48,
        at(artificial),
    )
    assert claim.verdict == verdict
    assert claim.values["speed_up"] == (2.0 if nearness[1] == 1.0 and frechet[1] < 2.4 else None)


def test_determinism_and_best_turn():
    def deterministic(same, moved, changed):
        return claims.deterministic("f", "laptop", same, at(moved), at(changed), (30.0, 80.0), at(0.1)).verdict

    assert deterministic(True, 0.04, 0.05) == "holds"
    assert deterministic(False, 0.04, 0.05) == deterministic(True, 0.06, 0.0) == deterministic(True, 0.0, 0.06)
    assert deterministic(False, 0.04, 0.05) == "does not hold"
    best = lambda low, high: claims.best_turn("f", "laptop", (0.1, 1, 80), Estimate(1, low, high), at(0)).verdict  # noqa: E731
    assert best(0.5, 4) == "holds" and best(0.1, 4) == best(0.5, 80) == "does not hold"


def test_our_own():
    assert claims.identity_holds("f", "laptop", (1.0, 2.0), [at(0.01), at(0.03)]).verdict == "does not hold"
    assert claims.identity_holds("f", "laptop", (1.0, 2.0), [at(0.01), at(-0.01)]).verdict == "holds"
    assert claims.exchangeable("f", "laptop", [0.004, 0.5, 0.9]).verdict == "holds"
    assert claims.exchangeable("f", "laptop", [0.003, 0.5, 0.9]).verdict == "does not hold"

    def recall(ratio, memory):
        return claims.not_recall("f", "laptop", at(ratio), at(1.8), at(memory)).verdict

    assert recall(0.01, 3.0) == "holds" and recall(0.1, 3.0) == recall(0.0, 1.81) == "does not hold"

    def halves(gap, half):
        return claims.halves_agree("f", "laptop", (1.0,), [at(0.3, half)], [at(0.3 + gap, half)]).verdict

    assert halves(0.019, 0.001) == halves(0.1, 0.1) == "holds" and halves(0.03, 0.01) == "does not hold"
    with pytest.raises(ValueError, match="claim = 'C99'"):
        claims.make_claim("C99", "f", "laptop", "", "holds")
    with pytest.raises(ValueError, match="verdict = 'perhaps'"):
        claims.make_claim("C1", "f", "laptop", "", "perhaps")


def test_a_figure_replaces_its_own_claims_and_writes_the_page():
    infinite = claims.make_claim("C1", "fig09", "laptop", "first", "holds", T_m=Estimate(1.0, 0.0, float("inf")))
    path = claims.record(infinite, claims.make_claim("C2", "fig09", "laptop", "withdrawn", "holds"))
    claims.record(claims.make_claim("C2", "fig13", "laptop", "other", "holds"))
    claims.record(claims.make_claim("C1", "fig09", "laptop", "a | b", "does not hold"))
    entries = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert [(entry["id"], entry["measured"]) for entry in entries] == [("C1", "a | b"), ("C2", "other")]
    assert all(entry["rule"] and entry["source"] in ("paper", "ours", "P2", "P3", "P4") for entry in entries)
    page = (figure_folder("laptop") / "CLAIMS.md").read_text()
    assert page == claims.page("laptop") and "a \\| b" in page and "withdrawn" not in page
    assert "Not judged yet: C3, C4, C5, C6, C7, C8" in page
    assert "| C1 |" in claims.summary("laptop") and "**does not hold** (fig09)" in claims.summary("laptop")


def test_the_committed_ledger_judges_every_claim_of_the_paper(monkeypatch):
    monkeypatch.delenv("UTURN_FIGURES")
    entries = claims.read_ledger("laptop")
    assert {entry["id"] for entry in entries} == set(claims.STATEMENTS)
    assert set(claims.PAPER_CLAIMS) == {f"C{number}" for number in range(1, 9)}
    for entry in entries:
        assert (entry["statement"], entry["source"], entry["rule"]) == claims.STATEMENTS[entry["id"]]
        assert list((ROOT / "figures" / "laptop").glob(f"{entry['figure']}_*.png"))
    assert (ROOT / "figures" / "laptop" / "CLAIMS.md").read_text() == claims.page("laptop")


def test_data_without_a_published_speciation_scale_say_so():
    """Of ImageNet none is published: the table of numbers says so, and Figures 9 and 13 ask before they show one."""
    row = claims.numbers("laptop", "imagenet64").splitlines()[-1]
    assert row.endswith("| 5.2 predicted, 5 measured (MNIST) | none published |")
    for name in ("fig09_multiclass_uturns", "fig13_averaged"):
        document = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
        tree = ast.parse("\n".join(cell.source for cell in document.cells if cell.cell_type == "code"))
        asked = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "landmark"]
        reads = lambda node: [n for n in ast.walk(node) if isinstance(n, ast.Name) and n.id == "landmark"]  # noqa: E731
        below = sum(len(reads(node)) for node in asked)
        assert asked and below == len(reads(tree)) - 1, name  # the one left is where it is set
        assert "SPECIATION.get(" in ast.unparse(tree) and "SPECIATION[" not in ast.unparse(tree)


def test_nan_never_holds():
    nan = Estimate(float("nan"), float("nan"), float("nan"))
    assert claims.exchangeable("f", "laptop", [0.5, float("nan")]).verdict == "does not hold"
    assert (
        claims.insensitive("f", "laptop", {"a": at(0.01), "b": nan}, {"a": at(0), "b": nan}, at(1)).verdict != "holds"
    )
    pair = [at(0.1), nan, at(0.1)]
    assert claims.halves_agree("f", "laptop", (1, 2, 3), pair, [at(0.1)] * 3).verdict != "holds"
    unseen = Estimate(np.inf, np.inf, np.inf)
    claim = claims.gaussian_test("f", "laptop", (1.0, 5.0), [at(0.5)] * 2, [0.5] * 2, at(1), unseen, [at(0)] * 2)
    assert claim.verdict == "not testable here"
    with pytest.raises(ValueError, match="one value per level"):
        claims.memorization("f", "laptop", (0.1, 1, 10), [at(1), at(0)], at(1))
    with pytest.raises(ValueError, match="claims is empty"):
        claims.record()


def test_a_speciation_before_the_memorization_leaves_no_level_between():
    early = claims.gaussian_test(
        "f", "laptop", (0.5, 1.0, 3.0), [at(0.5)] * 3, [0.5] * 3, at(2), at(0.4), [at(0.01)] * 3
    )
    assert "no level lies on [T_m, T_s]" in early.measured and "nan" not in early.measured
