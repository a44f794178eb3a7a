"""Keys know the code: over every experiment, a changed formula misses the cache, a changed comment
hits it, and nothing that runs is forgotten."""

import ast
import sys
import time
from functools import partial

import numpy as np
import pytest
import torch
from conftest import make_tiny_network

from uturn_lib import GaussianDenoiser, load_classifier, load_noise_classifier
from uturn_lib.companions.p2 import dynamics
from uturn_lib.companions.p2.ablation import components
from uturn_lib.companions.p2.shortcuts import Cut, ShortcutDenoiser
from uturn_lib.companions.p3 import geometry
from uturn_lib.companions.p4 import duration
from uturn_lib.data import ImageSet
from uturn_lib.experiments import (
    affine,
    code,
    engine,
    exact,
    locality,
    paths,
    retention,
    scores,
    starts,
    study,
    sweeps,
)
from uturn_lib.experiments.study import Judge, Workbench, network_fingerprint, network_maker, same
from uturn_lib.networks.features import imagenet_extractor
from uturn_lib.sampling import Churn

OURS = {
    name: made
    for name, made in engine.EXPERIMENTS.items()
    if made.__module__.startswith("uturn_lib.")
}
PRESENTING = ("reports", "claims", "cli", "support.progress")
CPU = torch.device("cpu")


