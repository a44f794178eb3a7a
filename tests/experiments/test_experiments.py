import json
import os
import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import make_tiny_network

from uturn_lib import Churn, EmpiricalDenoiser, experiments, load_data
from uturn_lib.claims.verdicts import OPEN
from uturn_lib.data import ImageSet
from uturn_lib.experiments import engine
from uturn_lib.measures import correlation
from uturn_lib.noise import proportional_steps
from uturn_lib.profiles import PROFILES, QUALITY_LEVELS
from uturn_lib.reports import plotting
from uturn_lib.support.files import atomic_path
from uturn_lib.support.places import ROOT, cache_folder, figure_folder


def starts_from(gaussian, count=12):
    return ImageSet(
        "toy",
        "test",
        gaussian.sample(range(count)).float(),
        torch.zeros(count, dtype=torch.int64),
        ("only",),
        "made here",
        "none",
        f"toy:{count}",
    )


class Counted:
    """A denoiser that counts its calls."""

    def __init__(self, denoiser):
        self.denoiser, self.calls = denoiser, 0
        self.fingerprint, self.sample_shape = denoiser.fingerprint, denoiser.sample_shape

    def __call__(self, x, sigma, labels=None):
        self.calls += 1
        return self.denoiser(x, sigma, labels)


def test_a_sweep_is_the_turns_one_by_one_and_is_computed_once(gaussian):
    from uturn_lib import u_turn
    from uturn_lib.noise import proportional_steps

    counted = Counted(gaussian)
    bench, starts = experiments.Workbench.around(counted), starts_from(gaussian)
    sweep = experiments.u_turn_sweep(bench, starts, (0.5, 2.0), steps=20, chunk=5)
    assert sweep.y0.shape == (2, 12, 6)
    direct = u_turn(gaussian, starts.images, 2.0, steps=proportional_steps(2.0, 20))
    torch.testing.assert_close(sweep.y0[1], direct.y0)
    torch.testing.assert_close(sweep.denoised[1], direct.denoised)
    calls = counted.calls
    again = experiments.u_turn_sweep(bench, starts, (0.5, 2.0), steps=20, chunk=5)
    assert counted.calls == calls and torch.equal(again.y0, sweep.y0)


@pytest.mark.parametrize(
    "change",
    [
        dict(steps=40),
        dict(seed=1),
        dict(method="ode"),
        dict(sigmas=(0.6,)),
        dict(starts="other"),
        dict(denoiser="other"),
    ],
)
def test_every_input_is_in_the_key(gaussian, mixture, change):
    counted = Counted(gaussian)
    settings = dict(sigmas=(0.5,), steps=20, seed=0, method="sde")
    experiments.u_turn_sweep(
        experiments.Workbench.around(counted), starts_from(gaussian), **settings
    )
    calls = counted.calls
    starts = starts_from(gaussian)
    if change.pop("starts", None):
        starts = replace(starts, images=starts.images + 0.01)
    if change.pop("denoiser", None):
        counted.fingerprint = "another"
    experiments.u_turn_sweep(experiments.Workbench.around(counted), starts, **(settings | change))
    assert counted.calls > calls


@pytest.mark.parametrize("kind", ["truncated", "empty", "other inputs"])
def test_a_damaged_result_is_computed_again(gaussian, kind):
    counted = Counted(gaussian)
    bench, starts = experiments.Workbench.around(counted), starts_from(gaussian, 4)
    good = experiments.u_turn_sweep(bench, starts, (0.5,), steps=10)
    (file,) = (p for p in cache_folder().rglob("*.npz"))
    if kind == "other inputs":
        with np.load(file) as stored:
            arrays = dict(stored) | {"parameters": np.array("{}")}
        np.savez(file, **arrays)
    else:
        file.write_bytes(b"" if kind == "empty" else file.read_bytes()[:-300])
    calls = counted.calls
    with pytest.warns(UserWarning, match="computed again"):
        again = experiments.u_turn_sweep(bench, starts, (0.5,), steps=10)
    assert counted.calls > calls and torch.equal(again.y0, good.y0)


