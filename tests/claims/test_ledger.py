"""The ledger of a figure, and that statements.toml, the rules and the notebooks fit together."""

import ast
import inspect

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell

import uturn_lib
from uturn_lib import Ledger, claims
from uturn_lib.claims import statements, verdicts
from uturn_lib.claims.pairs import Pair
from uturn_lib.claims.verdicts import FAILS, HOLDS, OPEN, UNSEEN, Gate
from uturn_lib.measures.estimate import Estimate
from uturn_lib.support.files import read_json, read_toml
from uturn_lib.support.places import ROOT, figure_folder


def near(value):
    return Estimate(value, value - 0.004, value + 0.004)


C1 = dict(sigmas=(0.1, 1.0, 80.0), identity=[near(0.99), near(0.5), near(0.01)], t_m=near(1.0))
C2 = dict(classes=10, pairs={"pixels": Pair(near(1), near(2), near(0.5), near(0.1))}, gate=OPEN)
LATE = {"pixels": Pair(near(1), near(0.6), near(-0.5), near(0.1))}


@pytest.fixture
def ledger():
    """Figure 9's, with both of its claims judged."""
    found = Ledger("fig09", "laptop")
    found.judge("C1", **C1)
    found.judge("C2", **C2)
    return found


def entries():
    return read_json(figure_folder("laptop") / "claims.json")


# --- the ledger


def test_a_claim_is_judged_by_its_own_rule():
    ledger = Ledger("fig09", "laptop")
    claim = ledger.judge("C1", **C1)
    assert (claim.id, claim.figure, claim.profile) == ("C1", "fig09", "laptop")
    assert claim.finding == claims.paper.memorization(**C1) and claim.verdict == HOLDS
    assert ledger.judge("C2", **C2 | {"gate": Gate("blind")}).verdict == UNSEEN
    assert ledger.judge("C2", **C2 | {"pairs": LATE}).verdict == FAILS
    assert repr(ledger) == "C1 holds\nC2 does not hold"  # the last judgement counts


def test_a_part_of_a_composite_profile_keeps_its_name():
    assert Ledger("fig09", "paper/imagenet64").profile == "paper/imagenet64"


def test_unlisted_claims_and_figures_are_refused():
    with pytest.raises(ValueError, match="claim = 'C3' is not listed for fig09; allowed: C1, C2"):
        Ledger("fig09", "laptop").judge("C3", memory=None, species=None, gate=OPEN)
    with pytest.raises(
        ValueError, match="figure = 'fig11' is not known; choose one of 'b1', .*'fig02'"
    ):
        Ledger("fig11", "laptop")
    with pytest.raises(ValueError, match="profile = 'desktop'"):
        Ledger("fig09", "desktop")


@pytest.mark.parametrize("wrong", [{"t_m": None}, {"floor": 1.0}])
def test_evidence_that_does_not_fit_is_refused_by_name(wrong):
    evidence = {name: value for name, value in (C1 | wrong).items() if value is not None}
    named = f"evidence of C1: .*{next(iter(wrong))}.*takes sigmas, identity, t_m"
    with pytest.raises(TypeError, match=named):
        Ledger("fig09", "laptop").judge("C1", **evidence)


def test_an_unjudged_claim_is_an_error_when_recorded_shown_or_printed():
    ledger = Ledger("fig09", "laptop")
    ledger.judge("C2", **C2)
    for action in (ledger.record, ledger.print_verdicts, ledger._repr_markdown_):
        with pytest.raises(ValueError, match="fig09 has not judged C1"):
            action()
    assert not (figure_folder("laptop") / "claims.json").exists()


def test_recorded_as_entries_of_claims_json(ledger):
    path = ledger.record()
    assert path == figure_folder("laptop") / "claims.json" and path.with_name("CLAIMS.md").is_file()
    assert [(e["id"], e["figure"], e["verdict"]) for e in entries()] == [
        ("C1", "fig09", HOLDS),
        ("C2", "fig09", HOLDS),
    ]
    assert entries()[0]["values"]["T_m"] == {"value": 1.0, "low": 0.996, "high": 1.004}
    assert entries()[0]["rule"] == claims.STATEMENTS["C1"].rule


