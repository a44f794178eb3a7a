"""README.md, CONTRIBUTING.md and docs/: links, commands, names, numbers and snippets are those of
the code."""

import contextlib
import importlib
import json
import math
import re
import subprocess
from functools import cache

import pytest
from safetensors import safe_open

from uturn_lib import cli, profiles
from uturn_lib.claims import read_ledger
from uturn_lib.reports import pages
from uturn_lib.support.places import ROOT, reference_folder

PAGES = [*pages.documents(), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
every_page = pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix()
)


def read(page):
    return page.read_text(encoding="utf-8")


def without_code(text):
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def without_comments(text):
    return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)


def code(page, language):
    return re.findall(rf"```{language}\n(.*?)```", read(page), re.DOTALL)


def commands(page):
    """What a reader may type: the lines of shell blocks and the commands quoted in sentences."""
    lines = [line for block in code(page, "sh") for line in block.splitlines()]
    return lines + re.findall(r"`([^`\n]+)`", without_comments(without_code(read(page))))


# --------------------------------------------------------------------------------------------- size


def test_the_readme_is_one_screen():
    text = read(ROOT / "README.md")
    assert len(text.splitlines()) <= 150
    assert len(without_comments(text).split()) <= 1500


@every_page
def test_nothing_private_on_a_page(page):
    text = read(page)
    assert not re.search(r"\w@\w+\.\w", text)  # an address
    assert str(ROOT) not in text and "/home/" not in text


# -------------------------------------------------------------------------------------------- links