def test_results_are_readable_without_us(gaussian):
    experiments.u_turn_sweep(
        experiments.Workbench.around(gaussian), starts_from(gaussian, 3), (0.5,), steps=10
    )
    (file,) = cache_folder().rglob("*.npz")
    with np.load(file, allow_pickle=False) as stored:
        parameters = json.loads(str(stored["parameters"]))
        assert stored["y0"].shape == (3, 6)
    assert parameters["sigma_u"] == 0.5 and parameters["bench"] == gaussian.fingerprint


def test_nothing_is_left_when_a_chunk_fails(gaussian):
    class Broken(Counted):
        def __call__(self, x, sigma, labels=None):
            return (
                torch.full_like(x, float("nan"))
                if self.calls > 20
                else super().__call__(x, sigma, labels)
            )

    broken = Broken(gaussian)
    with pytest.raises(FloatingPointError):
        experiments.u_turn_sweep(
            experiments.Workbench.around(broken),
            starts_from(gaussian),
            (0.5, 2.0),
            steps=20,
            chunk=6,
        )
    kept = list(cache_folder().rglob("*"))
    done = [path for path in kept if path.suffix == ".npz"]
    assert len(done) == 2 and all(
        not path.name.startswith(".") for path in kept if path.is_file()
    )  # the whole first level, no scraps
    broken.calls = -10_000  # mended: it continues, computing only what is missing
    experiments.u_turn_sweep(
        experiments.Workbench.around(broken), starts_from(gaussian), (0.5, 2.0), steps=20, chunk=6
    )


def test_a_killed_sweep_continues(gaussian, tmp_path):
    """kill -9 in the middle: the chunks that were finished are there, whole, and the rest is
    computed by the next run."""
    script = tmp_path / "sweep.py"
    script.write_text(f"""
import sys, time, torch
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}, {str(ROOT / "tests" / "experiments")!r}]
from test_experiments import Counted, starts_from
from uturn_lib import GaussianDenoiser, experiments
class Slow(Counted):
    def __call__(self, x, sigma, labels=None):
        time.sleep(0.01)
        return super().__call__(x, sigma, labels)
gaussian = GaussianDenoiser(torch.zeros(6), torch.eye(6))
bench, starts = experiments.Workbench.around(Slow(gaussian)), starts_from(gaussian, 40)
experiments.u_turn_sweep(bench, starts, (1.0,), steps=20, chunk=2)
""")
    environment = os.environ | {"UTURN_PROGRESS": "off"}
    process = subprocess.Popen([sys.executable, str(script)], env=environment, cwd=ROOT)
    deadline = time.monotonic() + 60
    while (
        process.poll() is None
        and time.monotonic() < deadline
        and len(list(cache_folder().rglob("[!.]*.npz"))) < 3
    ):
        time.sleep(0.02)
    process.kill()
    process.wait()
    finished = {path: path.stat().st_mtime_ns for path in cache_folder().rglob("[!.]*.npz")}
    assert 3 <= len(finished) < 20
    assert (
        subprocess.run(
            [sys.executable, str(script)], env=environment, cwd=ROOT, timeout=120
        ).returncode
        == 0
    )
    assert all(path.stat().st_mtime_ns == when for path, when in finished.items())
    assert len(list(cache_folder().rglob("[!.]*.npz"))) == 20


def test_an_executor_changes_nothing(gaussian, monkeypatch, tmp_path):
    bench, starts = experiments.Workbench.around(gaussian), starts_from(gaussian)
    serial = experiments.u_turn_sweep(bench, starts, (0.5, 3.0), steps=12, chunk=4)
    monkeypatch.setenv("UTURN_CACHE", str(tmp_path / "second"))
    with ThreadPoolExecutor(3) as executor:
        spread = experiments.u_turn_sweep(
            bench, starts, (0.5, 3.0), steps=12, chunk=4, executor=executor
        )
    torch.testing.assert_close(serial.y0, spread.y0, atol=1e-6, rtol=0)


