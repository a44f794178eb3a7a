"""A run beside the committed ledger: what agrees, what moved, and that a clone does not look
modified by it."""

import copy
import subprocess

import pytest

from uturn_lib.reports import reproduced, run
from uturn_lib.support.files import read_json, write_json
from uturn_lib.support.places import ROOT, figure_folder, reference_folder

ENTRY = {
    "id": "C1",
    "figure": "fig09",
    "profile": "laptop",
    "verdict": "holds",
    "network": "abc",
    "values": {
        "T_m": {"value": 1.8, "low": 1.7, "high": 1.9},
        "speed_up": 1.5,
        "far": {"value": "inf", "low": 3.0, "high": "inf"},
    },
}


def changed(**values):
    entry = copy.deepcopy(ENTRY)
    entry["values"] |= values
    return entry


def test_a_ledger_reproduces_itself():
    found = reproduced.compare([ENTRY], [ENTRY])
    assert (found.agree, found.compared, found.differ, found.missing) == (1, 1, [], [])
    assert all(move.moved == 0 for move in found.moves) and found.same_network


def test_moves_are_measured_in_half_widths_of_the_committed_interval():
    here = [changed(T_m={"value": 1.85, "low": 1.7, "high": 2.0})]
    most = reproduced.compare([ENTRY], here).moves[0]
    assert most.name == "T_m" and most.moved == pytest.approx(0.5)
    text = reproduced.summary(reproduced.compare([ENTRY], here))
    assert text.startswith(
        "1 of 1 verdicts are the committed ones; the number that moved most: T_m of C1 (fig09)"
    )
    assert "0.5 half-widths" in text


def test_another_verdict_and_a_missing_claim_are_named():
    other = ENTRY | {"id": "C2", "verdict": "holds"}
    found = reproduced.compare(
        [ENTRY, other], [ENTRY | {"verdict": "does not hold", "network": "xyz"}]
    )
    assert found.differ == [("C1", "fig09", "holds", "does not hold")] and found.missing == [
        "C2 (fig09)"
    ]
    page = reproduced.page("laptop", found)
    assert (
        "**does not hold** here, **holds** committed" in page
        and "Not judged in this run: C2 (fig09)" in page
    )
    assert "different networks" in page


def test_numbers_without_interval_are_shown_when_they_differ():
    found = reproduced.compare([ENTRY], [changed(speed_up=1.7)])
    assert [move.name for move in found.moves if move.here == "1.7"] == ["speed_up"]
    assert not any(
        move.name == "speed_up"
        for move in reproduced.compare([ENTRY], [changed(speed_up=1.5001)]).moves
    )


def test_what_is_infinite_in_both_has_not_moved_and_what_became_finite_is_not_measured():
    assert next(m for m in reproduced.compare([ENTRY], [ENTRY]).moves if m.name == "far").moved == 0
    here = [changed(far={"value": 70.0, "low": 3.0, "high": 90.0})]
    move = next(m for m in reproduced.compare([ENTRY], here).moves if m.name == "far")
    assert move.moved != move.moved  # nan


def test_a_report_is_written_beside_the_run():
    committed = read_json(reference_folder("laptop") / "claims.json")
    figure_folder("laptop").mkdir(parents=True)
    write_json(figure_folder("laptop") / "claims.json", committed)
    text = reproduced.report("laptop")
    assert text.startswith(f"{len(committed)} of {len(committed)} verdicts are the committed ones")
    assert (figure_folder("laptop") / "REPRODUCED.md").is_file()
    assert reproduced.report("imagenet64") is None  # nothing committed


def test_a_run_does_not_make_a_clone_look_modified():
    """What `make figures` writes is not tracked, and what is tracked is not written by it."""
    if subprocess.run(["git", "rev-parse"], cwd=ROOT, capture_output=True).returncode:
        pytest.skip("not a git checkout")
    for name in (
        "fig09_multiclass_uturns.png",
        "claims.json",
        "CLAIMS.md",
        "FIGURES.md",
        "RUN.md",
        "REPRODUCED.md",
    ):
        for profile in ("laptop", "cifar10", "custom/laptop"):
            path = f"figures/{profile}/{name}"
            assert subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT).returncode == 0, (
                path
            )
    tracked = subprocess.run(
        ["git", "ls-files", "figures"], cwd=ROOT, capture_output=True, text=True
    ).stdout.split()
    assert tracked and all(name.startswith("figures/reference/") for name in tracked)


def test_publishing_copies_results_and_deepens_links(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "reference_folder", lambda profile: tmp_path / "reference" / profile)
    with pytest.raises(FileNotFoundError, match="make figures"):
        run.publish("laptop")
    source = figure_folder("laptop")
    source.mkdir(parents=True)
    write_json(source / "claims.json", [ENTRY])
    (source / "FIGURES.md").write_text("[notebook](../../notebooks/fig01_scheme.ipynb)")
    for name in ("quick.png", "REPRODUCED.md", "fig01_scheme.png"):
        (source / name).write_text("x")
    names = {path.name for path in run.publish("laptop")}
    assert names == {"claims.json", "FIGURES.md", "fig01_scheme.png"}
    assert "(../../../notebooks/" in (tmp_path / "reference" / "laptop" / "FIGURES.md").read_text()
