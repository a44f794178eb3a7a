"""What the book contains, part by part, and in which order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Part:
    """A heading of the table of contents and the pages below it.

    ``patterns``: paths in the repository (with wildcards), or in ``book/pages`` where they begin
    with "book:". A page belongs to the first part that names it.
    """

    title: str
    patterns: tuple[str, ...]


PARTS = (
    Part("Start here", ("book:index.md", "README.md", "notebooks/00_*.ipynb")),
    Part("The paper, figure by figure", ("notebooks/fig*.ipynb",)),
    Part("Three related papers", ("notebooks/companions/*.ipynb",)),
    Part(
        "The course",
        (
            "docs/teaching.md",
            "notebooks/course/*.ipynb",
        ),
    ),
    Part("Solutions of the course", ("notebooks/course/solutions/*.ipynb",)),
    Part("Beyond the paper", ("notebooks/beyond/*.ipynb",)),
    Part(
        "Results",
        (
            "docs/results.md",
            "book:side_by_side.md",
            "book:side_by_side_*.md",
            "docs/figures.md",
            "docs/cifar10.md",
            "figures/reference/laptop/CLAIMS.md",
            "figures/reference/cifar10/CLAIMS.md",
            "figures/reference/*/FIGURES.md",
            "figures/reference/*/RUN*.md",
            "figures/reference/*/CLAIMS.md",
        ),
    ),
    Part(
        "Do it yourself",
        (
            "docs/README.md",
            "docs/reproducing.md",
            "docs/cluster.md",
            "docs/data.md",
            "docs/networks.md",
            "docs/house.md",
            "CONTRIBUTING.md",
            "docs/*.md",
        ),
    ),
    Part(
        "Reference",
        (
            "docs/glossary.md",
            "book:api/index.md",
            "book:tested.md",
            "benchmarks/README.md",
            "checkpoints/*/README.md",
            "book:cite.md",
            "CHANGELOG.md",
        ),
    ),
)
PLACES_AT_THE_END = ("docs/glossary.md",)  # named in a later part than the wildcard that finds them


def pages(repository: Path, own: Path) -> dict[str, list[str]]:
    """The pages of each part, as paths in the book, in order; parts without pages are left out.

    ``repository``: root of the checkout. ``own``: the folder of the book's own pages.
    """
    found: dict[str, list[str]] = {}
    seen = set(PLACES_AT_THE_END)
    for part in PARTS:
        for pattern in part.patterns:
            is_own = pattern.startswith("book:")
            root = own if is_own else repository
            pattern = pattern.removeprefix("book:")
            named = pattern in PLACES_AT_THE_END
            for path in sorted(root.glob(pattern)):
                name = path.relative_to(root).as_posix()
                if name in seen and not named:
                    continue
                seen.add(name)
                found.setdefault(part.title, []).append(name)
    return found