def test_chunks_travel_to_other_processes(monkeypatch, tmp_path):
    """Workers that know nothing but what is sent to them; the data of a study stay at home."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    study = experiments.prepare("laptop", "cpu")
    starts = study.test.take(4)
    settings = {"steps": 4, "chunk": 2}
    plan = experiments.u_turn_sweep.plan(study, starts, (0.5, 2.0), **settings)
    assert len(pickle.dumps(plan.chunks)) < 200_000 and "denoiser" not in vars(study)
    serial = plan.run()
    assert (
        len(pickle.dumps(plan.chunks)) < 200_000
    )  # the network that was loaded stays at home as well
    monkeypatch.setenv("UTURN_CACHE", str(tmp_path / "second"))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        spread = experiments.u_turn_sweep(study, starts, (0.5, 2.0), executor=executor, **settings)
    torch.testing.assert_close(serial.y0, spread.y0, atol=1e-5, rtol=0)
    assert {chunk.path for chunk in plan.chunks} == set(
        cache_folder().rglob("*.npz")
    )  # the same keys there


def test_two_processes_share_a_sweep(tmp_path):
    """Each piece is computed once, by one of them, and both end with the same results."""
    program = """
import sys, time, torch
sys.path[:0] = ["tests", "tests/experiments"]
from test_experiments import Counted, experiments, starts_from
from uturn_lib import GaussianDenoiser
class Slow(Counted):
    def __call__(self, x, sigma, labels=None):
        time.sleep(0.002)
        return super().__call__(x, sigma, labels)
slow = Slow(GaussianDenoiser(torch.zeros(6), torch.eye(6)))
bench, starts = experiments.Workbench.around(slow), starts_from(slow.denoiser, 40)
sweep = experiments.u_turn_sweep(bench, starts, (1.0,), steps=20, chunk=2)
print(slow.calls, float(sweep.y0.sum()))
"""
    environment = os.environ | {"UTURN_CACHE": str(tmp_path / "shared"), "UTURN_PROGRESS": "off"}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=120)[0].split() for process in both]
    alone = next(iter(cache_folder().parent.glob("shared/u_turns")))
    assert len(list(alone.glob("[!.]*.npz"))) == 20
    from uturn_lib.noise import proportional_steps

    assert sum(int(calls) for calls, _ in outputs) == 20 * proportional_steps(1.0, 20)
    assert outputs[0][1] == outputs[1][1]


def test_what_another_process_computes_is_left_for_last(monkeypatch):
    """A locked chunk is not waited for while there is other work."""
    order, chunks = [], numbered.chunks([{"number": number} for number in range(3)])

    def compute(number):
        order.append(number)
        if len(order) == 2:
            lock.release()
        return {"value": np.array(number)}

    monkeypatch.setattr(numbered, "function", compute)
    lock = chunks[0].lock
    lock.acquire()
    results = engine.run_chunks(chunks, "test")
    assert order == [1, 2, 0] and [int(result["value"]) for result in results] == [0, 1, 2]


@engine.experiment("value", calls=lambda number: 10 * number)
def numbered(number):
    """Its number."""
    return {"value": np.array(number)}


@engine.experiment("value")
def doubled(other, factor=2):
    """A multiple of another experiment's number."""
    return {"value": factor * other["value"]}


def test_a_chunk_can_need_another_one():
    (one,) = numbered.chunks([{"number": 3}])
    (two,) = doubled.chunks([{}], other=one)
    assert two.inputs == {"other": one.name, "factor": 2} and (one.calls, two.calls) == (30, 0)
    assert int(engine.run_chunk(two)["value"]) == 6 and one.path.is_file()
    assert int(doubled(one, factor=5)["value"]) == 15


def test_what_cannot_be_told_apart_is_refused():
    with pytest.raises(ValueError, match=r"numbered: number is a object without a fingerprint"):
        numbered.chunks([{"number": object()}])
    with pytest.raises(ValueError, match=r"doubled: other\['x'\]\[1\] is a function"):
        doubled.chunks([{"other": {"x": [1, lambda: 0]}}])
    with pytest.raises(TypeError, match="colour"):
        numbered.chunks([{"number": 1, "colour": 2}])
    with pytest.raises(ValueError, match="two experiments are called u_turns"):
        exec(
            "def u_turns(): pass\nexperiment()(u_turns)",
            {"experiment": engine.experiment, "__name__": "elsewhere"},
        )


def test_arrays_other_than_the_declared_ones_are_refused(monkeypatch):
    monkeypatch.setattr(numbered, "function", lambda number: {"values": np.array(number)})
    with pytest.raises(ValueError, match="numbered gave values; declared: value"):
        numbered(1)