@cache
def anchors(page):
    """The anchors that GitHub gives to the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", without_code(read(page)), re.MULTILINE)
    plain = [
        re.sub(r"\[([^]]*)\]\([^)]*\)|[`*$]", r"\1", title).strip().lower() for title in titles
    ]
    return [re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in plain]


@every_page
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(read(page))):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists() and path.is_relative_to(ROOT), target
        assert not anchor or anchor in anchors(path), target


@every_page
def test_anchors_are_unique(page):
    assert len(set(anchors(page))) == len(anchors(page)) or page.name == "CHANGELOG.md"


def test_every_page_is_on_the_map():
    shown = re.findall(r"\]\(([\w.]+)\)", read(ROOT / "docs" / "README.md"))
    assert sorted(shown) == sorted(
        path.name for path in (ROOT / "docs").glob("*.md") if path.name != "README.md"
    )
    linked = set(re.findall(r"\]\(docs/([\w.]+)", read(ROOT / "README.md")))
    assert linked == set(shown)


def test_every_figure_is_shown_with_its_notebook():
    text = read(ROOT / "docs" / "figures.md")
    for notebook in [
        *(ROOT / "notebooks").glob("fig*.ipynb"),
        *(ROOT / "notebooks").glob("companions/*.ipynb"),
        *(ROOT / "notebooks").glob("beyond/*.ipynb"),
    ]:
        assert f"(../{notebook.relative_to(ROOT).as_posix()})" in text
        assert f"(../figures/reference/laptop/{notebook.stem}.png)" in text


def test_the_papers_are_cited_by_number():
    text = read(ROOT / "README.md")
    for number in ("10.3390/e27040343", "10.3390/e25040633"):
        assert f"https://doi.org/{number}" in text and f"doi: {number}" in read(
            ROOT / "CITATION.cff"
        )
    for number in ("2308.07421", "2312.14965", "2305.19947", "2206.05173"):
        assert f"https://arxiv.org/abs/{number}" in text


# ----------------------------------------------------------------------------------------- commands

ADDED = {"p5a"}  # the figure that a reader adds in CONTRIBUTING.md
VARIABLE = re.compile(r"\b([A-Z_]+)=(\S+)")


@every_page
def test_make_knows_the_targets_and_variables_that_are_named(page):
    makefile = (ROOT / "Makefile").read_text()
    targets = set()
    for line in commands(page):
        before, found, after = line.partition("make ")
        if not found or before and not VARIABLE.search(before):
            continue
        for word in after.split("#")[0].split():
            name, is_variable, value = word.partition("=")
            if is_variable:
                assert f"$({name})" in makefile, line
                assert name != "PROFILE" or value in {*profiles.PROFILES, *profiles.COMPOSITES}, (
                    line
                )
            else:
                targets.add(word)
    if targets:
        done = subprocess.run(
            ["make", "--dry-run", "--no-print-directory", *sorted(targets - ADDED)],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr


@every_page
def test_command_lines_of_the_library_parse(page):
    """Every quoted ``uturn ...`` names a subcommand and options that it has."""
    _, parsers = cli.make_parsers()
    for line in commands(page):
        found = re.search(r"(?:\buturn|python3? -m uturn_lib)((?: [\w.-]+)+)", line.split("#")[0])
        if not found or found[1].split()[0] not in parsers and "/uturn" not in line:
            assert not re.search(r"-m uturn_lib\.", line), f"{line}: the command is uturn"
            continue
        name, *words = found[1].split()
        assert name in parsers, line
        options = parsers[name].format_help()
        for word in words:
            assert not word.startswith("-") or re.search(rf"{re.escape(word)}[ ,\n]", options), line


def test_the_variables_of_the_environment_are_in_the_table():
    sources = [
        *(ROOT / "uturn_lib").rglob("*.py"),
        ROOT / "tests" / "reports" / "test_run.py",
        ROOT / "Makefile",
    ]
    used = set(
        re.findall(
            r"UTURN_[A-Z_]+\b", "".join(path.read_text(encoding="utf-8") for path in sources)
        )
    )
    table = set(re.findall(r"^\| `(UTURN_[A-Z_]+)`", read(ROOT / "docs" / "data.md"), re.MULTILINE))
    assert table == used
    for page in PAGES:
        assert set(re.findall(r"UTURN_[A-Z_]+\b", read(page))) <= used, page


def test_profiles_are_in_the_table():
    rows = re.findall(r"^\| `([\w-]+)` \|", read(ROOT / "docs" / "reproducing.md"), re.MULTILINE)
    assert set(rows) == {*profiles.PROFILES, *profiles.COMPOSITES}


# -------------------------------------------------------------------------------- names of the code


def resolve(dotted):
    """The object of the library that a page calls ``dotted``."""
    parts = dotted.split(".")
    for count in range(len(parts) - 1, 0, -1):
        with contextlib.suppress(ModuleNotFoundError):
            found = importlib.import_module(".".join(["uturn_lib", *parts[:count]]))
            for part in parts[count:]:
                found = getattr(found, part)
            return found
    raise ModuleNotFoundError(dotted)


def test_the_functions_behind_the_figures_exist():
    names = re.findall(
        r"`((?:uturn|measures|sampling|companions)(?:\.[a-z]\w*)+)`",
        read(ROOT / "docs" / "house.md"),
    )
    names = [name for name in names if not name.endswith(".py")]
    assert len(names) > 15
    for name in names:
        assert resolve(name).__doc__, name


def test_the_map_shows_the_tree():
    (tree,) = [
        block for block in code(ROOT / "docs" / "house.md", "") if block.startswith("notebooks/")
    ]
    folders = []
    for line in tree.splitlines():
        indent, name = re.match(r"( *)(\S+)", line).groups()
        folders = [*folders[: len(indent) // 2], name]
        assert (ROOT / "".join(folders)).exists() or not name.endswith(("/", ".py")), line
    shown = {line.split()[0].rstrip("/") for line in tree.splitlines() if line.startswith("  ")}
    for path in (ROOT / "uturn_lib").iterdir():
        assert path.name in shown or path.name.startswith("_"), path.name


# ----------------------------------------------------------------------------- numbers and verdicts


@pytest.mark.parametrize(
    "page", pages.documents(), ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_quoted_claims_are_the_committed_ones(page):
    text = read(page)
    assert pages.with_claims(text) == text, "run: uturn readme"
    assert list(pages.stale_verdicts(text)) == []


def test_the_pages_quote_claims():
    assert "| C1 |" in read(ROOT / "docs" / "results.md") and "| memorization time" in read(
        ROOT / "docs" / "results.md"
    )
    readme = read(ROOT / "README.md")
    assert len(pages.NUMBER.findall(readme)) >= 5 and len(pages.VERDICT.findall(readme)) >= 10
    unmarked = re.sub(r"<!-- / -->", "", pages.NUMBER.sub("", readme))
    assert not re.search(r"\d \[-?\d[^]]*, ", unmarked)  # no interval is written by hand


def measured(claim, figure):
    """How the committed ledger of the digits words a result."""
    entries = read_ledger("laptop", reference_folder)
    return next(
        entry["measured"] for entry in entries if (entry["id"], entry["figure"]) == (claim, figure)
    )


def test_the_readme_compares_the_calls_of_figure_10():
    late, full, allowed = re.search(
        r"With (\d+) calls in place of (\d+) .*?; ([\d.]+) is allowed", read(ROOT / "README.md")
    ).groups()
    text = measured("C6", "fig10")
    assert f"with {full} calls, allowed +{allowed};" in text and f"with {late} calls" in text


def test_sizes_of_networks_and_samples_are_those_of_the_code():
    readme, on_cifar10 = read(ROOT / "README.md"), read(ROOT / "docs" / "cifar10.md")
    for data, turned in (
        ("mnist", profiles.PROFILES["laptop"]),
        ("cifar10", profiles.PROFILES["cifar10"]),
    ):
        folder = ROOT / "checkpoints" / data
        with safe_open(folder / "diffusion_pytorch_model.safetensors", "pt") as weights:
            shapes = [weights.get_slice(name).get_shape() for name in weights.keys()]
        millions = sum(math.prod(shape) for shape in shapes) / 1e6
        images = turned.on("cpu").ground_truths
        assert f"a network of {millions:.0f} million parameters, {images} images turned" in readme
        assert f"| `{data}` | denoiser, {millions:.2f} million" in read(
            ROOT / "docs" / "networks.md"
        )
        if data == "cifar10":
            seen = json.loads((folder / "config.json").read_text())["uturn"]["training"][
                "images_seen"
            ]
            assert (
                f"{millions:.0f} million parameters and has seen {seen / 1e6:.1f} million images"
                in on_cifar10
            )


def test_a_number_that_has_changed_is_rewritten_and_a_verdict_is_named(monkeypatch):
    ledger = [
        {
            "id": "C1",
            "figure": "fig09",
            "verdict": "holds",
            "values": {"T_m": {"value": 1.5, "low": 1.25, "high": 1.75}},
        }
    ]
    monkeypatch.setattr("uturn_lib.reports.pages.ledger.read_ledger", lambda profile, place: ledger)
    monkeypatch.setattr(
        "uturn_lib.reports.pages.ledger.overall_verdicts", lambda profile, place: {"C1": "holds"}
    )
    page = (
        "T_m = <!-- laptop fig09 C1.T_m -->{}<!-- / -->: <!-- laptop C1 -->does not hold<!-- / -->."
    )
    old, new = page.format("9 [8, 10]"), page.format("1.50 [1.25, 1.75]")
    assert pages.with_claims(old) == new
    (found,) = pages.stale_verdicts(new)
    assert "C1 of laptop is quoted as 'does not hold', the ledger says 'holds'" in found
    with pytest.raises(ValueError, match="claim = .*C9.* is not known"):
        pages.with_claims("<!-- laptop fig09 C9.T_m -->1<!-- / -->")


def test_forms_of_numbers():
    logarithm = next(
        entry["values"]["log_gap"]
        for entry in read_ledger("laptop", reference_folder)
        if (entry["id"], entry["figure"]) == ("C2", "fig09")
    )
    value, low, high = map(
        float, re.findall(r"[\d.]+", pages.number("laptop", "fig09", "C2", "log_gap", "exp"))
    )
    for shown, exact in ((value, "value"), (low, "low"), (high, "high")):
        assert shown == pytest.approx(2.718281828 ** logarithm[exact], abs=0.006)
    plain = re.findall(r"[\d.]+", pages.number("laptop", "fig04", "C5", "moved"))
    percent = pages.number("laptop", "fig04", "C5", "moved", "%")
    assert percent.endswith(" %")
    for a, b in zip(plain, re.findall(r"[\d.]+", percent), strict=True):
        assert float(b) == pytest.approx(100 * float(a), abs=0.06)


# ----------------------------------------------------------------------------------------- snippets


OWN_TESTS = re.compile("PixelDenoiser|@register")
SNIPPETS = [
    (page, text) for page in PAGES for text in code(page, "python") if not OWN_TESTS.search(text)
]


@pytest.mark.parametrize("page, text", SNIPPETS, ids=[page.stem for page, _ in SNIPPETS])
def test_snippets_run(page, text):
    exec(compile(text, f"{page.name}, snippet", "exec"), {"__name__": "snippet"})


def test_the_own_denoiser_forgets_sooner_than_the_network():
    """What docs/house.md says of its example: T_m of pixels alone lies below that of the
    network."""
    (text,) = [
        text for text in code(ROOT / "docs" / "house.md", "python") if "PixelDenoiser" in text
    ]
    space = {"__name__": "snippet"}
    exec(text, space)
    network = next(
        entry["values"]["T_m"]
        for entry in read_ledger("laptop", reference_folder)
        if (entry["id"], entry["figure"]) == ("C1", "fig09")
    )
    assert 0 < space["times"].t_m.high < network["low"]
    notebook = read(ROOT / "notebooks" / "fig09_multiclass_uturns.ipynb")
    assert (
        "study = experiments.prepare(profile, device)" in notebook
    )  # the line that a reader is told to replace
    assert "takes no labels" in space["experiments"].class_gate(space["study"]).closed


def test_the_example_of_a_sampler_has_order_one():
    """CONTRIBUTING.md: halving the steps halves the error; y_0 = sqrt(K) x_u for a centred
    Gaussian."""
    import torch

    from uturn_lib import GaussianDenoiser, karras_sigmas, methods
    from uturn_lib.sampling import final, reverse

    (text,) = [text for text in code(ROOT / "CONTRIBUTING.md", "python") if "@register" in text]
    try:
        exec(text, {"__name__": "snippet"})
        values = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
        denoiser = GaussianDenoiser(torch.zeros(3), torch.diag(values))
        x_u = (
            torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3
        )
        exact = (values / (values + 9)).sqrt() * x_u
        errors = []
        for steps in (80, 160):
            y0 = final(reverse(denoiser, x_u, karras_sigmas(steps, 3.0), "log-euler"))
            errors.append(float((y0 - exact).norm()))
        assert 1.7 < errors[0] / errors[1] < 2.3
    finally:
        methods.METHODS.pop("log-euler", None)


def test_the_workflow_runs_the_readmes_test_command():
    import yaml

    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())
    job = workflow["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert (
        any(step.get("run") == ".ci/run" for step in job["steps"])
        and "make test" in (ROOT / ".ci/run").read_text()
    )
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    (ruff,) = [repo["rev"] for repo in hooks["repos"] if "ruff" in repo["repo"]]
    assert f"ruff=={ruff.removeprefix('v')}\n" in (ROOT / "constraints.txt").read_text()


def test_pages_without_a_checkout_are_an_error(monkeypatch):
    monkeypatch.setattr("uturn_lib.support.places.CHECKOUT", None)
    with pytest.raises(FileNotFoundError, match="README and docs"):
        pages.documents()
