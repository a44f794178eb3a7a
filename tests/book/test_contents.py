"""The book's table of contents, links, alternative texts and formulas, without building it
(tests/book/in_a_browser.py opens the built one)."""

import ast
import json
import re
from functools import cache

import contents
import docstrings
import formulas
import generated
import pytest
import staging
import start_page

from uturn_lib.support.places import PACKAGE, ROOT

OWN = {"side_by_side.md", "side_by_side_2.md", "side_by_side_3.md", "api/index.md"}


def in_the_book():
    return [
        page for pages in contents.pages(ROOT, ROOT / "book" / "pages").values() for page in pages
    ]


@cache
def names():
    """All pages of the book, those included that are made when it is built."""
    return {*in_the_book(), *OWN, *generated.api_pages(PACKAGE, generated.public_names(ROOT))}


def test_every_page_of_the_repository_is_in_the_book_once():
    pages = in_the_book()
    assert len(set(pages)) == len(pages)
    written = [
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("notebooks/*.ipynb"),
        *ROOT.glob("notebooks/*/*.ipynb"),
        # fmt: skip
        *ROOT.glob("notebooks/course/solutions/*.ipynb"),
        *ROOT.glob("checkpoints/*/README.md"),
    ]
    for path in written:
        if ".ipynb_checkpoints" not in path.parts:
            assert path.relative_to(ROOT).as_posix() in pages


def test_parts_are_in_the_order_of_a_reader():
    parts = list(contents.pages(ROOT, ROOT / "book" / "pages"))
    assert parts[:3] == ["Start here", "The paper, figure by figure", "Three related papers"]
    assert (
        parts[-1] == "Reference"
        and contents.pages(ROOT, ROOT / "book" / "pages")["Start here"][0] == "index.md"
    )


@pytest.mark.parametrize("page", [*in_the_book(), *sorted(OWN)])
def test_links_lead_to_pages_of_the_book(page, tmp_path):
    """A link to a page that the book lacks is an error of the build: found here without
    building."""
    stage = staging.Staging(ROOT, tmp_path, names())
    path = ROOT / page
    if path.suffix == ".ipynb":
        texts = [
            staging.source(cell)
            for cell in json.loads(path.read_text())["cells"]
            if cell["cell_type"] == "markdown"
        ]
    else:
        texts = [path.read_text()] if path.exists() else []
    for mark, _, target in staging.links("\n".join(texts)):
        if (
            not mark
            and staging.is_local(target)
            and not stage.name_of(path, target).startswith(staging.NOT_SHOWN)
        ):
            stage.link(path, target)


def test_the_start_page_of_jupyter_links_every_notebook():
    links = [target for _, _, target in staging.links(start_page.text(ROOT))]
    assert links == [page for page in in_the_book() if page.endswith(".ipynb")]
    assert all((ROOT / link).exists() for link in links)


# -------------------------------------------------------------------------------- alternative texts


def markdown(text):
    return {"cell_type": "markdown", "metadata": {}, "source": text}


def test_a_picture_is_described_by_its_caption():
    code = {"cell_type": "code", "metadata": {}, "source": "", "outputs": []}
    caption = r"**Figure 9.** *Top:* ground truths at $\sigma_u$, the noise. Frames say what became of it."  # noqa: E501
    cells = [markdown("# Title\n\ntext"), code, markdown(caption)]
    assert staging.alternative(cells, 1) == "Figure 9. Top: ground truths at σ_u, the noise."
    assert staging.alternative([*cells[:2], markdown("## What we see")], 1) == "Title"


def test_code_is_left_alone():
    text = "`[a](b)` and ```\n[a](b)\n``` and [a](c)"
    assert staging.outside_code(text, lambda part: part.replace("](", "](x/")) == text.replace(
        "](c)", "](x/c)"
    )
    assert staging.links("[`code`](a.py) and `[no](b.md)`")[0][2] == "a.py"


def test_a_file_of_the_library_leads_to_the_reference(tmp_path):
    stage = staging.Staging(ROOT, tmp_path, names())
    house = ROOT / "docs" / "house.md"
    assert stage.link(house, "../uturn_lib/uturn.py") == "../api/uturn_lib.uturn.md"
    assert stage.link(house, "../uturn_lib/measures/retention.py") == "../api/uturn_lib.measures.md"


# ----------------------------------------------------------------------------------------- formulas


@pytest.mark.parametrize(
    "text, tex",
    [
        ("x_u = x_0 + sigma_u eps", r"x_{u} = x_{0} + \sigma_{u}\,\varepsilon"),
        ("sqrt(1 - r) xi", r"\sqrt{1 - r}\,\xi"),
        ("sum_k p_k^2", r"\sum_{k} p_{k}^{2}"),
        ("e^-h", "e^{-h}"),
        ("<x_0, y_0>", r"\langle x_{0},\; y_{0}\rangle"),
        ("E[y_0 | x_u] = D(x_u)", r"\mathbb{E}[y_{0}\,\mid  x_{u}] = D(x_{u})"),
        ("|x - y|^2", "|x - y|^{2}"),
    ],
)
def test_plain_formulas_become_tex(text, tex):
    assert formulas.to_tex(text) == tex


@pytest.mark.parametrize(
    "text",
    [
        "images",
        "levels[0]",
        "x_u",
        "noise()",
        "low <= sigma < high",
        "steps + 1",
        "2**24",
        "a)",
        "(a",
        "uturn quick",
    ],
)
def test_what_is_no_formula_stays_code(text):
    assert formulas.to_tex(text) is None


def every_docstring():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(
                node
            ):
                yield ast.get_docstring(node)


def test_formulas_of_the_library_are_balanced():
    """Every brace and bracket that TeX has to match is closed; the browser test sees whether
    MathJax agrees."""
    found = [
        tex
        for text in every_docstring()
        for part in re.findall(r"``(.+?)``", text, re.DOTALL)
        if (tex := formulas.to_tex(part))
    ]
    assert len(found) > 40
    for tex in found:
        for opening, closing in ("{}", "()", "[]"):
            assert tex.count(opening) == tex.count(closing), tex


def test_the_updates_of_the_methods_are_displayed():
    from uturn_lib import methods

    for method in {id(entry.update): entry for entry in methods.METHODS.values()}.values():
        assert docstrings.to_rst(method.update.__doc__).startswith(".. math::"), method.name


def test_text_is_not_read_as_markup():
    assert (
        docstrings.to_rst("(B, *sample), |x|, x_ and *this*")
        == r"(B, \*sample), \|x\|, x\_ and *this*" + "\n"
    )