def test_tensors_of_other_shape_or_type_have_other_keys():
    x = torch.zeros(2, 3)
    keys = {
        numbered.chunks([{"number": y}])[0].name
        for y in (x, x.T, x.flatten(), x.long(), x.double(), x + 1)
    }
    assert len(keys) == 6


def test_a_plan_computes_nothing_and_its_chunks_are_those_of_the_run(gaussian):
    counted = Counted(gaussian)
    bench, starts = experiments.Workbench.around(counted), starts_from(gaussian)
    plan = experiments.u_turn_sweep.plan(bench, starts, (0.5, 2.0), steps=20, chunk=5)
    assert counted.calls == 0 and not any(cache_folder().rglob("*.npz")) and len(plan.chunks) == 6
    made = experiments.u_turn_sweep(bench, starts, (0.5, 2.0), steps=20, chunk=5)
    assert {chunk.path for chunk in plan.chunks} == set(cache_folder().rglob("*.npz"))
    assert sum(chunk.calls for chunk in plan.chunks) == 12 * sum(
        proportional_steps(s, 20) for s in (0.5, 2.0)
    )
    assert torch.equal(plan.run().y0, made.y0)


def test_independent_levels_have_their_own_noise(gaussian):
    bench, starts = experiments.Workbench.around(gaussian), starts_from(gaussian, 400)
    for independent, expected in ((False, 1.0), (True, 0.0)):
        sweep = experiments.u_turn_sweep(
            bench, starts, (50.0, 60.0), 12, chunk=400, independent=independent
        )
        a, b = (
            y0 - y0.mean(0) for y0 in sweep.y0
        )  # far beyond the data: the output knows the noise only
        found = float((a * b).sum() / (a.norm() * b.norm()))
        assert abs(found - expected) < (0.1 if independent else 0.05)


def test_the_pipeline_reproduces_the_closed_form_on_gaussian_data(gaussian):
    starts = starts_from(gaussian, 3000)
    sigmas = (0.3, 1.0, 4.0)
    sweep = experiments.u_turn_sweep(
        experiments.Workbench.around(gaussian, batch_size=3000),
        starts,
        sigmas,
        steps=96,
        chunk=3000,
    )
    for sigma, y0, denoised in zip(sigmas, sweep.y0, sweep.denoised, strict=True):
        exact = correlation.gaussian_correlation(gaussian.eigenvalues, sigma)
        whole = correlation.uturn_correlation_estimate(sweep.x0, y0, gaussian.mean)
        assert abs(whole.value - exact) < 3 * (whole.high - whole.low) / 3.92
        gap = correlation.identity_gap_estimate(
            sweep.x0, denoised, y0, gaussian.mean, confidence=0.99
        )
        assert gap.contains(0)


def test_a_conditional_sweep_gives_each_image_its_own_label(mixture):
    """Unequal labels, blocks that cut the list, against u_turn one label at a time."""
    from uturn_lib import u_turn
    from uturn_lib.noise import proportional_steps

    x0, labels = mixture.sample(range(11))
    starts = ImageSet(
        "toy", "test", x0.float(), labels, ("a", "b", "c"), "made here", "none", "toy"
    )
    bench = experiments.Workbench.around(mixture)
    sweep = experiments.u_turn_sweep(bench, starts, (3.0,), steps=20, conditional=True, chunk=4)
    for index in range(11):
        one = slice(index, index + 1)
        alone = u_turn(
            mixture,
            starts.images[one],
            3.0,
            steps=proportional_steps(3.0, 20),
            labels=labels[one],
            indices=[index],
        )
        torch.testing.assert_close(sweep.y0[0, one], alone.y0)
    free = experiments.u_turn_sweep(bench, starts, (3.0,), steps=20, chunk=4)
    assert not torch.allclose(free.y0, sweep.y0)


def test_a_longer_list_reuses_the_blocks_of_a_shorter_one(gaussian):
    counted = Counted(gaussian)
    bench = experiments.Workbench.around(counted)
    short = experiments.u_turn_sweep(bench, starts_from(gaussian, 8), (0.5,), steps=20, chunk=4)
    calls = counted.calls
    long = experiments.u_turn_sweep(bench, starts_from(gaussian, 12), (0.5,), steps=20, chunk=4)
    assert counted.calls == calls * 3 // 2 and torch.equal(long.y0[:, :8], short.y0)


