"""Slides: what is on them, from stand-ins of the npm packages."""

import re

import pytest
from nbformat import v4

from uturn_lib.course import slides
from uturn_lib.course.write import instructor_notebooks


@pytest.fixture
def packages(tmp_path):
    for name in (*slides.SCRIPTS, *slides.STYLES):
        path = tmp_path / "packages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('@import url(./fonts.css);\nlet a = "</script>";')
    return tmp_path / "packages"


def cell(source, *tags, code=False, outputs=()):
    made = v4.new_code_cell(source, outputs=list(outputs)) if code else v4.new_markdown_cell(source)
    made.metadata["tags"] = list(tags)
    return made


def test_slides_hold_marked_cells_outputs_and_notes():
    picture = v4.new_output("display_data", {"image/png": "aaaa", "text/plain": "Figure"})
    notebook = v4.new_notebook(
        cells=[
            cell("# Title\n\n$a_1 < b_2$", "slide"),
            cell("only in the lesson"),
            cell("draw()", "more", "hide-input", code=True, outputs=[picture]),
            cell('**Picture.** Two "clouds"\nof points.\n\nMore text.'),
            cell("**For the lecturer.** Ask.", "instructor"),
            cell("## Second", "slide"),
        ]
    )
    first, second = slides.sections_of(notebook)
    assert "Title" in first and "Second" in second
    assert "$a_1 &lt; b_2$" in first  # not read as emphasis
    assert 'alt="Two &quot;clouds&quot; of points."' in first and "base64,aaaa" in first
    assert "only in the lesson" not in first + second and "draw()" not in first
    assert re.search(r'<aside class="notes">.*Ask', first, re.DOTALL)


def test_a_file_of_slides_asks_for_nothing_else(packages, tmp_path):
    written = slides.slides(tmp_path / "out", packages)
    assert [path.stem for path in written] == [path.stem for path in instructor_notebooks()]
    for path in written:
        text = path.read_text()
        assert text.count("<section>") >= 5
        assert not re.search(r'(?:src|href)="(?!data:|https://|#)|<link|@import|<script src', text)
        assert not re.search(r'(?:src)="https?:', text)
        assert text.count("</script>") == text.count("<script>") == 2 + len(slides.SCRIPTS)


def test_missing_packages_are_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="has no reveal.js/dist/reveal.js: make slides fetches"
    ):
        slides.slides(tmp_path / "out", tmp_path)
