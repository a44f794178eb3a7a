"""`make quick`: a picture and two numbers within a minute; nothing opens where there is no
desktop."""

import pytest

from uturn_lib import cli
from uturn_lib.reports import quick
from uturn_lib.support.places import figure_folder


def test_quick_draws_a_picture_and_says_where_image_and_class_are_lost(monkeypatch, capsys):
    monkeypatch.setattr(quick, "COUNT", 12)
    monkeypatch.setattr(quick, "open_picture", lambda path: False)
    assert cli.main(["quick"]) == 0
    said = capsys.readouterr().out
    picture = figure_folder("laptop") / "quick.png"
    assert picture.stat().st_size > 10_000 and str(picture) in said
    assert "T_m, memorization" in said and "T_s, speciation" in said and "from 12 images" in said


def test_no_desktop_no_viewer(monkeypatch, tmp_path):
    monkeypatch.setattr(quick.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not quick.open_picture(tmp_path / "x.png")
    monkeypatch.setenv("DISPLAY", ":0")
    started = []
    monkeypatch.setattr(
        quick.subprocess, "Popen", lambda command, **options: started.append(command)
    )
    assert quick.open_picture(tmp_path / "x.png") and started == [
        ["xdg-open", str(tmp_path / "x.png")]
    ]


@pytest.mark.parametrize("arguments", [["--profile", "desktop"], ["--device", "gpu"]])
def test_bad_input_ends_with_one_line(arguments, capsys):
    assert cli.main(["quick", *arguments]) == 2
    assert capsys.readouterr().err.startswith("error: ")