def test_transitions_on_two_clouds_with_a_known_answer(monkeypatch):
    """T_s of two clouds on a line, by quadrature of E sum_k p(k | x_u)^2; the classifier is the
    sign of the coordinate."""
    from scipy.optimize import brentq

    from uturn_lib import GaussianMixtureDenoiser
    from uturn_lib.measures import retention

    pair = GaussianMixtureDenoiser([0.5, 0.5], [[-2.0], [2.0]], [0.09, 0.09])
    x0, labels = pair.sample(range(500))
    toy = ImageSet("toy", "test", x0, labels, ("left", "right"), "made here", "none", "toy")

    class Sign:
        fingerprint = "the sign of the coordinate"

        def predict(self, images):
            return (images[:, 0] > 0).long()

    sigmas = tuple(np.geomspace(0.02, 40, 16))
    profile = replace(PROFILES["laptop"], sigmas=sigmas, ground_truths=300, steps=64, chunk=300)
    study = experiments.Study(
        lambda: pair,
        pair.fingerprint,
        profile=profile,
        train=replace(toy, images=x0[:0]),
        test=toy,
        batch_size=300,
    )
    study.classifier = Sign()
    found = experiments.transitions(study)
    grid = torch.linspace(-400, 400, 400_001, dtype=torch.float64)[:, None]

    def kept(log_sigma):
        sigma = float(np.exp(log_sigma))
        share = retention.agreement(pair.responsibilities(grid, sigma))
        return float((pair.log_prob(grid, sigma).exp() * share).sum() * (grid[1] - grid[0]))

    crossing = np.exp(brentq(lambda s: kept(s) - 0.75, -1, 3))
    # the fitted logistic is not the true curve: its own bias at the crossing, from the noiseless
    # curve, is part of the answer
    fitted = np.exp(
        retention.fit_centres(
            np.log(sigmas), np.array([[kept(np.log(s)) for s in sigmas]]), floor=0.5
        )[0]
    )
    assert found.t_s.contains(fitted) and abs(np.log(fitted / crossing)) < 0.1
    assert found.identity.shape == found.same_class.shape == (16, 300)
    assert (
        found.identity[0].double().mean() > found.identity[-1].double().mean()
        and found.t_m.high < found.t_s.low
    )
    assert found.log_gap.low > 0

    # T_s may be read where a network that is told the class keeps it, and not where it paints
    # another one
    assert experiments.class_gate(study) == OPEN

    class Contrary:
        fingerprint = "told one class it paints the other"

        def __call__(self, x, sigma, labels=None):
            return pair(x, sigma, None if labels is None else 1 - labels)

        def __getattr__(self, name):
            return getattr(pair, name)

    contrary = replace(study, make_denoiser=Contrary, fingerprint=Contrary.fingerprint)
    contrary.classifier = Sign()
    gate = experiments.class_gate(contrary)
    assert "class retention with the label given is 0." in gate.closed and np.isnan(
        gate.seen(found.t_s).value
    )
    unlabelled = replace(study, profile=replace(profile, labels="never"))
    assert "takes no labels" in experiments.class_gate(unlabelled).closed


def test_late_starts_are_judged_beyond_t_m_and_where_they_save_calls():
    study = SimpleNamespace(
        profile=replace(PROFILES["laptop"], quality_sigmas=QUALITY_LEVELS, steps=48)
    )
    found = experiments.late_levels(study, 1.8)
    assert list(found) == [4.0, 8.0, 14.0] and all(
        n * 1.2 <= study.profile.steps for n in found.values()
    )
    assert found == {s: proportional_steps(s, study.profile.steps, 80.0) for s in found}
    assert list(experiments.late_levels(study, 50.0)) == [
        30.0
    ]  # none is so high: the highest that saves enough
    with pytest.raises(ValueError, match="no quality level"):
        experiments.late_levels(
            SimpleNamespace(profile=replace(PROFILES["laptop"], quality_sigmas=(80.0,))), 1.8
        )


def gaussian_bench():
    from uturn_lib import GaussianDenoiser

    return experiments.Workbench.around(Counted(GaussianDenoiser(torch.zeros(300), torch.eye(300))))