def test_printed_lines_are_those_that_nbval_compares(ledger, capsys):
    ledger.print_verdicts()
    assert capsys.readouterr().out == "C1 holds\nC2 holds\n"
    ledger.print_verdicts("C2")
    assert capsys.readouterr().out == "C2 holds\n" and len(entries()) == 2
    with pytest.raises(ValueError, match="claim = 'C8'"):
        ledger.print_verdicts("C8")


def test_a_cell_that_ends_with_the_ledger_shows_and_records_it(ledger):
    shown, _ = InteractiveShell.instance().display_formatter.format(ledger)
    assert shown["text/plain"] == "C1 holds\nC2 holds" and len(entries()) == 2
    for claim in ledger.claims.values():
        for part in (claim.statement.text, f"**{claim.verdict}**", claim.meaning, claim.measured):
            assert part in shown["text/markdown"]
        assert claim.statement.folded_rule() in shown["text/markdown"]


# --- statements.toml


def test_a_rule_with_a_gate_is_a_rule_whose_code_has_one():
    for id, rule in claims.RULES.items():
        names = inspect.signature(rule).parameters
        gated = bool(statements.DATA["claims"][id].get("gates"))
        assert gated == bool({"gate", "gates"} & set(names)), id


def test_every_number_is_used_by_a_rule_or_a_gate():
    texts = (ROOT / "uturn_lib" / "claims" / "statements.toml").read_text()
    for name in {*verdicts.MARGINS, *verdicts.CONDITIONS} - {"free samples"}:  # read by a gate
        assert f"{{{name}}}" in texts or f"{{{name}:" in texts, name


def test_a_rule_is_filled_with_the_margins_and_safe_in_a_table():
    for id, one in claims.STATEMENTS.items():
        assert "{" not in one.rule and "{" not in one.folded_rule(), id
        assert "\n" not in one.folded_rule(), id
    assert f"lies above {verdicts.margin('returned')}." in claims.STATEMENTS["C1"].rule
    assert "<td>above 27%</td>" in claims.STATEMENTS["P2.2"].folded_rule()
    assert "&lt; 0.01" in claims.STATEMENTS["C3"].folded_rule()
    assert "T_s can be read and free samples are good" in claims.STATEMENTS["P4.4"].rule


def test_a_second_rule_for_a_claim_is_refused():
    with pytest.raises(ValueError, match="claim C1 has a rule already: memorization"):
        claims.rule("C1")(lambda: None)
    with pytest.raises(ValueError, match="claim = 'C99'"):
        claims.rule("C99")


def test_damaged_toml_is_named(tmp_path):
    path = tmp_path / "margins.toml"
    path.write_text("[margins\n")
    with pytest.raises(ValueError, match="margins.toml is damaged"):
        read_toml(path)


# --- the notebooks


def calls(tree, name):
    """The first argument of every call of a function or method ``name``."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    found = [c for c in found if getattr(c.func, "attr", getattr(c.func, "id", None)) == name]
    return [c.args[0].value for c in found]


NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_judges_the_claims_that_are_listed_for_it(path):
    cells = nbformat.read(path, as_version=4).cells
    tree = ast.parse("\n".join(cell.source for cell in cells if cell.cell_type == "code"))
    figure = path.stem.partition("_")[0]
    listed = [id for id, one in claims.STATEMENTS.items() if figure in one.figures]
    assert calls(tree, "Ledger") == ([figure] if listed else [])
    assert set(calls(tree, "judge")) == set(listed)
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and getattr(call.func, "attr", None) == "judge":
            given = {keyword.arg for keyword in call.keywords}
            inspect.signature(claims.RULES[call.args[0].value]).bind(**dict.fromkeys(given))
    if listed:
        shown = [cell for cell in cells if cell.source.split("\n")[-1] == "ledger"]
        printed = [cell for cell in cells if "ledger.print_verdicts(" in cell.source]
        assert len(shown) == 1 and "# NBVAL_CHECK_OUTPUT" in printed[0].source


def test_every_figure_of_a_claim_has_a_notebook():
    stems = {path.stem.partition("_")[0] for path in NOTEBOOKS}
    assert {figure for one in claims.STATEMENTS.values() for figure in one.figures} <= stems
    assert uturn_lib.Ledger is claims.Ledger