def small_chunks():
    """One small chunk of every experiment, with networks that have to be loaded where there are
    any."""
    x, labels = (
        torch.rand(400, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1,
        torch.arange(400) % 2,
    )
    data = ImageSet("toy", "train", x, labels, ("even", "odd"), "made here", "none", "toy")
    network, gaussian = make_tiny_network(2), GaussianDenoiser.fit(x)
    network.fingerprint = "tiny"
    tiny = Workbench(partial(same, network), "tiny", batch_size=4)
    shipped = Workbench(
        network_maker("mnist", CPU), network_fingerprint("mnist", CPU), batch_size=4
    )
    classifier = Judge(partial(load_classifier, "mnist-classifier", "cpu"), "mnist-classifier")
    digits = torch.zeros(2, 1, 32, 32)
    part = components(network.unet)[0]
    base = dynamics.flows.run.plan(tiny, 3, 4, path=True, chunk=3).chunks[0]
    shortcut = ShortcutDenoiser(network, [Cut(part, 0.0, 1.0)])
    run = {"sigma_u": 2.0, "steps": 3, "seed": 0, "first": 0}
    flow = {"count": 3, "sigma_max": 80.0, "seed": 0}
    arguments = {
        "u_turns": dict(
            bench=shipped, images=digits, labels=torch.tensor([0, 1]), method="edm", **run
        ),
        "from_start": dict(bench=tiny, gaussian=gaussian, labels=None, count=2, **run),
        "from_law": dict(
            bench=tiny, gaussian=gaussian, images=x[:2], labels=None, law="gaussian", sigma_max=80.0
        )
        | dict(method="sde", seed=0, first=0, steps=3),
        "paths": dict(bench=tiny, x_u=x[:2], labels=None, sigma_u=2.0, steps=3, shown=2, seed=0),
        "trajectory": dict(bench=tiny, x_u=x[:2], labels=None, sigma_u=2.0, steps=3, seed=0),
        "generations": dict(
            bench=tiny, labels=None, churn=Churn(), mask=None, steps=3, first=0, **flow
        ),
        "affine_residuals": dict(
            bench=tiny, gaussian=gaussian, fit_images=x[:20], held_out=x[20:30]
        )
        | dict(sigma=1.0, seed=0, ridge_components=4),
        "chain": dict(bench=Workbench.around(gaussian), images=x[:2], turns=2, total=2, **run),
        "spectra": dict(data=data),
        "mixture_agreement": dict(data=data, sigmas=[1.0], count=3, seed=0),
        "empirical_turns": dict(
            stored=data, images=x[:3], labels=labels[:3], own=torch.arange(3), sigma=1.0, seed=0
        ),
        "judged": dict(judge=classifier, images=digits),
        "image_features": dict(
            judge=Judge(partial(imagenet_extractor, "efficientnet-lite0"), "lite"), images=x[:2]
        ),
        "retained": dict(
            judge=classifier, y0=torch.rand(12, 3, 1, 32, 32), x0=torch.rand(3, 1, 32, 32)
        )
        | dict(
            labels=torch.arange(3),
            reference=torch.rand(9, 1, 32, 32),
            sigmas=tuple(np.geomspace(0.1, 80, 12)),
        )
        | dict(level=0.5),
        "deviations": dict(bench=tiny, stored=data, labels=None, steps=3, path="model", **flow),
        "identities": dict(
            outputs=x[None, :3], starts=x[:3], reference=x, data=data, gaussian=gaussian
        )
        | dict(levels=[1.0], seed=0),
        "retained_in_space": dict(
            outputs=torch.rand(12, 3, 5), reference=torch.rand(9, 5), own=torch.arange(3)
        )
        | dict(training=6, sigmas=tuple(np.geomspace(0.1, 80, 12))),
        "noisy_classes": dict(
            judge=Judge(partial(load_noise_classifier, "mnist-noise-classifier", "cpu"), "noisy")
        )
        | dict(
            images=torch.zeros(20, 1, 32, 32),
            labels=torch.arange(20) % 10,
            sigma=1.0,
            draws=2,
            seed=0,
        ),
        "denoising_errors": dict(bench=tiny, images=x[:3], labels=labels[:3], sigma=1.0)
        | dict(draws=2, seed=0, first=0),
        "class_surprise": dict(
            judge=Judge(partial(load_noise_classifier, "mnist-noise-classifier", "cpu"), "noisy")
        )
        | dict(images=digits, labels=torch.tensor([0, 1]), sigma=1.0, draws=2, seed=0),
        "mixture_entropies": dict(
            bench=Workbench(partial(exact.fitted_mixture, data), "mixture"),
            sigmas=[1.0],
            count=3,
            seed=0,
        ),
        "traits_of": dict(
            judge=classifier, images=torch.rand(3, 1, 32, 32), reference=torch.rand(30, 1, 32, 32)
        ),
        "locally_denoised": dict(
            bench=Workbench(partial(locality.patch_score, data, 3, CPU), "patches"), images=x[:3]
        )
        | dict(sigma=1.0, seed=0),
        "gaussian_gap": dict(gaussian=gaussian, sigma=1.0, patch=3),
        "outputs_compared": dict(outputs=x[:3], starts=x[:3], reference=x, training=300),
        "draws_compared": dict(
            denoiser=gaussian, starts=x[:3], reference=x, training=300, sigma=1.0, seed=0
        ),
        "identity_of": dict(outputs=x[None, :3], starts=x[:3], reference=x),
        "flow": dict(
            bench=Workbench.around(shortcut), method="dpmpp", steps=3, path=True, first=0, **flow
        ),
        "effect_of_part": dict(bench=tiny, base=base, part=part, steps=4, **flow),
        "times_of": dict(
            bench=tiny, runs=[(shortcut, "euler", 2)], rounds=1, batch=1, sigma_max=80.0, again=0
        )
        | dict(machine="here"),
        "shape": dict(bench=tiny, steps=4, method="euler", **flow),
        "errors_of_solvers": dict(
            bench=tiny, methods=["pndm"], budgets=[4], reference_steps=4, **flow
        ),
        "leading_mixture": dict(data=data, count=400, coordinates=4, components=2),
        "squares_at": dict(
            bench=Workbench(partial(exact.fitted_mixture, data), "mixture"), others=[gaussian]
        )
        | dict(target=duration.NoData(), images=x[:3], sigma=1.0, seed=0),
        "ascents": dict(
            bench=tiny, images=x[:2], priors=[None, gaussian], times=[1.0, 8.0], steps=4, seed=0
        ),
        "from_auxiliary": dict(
            bench=tiny, law=duration.fit_mixture(gaussian, x, 4, 2), count=2, **run
        ),
    }
    return {name: OURS[name].chunks([given])[0] for name, given in arguments.items()}


@pytest.fixture(scope="module")
def chunks():
    return small_chunks()


@pytest.fixture
def edited(monkeypatch):
    """Replace the source of modules, for the questions of ``code`` only: ``edited({module:
    text})``; without arguments as on disk."""
    real = code.source.__wrapped__

    def edit(texts=None):
        monkeypatch.setattr(
            code, "source", lambda module: (texts or {}).get(module) or real(module)
        )
        code.digest.cache_clear()

    yield edit
    monkeypatch.undo()
    code.forget()


def behind(chunk):
    """The code that a chunk's key covers."""
    return code.closure([chunk.experiment.function, *engine.code_behind(chunk.arguments)])


def keys(chunks):
    return {name: chunk.experiment.code(chunk.arguments) for name, chunk in chunks.items()}


def other_formula(text, name=None):
    """``text`` with one operation more, in the function or class ``name`` or at the end."""
    tree = ast.parse(text)
    more = ast.parse("2 ** 0.5").body
    where = (
        tree
        if name is None
        else next(node for node in tree.body if getattr(node, "name", None) == name)
    )
    where.body.extend(more)
    return ast.unparse(ast.fix_missing_locations(tree))


def other_words(text):
    """``text`` with other comments, docstrings, annotations of functions and layout."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if (
            ast.get_docstring(node)
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
            else None
        ):
            node.body[0] = ast.parse("'other words'").body[0]
        if isinstance(node, ast.FunctionDef):
            node.returns = ast.Constant(None)
    return "# a comment\n" + ast.unparse(ast.fix_missing_locations(tree)) + "\n# the end\n"


def test_there_is_a_chunk_of_every_experiment(chunks):
    assert set(chunks) == set(OURS)


def test_a_changed_formula_changes_the_keys_of_all_that_depend_on_it_and_of_no_other(
    chunks, edited
):
    edited()
    before, closures = keys(chunks), {name: behind(chunk) for name, chunk in chunks.items()}
    for module in sorted(set().union(*(found.modules for found in closures.values()))):
        edited({module: other_formula(code.source(module))})
        after = keys(chunks)
        edited()
        for name, found in closures.items():
            own = module in {
                part for part, _ in found.parts
            }  # there the change is outside of what is used
            assert (after[name] != before[name]) == (module in found.modules or own), (module, name)


def test_a_changed_experiment_changes_its_key_and_its_neighbours_do_not(chunks, edited):
    edited()
    before = keys(chunks)
    for name, chunk in chunks.items():
        module = chunk.experiment.__module__
        edited({module: other_formula(code.source(module), name)})
        after = keys(chunks)
        edited()
        assert after[name] != before[name], name
        beside = [other for other in chunks if other != name and OURS[other].__module__ == module]
        assert all(after[other] == before[other] for other in beside), name


def test_changed_words_change_no_key(chunks, edited):
    edited()
    before = keys(chunks)
    modules = set().union(
        *(behind(chunk).modules | {m for m, _ in behind(chunk).parts} for chunk in chunks.values())
    )
    edited({module: other_words(code.source(module)) for module in modules})
    assert keys(chunks) == before


def test_no_experiment_depends_on_what_only_presents(chunks):
    for name, chunk in chunks.items():
        found = behind(chunk)
        modules = found.modules | {module for module, _ in found.parts}
        shown = [
            module for module in modules if module.removeprefix("uturn_lib.").startswith(PRESENTING)
        ]
        assert shown == [] and "uturn_lib.experiments.engine" not in modules, name


def top_level_name(module, line):
    """The function or class of a module that the code of ``line`` stands in."""
    for node in ast.parse(code.source(module)).body:
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        if first <= line <= node.end_lineno:
            return getattr(node, "name", "")
    return ""


HOLDERS = {
    ("uturn_lib.experiments.study", name) for name in ("Workbench", "Judge")
}  # they hold a network, and call its maker


@pytest.mark.parametrize("name", sorted(OURS))
def test_all_code_that_runs_is_in_the_key(chunks, name):
    """Every function of the library that is called while a chunk is computed, networks loaded anew,
    lies in the closure."""
    chunk, ran = chunks[name], set()
    arguments = {
        k: engine.run_chunk(v) if isinstance(v, engine.Chunk) else v
        for k, v in chunk.arguments.items()
    }
    study.build_denoiser.cache_clear()
    for holder in arguments.values():
        vars(holder).pop("denoiser", None) if isinstance(holder, Workbench) else None
        vars(holder).pop("network", None) if isinstance(holder, Judge) else None

    def record(frame, event, _):
        module = frame.f_globals.get("__name__", "")
        if (
            event == "call"
            and module.startswith("uturn_lib")
            and frame.f_code.co_name != "<module>"
        ):
            ran.add((module, frame.f_code.co_firstlineno))

    sys.setprofile(record)
    try:
        chunk.experiment.function(**arguments)
    finally:
        sys.setprofile(None)
    found = behind(chunk)
    outside = {
        (module, top_level_name(module, line))
        for module, line in ran
        if module not in found.modules
    }
    assert {m for m, _ in ran} - {chunk.experiment.__module__} or name in (
        "judged",
        "image_features",
    )
    assert outside - found.parts - HOLDERS == set()


def test_code_of_other_packages_and_of_readers():
    class Mine:
        fingerprint = "mine"

        def __call__(self, x, sigma, labels=None):
            return x

    class Other(Mine):
        def __call__(self, x, sigma, labels=None):
            return 2 * x

    assert code.digest(Mine) != code.digest(Other)
    assert list(code.makers(Workbench.around(Mine()))) == [same, Mine]
    assert list(code.makers(partial(exact.fitted_mixture, Mine()))) == [exact.fitted_mixture, Mine]
    assert code.digest(eval("lambda: 1")) == code.digest(
        eval("lambda: 2")
    )  # typed at a prompt: the fingerprint alone


def test_imports_inside_functions_and_constants_count(edited, tmp_path, monkeypatch):
    texts = {
        "uturn_lib.experiments.low": "RHO = 7\ndef g(x): return x ** RHO",
        "uturn_lib.experiments.high": "A, B = 1, 2\ndef f(x):\n    from .low import g\n"
        "    return g(A * x)\ndef h(x): return B\nprint('loaded')",
    }
    real = code.source.__wrapped__
    monkeypatch.setattr(code, "source", lambda module: texts.get(module) or real(module))

    def f():
        """Stands for the function of that name."""

    f.__module__, f.__qualname__ = "uturn_lib.experiments.high", "f"

    def digest():
        code.digest.cache_clear()
        return code.digest(f)

    first, seen = digest(), set()
    for module, old, new, changes in (
        ("low", "RHO = 7", "RHO = 5", True),
        ("high", "A * x", "B * x", True),
        ("high", "A, B = 1, 2", "A, B = 1, 3", True),
        ("high", "return B", "return 3 * B", False),
        ("high", "'loaded'", "'read'", True),
    ):
        name = f"uturn_lib.experiments.{module}"
        kept, texts[name] = texts[name], texts[name].replace(old, new)
        assert (digest() != first) == changes, (old, new)
        seen.add(digest())
        texts[name] = kept
    assert len(seen) == 5


def test_the_code_is_read_fast(chunks):
    """Once per process: less than a tenth of a second of processor time for a network's sweep."""
    spent = []
    for _ in range(3):
        code.forget()
        code._parsed.cache_clear()
        begun = time.process_time()
        chunks["u_turns"].experiment.code(chunks["u_turns"].arguments)
        spent.append(time.process_time() - begun)
    assert min(spent) < 0.1, spent
    begun = time.process_time()
    for _ in range(100):
        chunks["u_turns"].experiment.code(chunks["u_turns"].arguments)
    assert (time.process_time() - begun) / 100 < 1e-3


# what the experiments are declared in, so that all are registered
_ = (affine, exact, geometry, paths, retention, scores, starts, sweeps)