def test_generation_ks_is_at_the_null_rate_for_gaussian_data():
    path = experiments.generation_path(gaussian_bench(), 256, steps=12, sets=3, sigma_max=20.0)
    assert path.sigmas[0] == 20.0 and path.sigmas[-1] == 0 and path.ks.shape == (3, 13, 300)
    rate = (path.ks > 0.06).mean(axis=(0, 2))
    assert (
        np.abs(rate - 0.026).max() < 4 * (0.026 * 0.974 / 900) ** 0.5
    )  # Gaussian at every step, from noise to data
    assert (
        np.abs(np.corrcoef(path.ks[:, 0])[np.triu_indices(3, 1)]).max() < 4 / 300**0.5
    )  # the sets are independent


def test_norms_and_correlations_along_a_generation_follow_their_formulas():
    """Isotropic Gaussian data: |sigma s| and |D| concentrate on the root of their mean square, and
    the schedule alone gives the correlation with the first state as long as the noise is longer
    than the data."""
    from uturn_lib import GaussianDenoiser
    from uturn_lib.measures import norms

    data = GaussianDenoiser(torch.full((400,), 0.5), 0.25 * torch.eye(400))
    path = experiments.generation_path(experiments.Workbench.around(data), 200, steps=256, sets=1)
    for step in (110, 160, 220):
        sigma = path.raised[step]
        for found, expected in (
            (path.score_norm[0, step], norms.gaussian_score_norm(data.eigenvalues, sigma)),
            # E|D|^2 = |mu|^2 + sum lambda^2 / (lambda + sigma^2), with |mu|^2 = 100, lambda = 0.25
            (path.denoised_norm[0, step], (100 + 400 * 0.25**2 / (0.25 + sigma**2)) ** 0.5),
        ):
            # the mean of norms is below the root of the mean square by about var / (2 mean)
            error = 4 * found.std() / 200**0.5 + found.var() / found.mean()
            assert abs(found.mean() - expected) < error + 0.01 * expected
    first = path.with_first[0].sum(1) / path.with_first[0, 0].sum()
    schedule = correlation.schedule_correlation(path.sigmas, path.raised[:-1])
    assert np.abs(first - schedule)[:10].max() < 0.02
    assert (path.raised[:-1] >= path.sigmas[:-1]).all() and (path.raised > path.sigmas).any()


@pytest.mark.parametrize(
    "change",
    [
        dict(steps=5),
        dict(sigma_max=9.0),
        dict(seed=1),
        dict(churn=Churn(s_noise=1.0)),
        dict(mask=torch.arange(300) > 9),
    ],
)
def test_every_input_of_the_ks_generation_is_in_its_key(change):
    bench = gaussian_bench()
    good = dict(count=16, steps=4, sets=2, sigma_max=10.0)
    experiments.generation_path(bench, **good)
    calls = bench.denoiser.calls
    experiments.generation_path(bench, **good)
    assert bench.denoiser.calls == calls
    experiments.generation_path(bench, **(good | change))
    assert bench.denoiser.calls > calls


def test_a_denoiser_without_fingerprint_is_refused():
    with pytest.raises(ValueError, match="fingerprint"):
        experiments.Workbench.around(lambda x, sigma, labels=None: x)
    with pytest.raises(ValueError, match="fingerprint"):
        experiments.Workbench.around(make_tiny_network())  # never saved


def test_unknown_profile_and_device():
    with pytest.raises(ValueError, match="profile = 'desktop'.*'laptop'"):
        experiments.prepare("desktop")
    with pytest.raises(ValueError, match="not a torch device"):
        experiments.prepare("laptop", "gpu")


# ----------------------------------------------------------------------------------- files, figures


def test_files_are_written_whole_or_not_at_all(tmp_path):
    target = tmp_path / "result.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError):
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_figures_are_the_same_file_twice():
    def draw():
        figure, axes = plotting.plt.subplots(figsize=(2, 2))
        axes.plot([1, 2], [1, 2])
        plotting.save_figure(figure, "laptop", "fig99_test")
        plotting.plt.close(figure)
        return {path.name: path.read_bytes() for path in figure_folder("laptop").glob("fig99*")}

    first = draw()
    assert set(first) == {"fig99_test.png", "fig99_test.pdf"} and draw() == first


