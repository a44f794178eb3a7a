"""The rules of the house: who may import whom, read from the source (also from imports inside
functions), not from what happens to be loaded."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from uturn_lib.support.places import PACKAGE

# From the bottom to the top: a file may import from its own entry and from the lines above it.
# Entries of one line know nothing of one another.
# A file may have a line of its own, apart from its folder's; the most specific entry counts.
LAYERS = (
    ("support",),
    ("noise", "seeding"),
    ("measures",),  # tensors only: no denoiser, no network
    ("denoisers",),
    ("empirical", "local"),
    ("methods",),
    ("sampling",),
    ("uturn",),
    ("data",),
    ("networks",),
    ("profiles",),
    ("reports.plotting",),
    ("training", "claims"),
    ("api",),  # the public names
    ("experiments",),
    ("companions.flows",),
    ("companions.p2", "companions.p3", "companions.p4"),
    ("companions",),
    ("reports",),
    ("course",),
    ("cli",),
    ("__main__",),
)


def read(package: Path) -> dict[str, ast.Module]:
    """The syntax tree of every file, by the module's name within the package ("" is the package
    itself, "measures" a folder's ``__init__``)."""
    trees = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        trees[name] = ast.parse(path.read_text(encoding="utf-8"))
        trees[name].is_folder = parts[-1] == "__init__"
    return trees


def imports(
    module: str, trees: dict[str, ast.Module], package: str = "uturn_lib"
) -> list[tuple[str, str | None]]:
    """What a file imports of the package: (module, name), with None for a module as a whole."""
    found = []
    folder = module.split(".") if trees[module].is_folder else module.split(".")[:-1]
    folder = [part for part in folder if part]
    for node in ast.walk(trees[module]):
        if isinstance(node, ast.Import):
            names = [alias.name.partition(".") for alias in node.names]
            found += [(rest, None) for root, _, rest in names if root == package]
        elif isinstance(node, ast.ImportFrom):
            parts = (node.module or "").split(".") if node.module else []
            if node.level:
                parts = folder[: len(folder) - node.level + 1] + parts
            elif parts[:1] == [package]:
                parts = parts[1:]
            else:
                continue
            for alias in node.names:
                inner = ".".join([*parts, alias.name])
                found.append((inner, None) if inner in trees else (".".join(parts), alias.name))
    return found


def layer(module: str, layers=LAYERS) -> tuple[int, str] | None:
    """Number of the line and entry of ``module``: the longest entry that is the module or a folder
    around it."""
    around = [
        (entry.count("."), number, entry)
        for number, line in enumerate(layers)
        for entry in line
        if f"{module}.".startswith(f"{entry}.")
    ]
    return max(around)[1:] if around else None


def arrows_up(trees: dict[str, ast.Module], layers=LAYERS) -> list[str]:
    """Imports that do not run downwards, and files without a place. The package's own ``__init__``
    stands above all."""
    wrong = []
    for module in filter(None, trees):
        if layer(module, layers) is None:
            wrong.append(f"{module} has no layer")
            continue
        number, entry = layer(module, layers)
        for target, _ in imports(module, trees):
            below = layer(target, layers) if target else None
            if below is None or (below[0] >= number and below[1] != entry):
                wrong.append(f"{module} imports {target or 'the whole package'}")
    return wrong


def circle(trees: dict[str, ast.Module]) -> list[str]:
    """Files that import one another in a ring, or nothing."""
    graph = {module: {target for target, _ in imports(module, trees)} for module in trees}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def own_names(tree: ast.Module) -> set[str]:
    """All that a file defines: functions, classes, variables, attributes that it sets."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return names


def from_elsewhere(tree: ast.Module) -> set[str]:
    """Names that stand for modules of other packages, whose private parts are not this test's
    business."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    return {alias.asname or alias.name.partition(".")[0] for node in nodes for alias in node.names}


def root(node: ast.expr) -> str | None:
    """The first name of ``a.b.c``."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def private_uses(trees: dict[str, ast.Module]) -> list[str]:
    """Names with a leading underscore that a file takes from another one."""
    wrong = []
    for module, tree in trees.items():
        taken = [f"{target}.{name}" if name else target for target, name in imports(module, trees)]
        wrong += [
            f"{module} imports {name}" for name in taken if any(map(private, name.split(".")))
        ]
        own, foreign = own_names(tree), from_elsewhere(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and private(node.attr) and node.attr not in own:
                if root(node) not in foreign:
                    wrong.append(f"{module} uses {ast.unparse(node)}")
    return wrong


@pytest.fixture(scope="module")
def library():
    return read(PACKAGE)


def test_dependencies_run_downwards(library):
    assert len(library) > 40
    assert arrows_up(library) == []


def test_no_circle_between_files(library):
    assert circle(library) == []


def test_names_with_an_underscore_stay_in_their_file(library):
    assert private_uses(library) == []


def test_every_layer_exists(library):
    assert [entry for line in LAYERS for entry in line if entry not in library] == []


def house(folder, **files):
    """A small package: low.py, high/__init__.py, high/a.py, high/b.py, with other content where
    given."""
    sound = {
        "__init__": "from .high.a import f",
        "low": "import math\ndef g(x): return x",
        "high/__init__": "from .a import f",
        "high/a": "from ..low import g\nfrom .b import h\ndef f(x): return g(h(x))",
        "high/b": "import torch\nfrom uturn_lib import low\nclass H:\n"
        "    def _own(self): return self._own\ndef h(x): return torch._C, low.g(x)",
    }
    for name, text in (sound | files).items():
        path = folder / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return read(folder)


SMALL = (("low",), ("high",))


def test_a_sound_house_passes(tmp_path):
    trees = house(tmp_path)
    assert (arrows_up(trees, SMALL), circle(trees), private_uses(trees)) == ([], [], [])
    assert imports("high.a", trees) == [("low", "g"), ("high.b", "h")]


@pytest.mark.parametrize(
    "text",
    [
        "from .high.a import f",
        "from .high import a",
        "from uturn_lib.high import f",
        "import uturn_lib.high.b",
        "def late():\n    from .high import b",
        "from . import high",
        "from . import f",
    ],
)
def test_an_arrow_up_is_found(tmp_path, text):
    assert len(arrows_up(house(tmp_path, low=text), SMALL)) == 1


def test_neighbours_of_one_layer_and_homeless_files_are_found(tmp_path):
    trees = house(tmp_path, other="")
    assert arrows_up(trees, (("low", "high"), ("other",))) == [
        "high.a imports low",
        "high.b imports low",
    ]
    assert arrows_up(trees, SMALL) == ["other has no layer"]
    # a file with a line of its own, below its folder's
    assert arrows_up(trees, (("low",), ("high.b",), ("high", "other"))) == []
    assert arrows_up(trees, (("low",), ("high.a",), ("high", "other"))) == ["high.a imports high.b"]


@pytest.mark.parametrize(
    "text", ["from .a import f", "from . import a", "def late():\n    from . import f"]
)
def test_a_circle_is_found(tmp_path, text):
    assert {"high.a", "high.b"} <= set(circle(house(tmp_path, **{"high/b": text})))


@pytest.mark.parametrize(
    "text",
    [
        "from ..low import _g",
        "from .. import _low",
        "from .. import low\nlow._g(1)",
        "from ..low import g\nclass B(g):\n    def f(self): return self._hidden",
    ],
)
def test_a_private_name_of_another_file_is_found(tmp_path, text):
    assert len(private_uses(house(tmp_path, **{"high/b": text}))) == 1
