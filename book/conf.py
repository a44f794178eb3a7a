"""Settings of Sphinx; ``build.py`` runs it on the pages that it has gathered."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "U-Turn diffusion"
author = "The U-Turn companion authors"
copyright = "2026, the U-Turn companion authors; code and weights Apache-2.0"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "sphinx_design",
    "docstrings",
    "slim",
]
root_doc = "index"

# Notebooks are shown as committed, never run: their outputs were compared by the tests.
nb_execution_mode = "off"
nb_render_markdown_format = "myst"
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4  # the anchors that GitHub gives to headings
myst_links_external_new_tab = False
suppress_warnings = ["myst.header"]  # GitHub's pages may leave a level of headings out

autodoc_typehints = "signature"
python_maximum_signature_line_length = 72
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"

# MathJax from a package, beside the pages: nothing is fetched when the book is read.
mathjax_path = "mathjax/startup.js"
mathjax3_config = {
    "loader": {"load": ["core", "input/tex", "output/chtml", "a11y/assistive-mml"]},
    "tex": {"packages": {"[-]": ["require", "autoload"]}},
    "options": {"enableMenu": False},
}

html_theme = "sphinx_book_theme"
html_title = "U-Turn diffusion"
html_static_path = ["static"]
html_css_files = ["book.css"]
html_show_sourcelink = False
html_copy_source = False
html_show_search_summary = False  # would fetch pages, which a browser forbids for files
html_context = {"default_mode": "auto"}  # light or dark as the reader's system is
html_theme_options = {
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "navbar_persistent": [],  # the search field is in the sidebar
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