def test_the_time_axis_on_top_stands_over_the_right_noise_levels():
    from uturn_lib.noise import vp_time_to_sigma

    figure, axes = plotting.plt.subplots()
    axes.plot([0.002, 80.0], [0, 1])
    plotting.sigma_axis(axes, vp_time=True)
    figure.canvas.draw()
    (top,) = axes.child_axes
    for t in (0.1, 0.5, 1.0, 2.0, 4.0):
        above, below = (
            top.transData.transform((t, 0))[0],
            axes.transData.transform((vp_time_to_sigma(t), 0))[0],
        )
        assert abs(above - below) < 1.0, t  # pixels
    plotting.plt.close(figure)


def test_a_memorising_score_does_not_deviate_from_itself():
    stored = load_data("digits", "train").take(50)
    memory = EmpiricalDenoiser(stored.images)
    found = experiments.deviation(experiments.Workbench.around(memory), stored, count=6, steps=10)
    assert (
        found.sigmas[0] == pytest.approx(80)
        and (np.diff(found.sigmas) < 0).all()
        and found.sigmas[-1] > 0
    )
    assert found.apart.shape == (10, 6) and np.abs(found.apart).max() < 1e-4
    assert found.network == pytest.approx(found.memorising, abs=1e-4)
    lengths = stored.images.flatten(1).norm(dim=1).numpy()
    assert all(
        np.abs(lengths - end).min() < 1e-3 for end in found.network[-1]
    )  # it ends on a stored image


def test_the_deviation_of_a_mean_is_the_distance_from_the_nearest_image():
    """A denoiser that always answers 0 moves x towards 0 and stays |y| away from the memorising
    one, whose answer is a stored image y."""

    class Nothing:
        sample_shape, num_classes, fingerprint = (1, 8, 8), 0, "nothing"

        def __call__(self, x, sigma, labels=None):
            return torch.zeros_like(x)

    stored = load_data("digits", "train").take(50)
    found = experiments.deviation(
        experiments.Workbench.around(Nothing()), stored, count=4, steps=10
    )
    assert np.abs(found.network).max() == 0 and found.apart == pytest.approx(
        found.memorising, rel=1e-6
    )


def test_leading_components_keep_most_of_the_variance_of_real_features():
    from dataclasses import replace as changed

    study = experiments.prepare("laptop", "cpu")
    whole = study.real_features
    few = changed(study, profile=changed(study.profile, feature_components=8))
    part = few.real_features
    assert part.shape == (len(whole), 8) and few.features(study.test.images[:3][None]).shape == (
        1,
        3,
        8,
    )
    best = torch.linalg.eigvalsh(torch.cov(whole.double().T))[-8:].sum()
    assert float(torch.cov(part.double().T).trace()) == pytest.approx(float(best), rel=1e-4)
    covariance = torch.cov(part.double().T)
    assert float((covariance - covariance.diagonal().diag()).abs().max()) < 1e-3 * float(best)
    assert "8 leading" in few.naming.phrase


def test_a_study_can_be_sent_to_another_process_and_keeps_its_names():
    study = experiments.prepare("laptop", "cpu")
    again = pickle.loads(pickle.dumps(study))
    assert again.fingerprint == study.fingerprint
    before = study.classifier_fingerprint
    assert (
        study.classifier.fingerprint == before == study.classifier_fingerprint
    )  # built or not, one name in all cache keys


def test_large_pictures_get_fewer_colours_and_look_the_same(tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.setenv("UTURN_FIGURES", str(tmp_path))
    noise = torch.rand(12, 12, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    pictures = {}
    for limit in (10**9, plotting.PNG_LIMIT):
        monkeypatch.setattr(plotting, "PNG_LIMIT", limit)
        figure, axes = plotting.plt.subplots(figsize=(7, 7))
        plotting.image_grid(axes, noise)
        path = plotting.save_figure(figure, "laptop", "grid")
        plotting.plt.close(figure)
        pictures[path.stat().st_size] = np.asarray(Image.open(path).convert("RGB")).astype(float)
    (large, exact), (small, reduced) = sorted(pictures.items(), reverse=True)
    assert small < 0.6 * large and exact.shape == reduced.shape
    assert np.abs(exact - reduced).mean() < 12  # of 255, for noise that uses every colour alike
