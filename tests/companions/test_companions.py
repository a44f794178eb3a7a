"""The companion studies on cases whose answers are known: resumed ablations, schedules and their
cost, modes of mean shift, auxiliary laws, the KL divergence as an integral."""

import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import make_tiny_network

from uturn_lib import GaussianDenoiser, GaussianMixtureDenoiser, karras_sigmas
from uturn_lib.claims import RULES
from uturn_lib.claims.verdicts import OPEN
from uturn_lib.companions import flows
from uturn_lib.companions.p2 import dynamics
from uturn_lib.companions.p2.ablation import AblatedDenoiser, components
from uturn_lib.companions.p3 import geometry, solvers
from uturn_lib.companions.p4 import diffusion_time, duration
from uturn_lib.companions.p4.auxiliary import SubspaceMixture, fit_mixture
from uturn_lib.experiments import Study, Workbench
from uturn_lib.experiments.study import same
from uturn_lib.measures.estimate import Estimate, bootstrap_mean
from uturn_lib.sampling import final, sampling_grid
from uturn_lib.seeding import NoiseStream, sample_seeds, starting_noise

# ----------------------------------------------------------------------------------------------- P2


WINDOWS = 8 // dynamics.WINDOW  # of the eight steps below


@pytest.fixture
def study():
    """A random network with a profile's worth of settings."""
    network = make_tiny_network()
    network.fingerprint = "tiny"
    profile = SimpleNamespace(flow_steps=8, sigma_max=80.0, ablated=8)
    return Study(partial(same, network), "tiny", batch_size=16, profile=profile)


def test_every_step_lies_in_one_window():
    for steps, every in ((8, 1), (8, 2), (20, 2), (64, 4)):
        levels = karras_sigmas(steps, 80.0)[:-1].tolist()
        edges = dynamics.window_edges(levels, every)
        assert len(edges) == steps // every + 1
        for number, level in enumerate(levels):
            assert edges[number // every + 1] < level < edges[number // every]
    for levels, every in (([3.0, 2.0, 1.0], 2), ([2.0, 1.0], 2)):
        with pytest.raises(ValueError, match="levels: . given; a multiple of 2, at least 4"):
            dynamics.window_edges(levels, every)


def test_resumed_runs_are_whole_runs(study):
    """The map is computed from the states of the untouched run; here each cell again, from the
    start."""
    found = dynamics.effect_map(study)
    grid = sampling_grid(study.denoiser, 8, 80.0)
    start = starting_noise((1, 8, 8), range(8), 80.0, dynamics.MAP_SEEDS)
    torch.testing.assert_close(
        found.base, final(solvers.solve(study.denoiser, start, grid)).float()
    )
    parts = components(study.denoiser.unet)
    assert found.parts == parts and found.outputs.shape[:3] == (len(parts), WINDOWS, 8)
    for c in (0, len(parts) // 2, len(parts) - 1):
        for w in range(WINDOWS):
            ablated = AblatedDenoiser(study.denoiser, [parts[c]], *found.window(w))
            whole = final(solvers.solve(ablated, start, grid)).float()
            torch.testing.assert_close(found.outputs[c, w], whole, rtol=1e-4, atol=1e-4)
            assert not torch.equal(whole, found.base)


def test_a_share_f_of_the_cost_in_a_fraction_w_of_the_steps_saves_f_w(study):
    found = dynamics.effect_map(study)
    costs = np.linspace(0.0, 0.2, len(found.parts))
    effect = np.random.default_rng(0).random((len(found.parts), WINDOWS))
    ranked = dynamics.ranked_cuts(found, effect, costs)
    assert sum(saved for _, saved in ranked) == pytest.approx(
        costs.sum()
    )  # everything off everywhere: all of it
    assert len(ranked) == (len(costs) - 1) * WINDOWS  # what costs nothing saves nothing
    cut, saved = ranked[0]
    c = found.parts.index(cut.part)
    assert saved == pytest.approx(costs[c] / WINDOWS)
    prices = [
        effect[
            found.parts.index(cut.part),
            [found.window(k) for k in range(WINDOWS)].index((cut.low, cut.high)),
        ]
        / saved
        for cut, saved in ranked
    ]
    assert prices == sorted(prices)


def test_a_schedule_of_nothing_moves_nothing(study):
    found = dynamics.effect_map(study)
    ranked = dynamics.ranked_cuts(
        found, np.ones((len(found.parts), WINDOWS)), [0.1] * len(found.parts)
    )
    (none, still), (some, moved) = dynamics.schedule_curve(study, found, ranked, [0, 5])
    assert none == 0 and float(still.max()) == 0 and some > 0 and float(moved.max()) > 0


def test_schedules_keep_their_budget_and_their_saving(study):
    judge = {
        "classifier_features": lambda x: x.flatten(-3),
        "predict": lambda x: x.flatten(-3).argmax(-1),
    }
    found = dynamics.effect_map(study)
    made = dynamics.schedules(SimpleNamespace(**vars(study), **judge), found)
    assert made.largest(0.0) == 0 and made.largest(float("inf")) == max(made.moved)
    k = made.cheapest(0.1)
    assert made.saved(k) >= 0.1 > made.saved(k - 1)
    assert made.cheapest(2.0) == len(made.ranked) and made.cheapest(0.0) == 0
    x = 3 * torch.randn(2, *study.denoiser.sample_shape)
    assert torch.equal(made.denoiser(study.denoiser, 0)(x, 3.0), study.denoiser(x, 3.0))


def test_wall_times_are_interleaved_and_paired(study):
    asked = []

    def counted(name):
        class Counted:
            fingerprint, sample_shape = name, (1, 8, 8)

            def __call__(self, x, sigma, labels=None):
                asked.append(name)
                return study.denoiser(x, sigma)

        return Counted()

    runs = {name: (counted(name), "euler", steps) for name, steps in (("long", 12), ("short", 3))}
    times = dynamics.wall_times(study, runs, rounds=5, batch=2)
    assert (
        asked == (["long"] * 12 + ["short"] * 3) * 6
    )  # every round runs each; the first does not count
    median, low, high = dynamics.time_ratio(times, "short", "long")
    assert low <= median <= high and median < 1 and len(times["long"]) == 5
    with pytest.raises(ValueError, match="rounds"):
        dynamics.wall_times(study, runs, rounds=4)


def test_schedules_are_judged_on_other_samples_than_they_were_chosen_on(study):
    found = dynamics.effect_map(study)
    judged = flows.run(study, 8, 8, sigma_max=80.0, seed=0)
    assert float((found.base - judged.y0).flatten(1).norm(dim=1).min()) > 1


def test_a_map_needs_samples_to_be_split(study):
    study.profile.ablated = 7
    with pytest.raises(ValueError, match="profile.ablated"):
        dynamics.effect_map(study)


def test_the_class_counts_as_kept_only_where_it_is(study):
    """A classifier that sees one changed image of class 1 and all others of class 0."""
    images = torch.randn(8, 1, 8, 8)
    changed = images.repeat(2, 3, 1, 1, 1, 1).reshape(2, 3, 8, 1, 8, 8).clone()
    changed[1, 2, 5] += 100
    seen = SimpleNamespace(
        classifier_features=lambda x: x.flatten(-3).float(),
        predict=lambda x: (x.flatten(-3).amax(-1) > 50).long(),
    )
    found = dynamics.effects(seen, dynamics.EffectMap([], (4.0, 3.0, 2.0, 1.0), images, changed))
    assert not found.kept[1, 2, 5] and found.kept.sum() == found.kept.size - 1
    assert (
        found.image[1, 2, 5] > 10 and np.delete(found.image.ravel(), 1 * 24 + 2 * 8 + 5).max() == 0
    )


# ----------------------------------------------------------------------------------------------- P3


def test_flows_do_not_depend_on_how_they_are_cut(gaussian):
    bench = Workbench.around(gaussian)
    whole, pieces = (flows.run(bench, 7, 6, path=True, chunk=size) for size in (7, 3))
    torch.testing.assert_close(
        whole.y0, pieces.y0
    )  # batches of other sizes may sum in another order
    torch.testing.assert_close(whole.denoised, pieces.denoised)
    assert whole.denoised.shape == (6, 7, 6) and torch.equal(whole.denoised[-1], whole.y0)
    assert flows.run(bench, 7, 6, path=False).denoised is None
    with pytest.raises(ValueError, match="no fingerprint"):
        flows.run(bench, 7, 6, denoiser=SimpleNamespace(fingerprint=None))


def test_shapes_of_gaussian_trajectories(gaussian):
    """From the closed form x - mu = sqrt((lambda + sigma^2) / (lambda + 80^2)) (start - mu)."""
    found = geometry.shapes(Workbench.around(gaussian), 40, steps=80, method="heun")
    start = starting_noise((6,), range(40), 80.0, 0)
    sigmas = torch.cat([torch.tensor(found.sigmas), torch.zeros(1)])
    modes = (start - gaussian.mean) @ gaussian.eigenvectors
    scale = ((gaussian.eigenvalues + sigmas[:, None] ** 2) / (gaussian.eigenvalues + 6400)).sqrt()
    x = gaussian.mean + torch.einsum("bk,sk,dk->sbd", modes, scale, gaussian.eigenvectors)
    r = torch.stack(
        [gaussian(state, float(s)) for state, s in zip(x[:-1], sigmas[:-1], strict=True)]
    )
    expected = geometry.measured(found.sigmas.tolist(), x, r)
    for name in ("deviation_x", "deviation_r", "distance_r", "norm_r", "length_r", "explained_r"):
        np.testing.assert_allclose(
            getattr(found, name), expected[name], rtol=0.03, atol=0.03, err_msg=name
        )
    # dr/dsigma = -sigma d2x/dsigma2, by finite differences of the closed form
    s, h = 1.3, 1e-3

    def path(level):
        root = ((gaussian.eigenvalues + level**2) / (gaussian.eigenvalues + 6400)).sqrt()
        return gaussian.mean + (modes * root) @ gaussian.eigenvectors.T

    def denoised(level):
        return gaussian(path(level), level)

    speed = (denoised(s + h) - denoised(s - h)) / (2 * h)
    curvature = (path(s + h) - 2 * path(s) + path(s - h)) / h**2
    torch.testing.assert_close(speed, -s * curvature, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", list(solvers.CALLS))
def test_a_budget_of_calls_is_kept(method):
    for budget in range(1, 30):
        steps = geometry.steps_for(method, budget)
        calls = steps + (steps - 1) * (solvers.CALLS[method] - 1)
        assert calls <= budget < calls + solvers.CALLS[method]


def test_solver_errors_fall_and_euler_is_the_worst(gaussian):
    errors = geometry.solver_errors(Workbench.around(gaussian), ["euler", "dpmpp"], [16, 64], 20)
    assert errors.shape == (2, 2, 20)
    medians = np.median(errors, 2)
    assert (medians[:, 1] < medians[:, 0] / 2).all() and (medians[1] < medians[0]).all()


@pytest.mark.parametrize("method", list(solvers.ORDERS))
def test_convergence_has_the_announced_order(method, mixture):
    x = starting_noise((2,), range(100), 5.0, 0)
    errors = geometry.convergence(mixture, x, [method], [32, 64, 128], 5.0, 0.1)[method]
    assert abs(math.log2(errors[1] / errors[2]) - solvers.ORDERS[method]) < 0.3


def test_the_deviation_on_optimal_paths_is_that_of_the_two_denoisers_there():
    """A Gaussian "network" beside the memorising score of its own draws, on the path of the latter,
    by hand."""
    from uturn_lib.data import ImageSet
    from uturn_lib.empirical import EmpiricalDenoiser
    from uturn_lib.experiments import deviation
    from uturn_lib.sampling import reverse

    believed = GaussianDenoiser(torch.zeros(4), torch.diag(torch.tensor([0.5, 1.0, 2.0, 3.0])))
    images = believed.sample(range(50)).float()
    stored = ImageSet(
        "toy", "train", images, torch.zeros(50, dtype=torch.long), ("a",), "", "", "toy"
    )
    found = deviation(Workbench.around(believed), stored, 6, 10, 80.0, path="optimal")
    memory = EmpiricalDenoiser(images)
    walk = [
        step
        for step in reverse(
            memory, starting_noise((4,), range(6), 80.0, 0), karras_sigmas(10, 80.0), "ode"
        )
        if step.sigma
    ]
    assert found.sigmas == pytest.approx([step.sigma for step in walk])
    for k, step in enumerate(walk):
        x = step.x
        expected = (believed(x, step.sigma) - memory(x, step.sigma)).norm(dim=1)
        np.testing.assert_allclose(found.apart[k], expected.numpy(), rtol=1e-3, atol=1e-3)
        from_mean = (memory(x, step.sigma) - images.double().mean(0)).norm(dim=1)
        np.testing.assert_allclose(found.from_mean[k], from_mean.numpy(), rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="labels"):
        deviation(Workbench.around(believed), stored, 6, 10, labels=torch.zeros(6), path="optimal")


def test_two_points_merge_at_half_their_distance():
    """Two equal Gaussians of width b at distance 2a have one mode exactly when b >= a."""
    points = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    starts = torch.tensor([[-0.9, 0.1], [0.8, -0.1], [1.2, 0.0], [-1.1, 0.0]])
    assert geometry.fixed_points(points, starts, (0.1, 0.9, 1.15, 5.0), rounds=500) == [2, 2, 1, 1]


# ----------------------------------------------------------------------------------------------- P4


@pytest.fixture(scope="module")
def subspace():
    """A mixture in two of five rotated coordinates, and the same law as a full mixture."""
    rng = np.random.default_rng(1)
    vectors = torch.tensor(np.linalg.qr(rng.standard_normal((5, 5)))[0])
    leading = GaussianMixtureDenoiser(
        torch.tensor([0.6, 0.4]),
        torch.tensor([[-1.5, 0.3], [2.0, -0.5]]),
        torch.tensor([[[0.5, 0.2], [0.2, 0.4]], [[0.2, 0.0], [0.0, 0.7]]]),
    )
    mean, rest = (
        torch.tensor(rng.standard_normal(5)),
        torch.tensor([0.9, 0.3, 0.05], dtype=torch.float64),
    )
    means = mean + leading.means @ vectors[:, :2].T
    covariances = torch.stack(
        [
            vectors @ torch.block_diag(component.covariance, rest.diag()) @ vectors.T
            for component in leading.components
        ]
    )
    return SubspaceMixture(mean, vectors, leading, rest), GaussianMixtureDenoiser(
        leading.weights, means, covariances
    )


@pytest.mark.parametrize("sigma", [0.05, 0.7, 6.0])
def test_the_subspace_mixture_is_the_full_one(subspace, sigma):
    small, full = subspace
    x = 2 * torch.randn(30, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(small(x, sigma), full(x, sigma))
    torch.testing.assert_close(small.log_prob(x, sigma), full.log_prob(x, sigma))
    torch.testing.assert_close(small(x, 0.0), x)


def test_its_draws_have_its_moments(subspace):
    small, full = subspace
    draws = small.sample(range(20_000), 0.5)
    mean = (full.weights[:, None] * full.means).sum(0)
    second = sum(
        w * (c.covariance + torch.outer(c.mean - mean, c.mean - mean))
        for w, c in zip(full.weights, full.components, strict=True)
    )
    error = (second.diagonal() + 0.25).sqrt() / 20_000**0.5
    assert float(((draws.mean(0) - mean).abs() / error).max()) < 4
    scale = float(second.diagonal().max())
    torch.testing.assert_close(
        draws.T.cov(), second + 0.25 * torch.eye(5), rtol=0, atol=0.05 * scale
    )
    # A draw depends on its own seed, to rounding: a batch of another size may sum in another order.
    torch.testing.assert_close(small.sample([3, 4], 0.5)[1], small.sample([4], 0.5)[0])


def test_a_basis_does_not_depend_on_the_signs_of_eigenvectors(gaussian):
    """The eigenvectors of another library: the same law from the same stored coordinates."""
    leading = GaussianMixtureDenoiser([0.5, 0.5], [[1.0, -1.0], [0.0, 2.0]], [0.3, 0.4])
    other = GaussianDenoiser(gaussian.mean, gaussian.covariance)
    other.eigenvectors = gaussian.eigenvectors * torch.tensor([1.0, -1.0, 1.0, -1.0, -1.0, 1.0])
    one, two = (SubspaceMixture.of(law, leading) for law in (gaussian, other))
    x = gaussian.sample(range(10), 1.0)
    torch.testing.assert_close(one.log_prob(x, 0.5), two.log_prob(x, 0.5))
    assert one.fingerprint == two.fingerprint


def test_neighbouring_seeds_share_no_noise(subspace):
    small, _ = subspace
    draws = small.sample(range(4000), 3.0)
    pairs = [
        (draws[k::2][:1999] * draws[k + 1 :: 2][:1999]).mean(0) - draws.mean(0) ** 2 for k in (0, 1)
    ]
    assert float((torch.stack(pairs).abs() / draws.var(0)).max()) < 4.5 / 1999**0.5


def test_a_fitted_mixture_is_better_than_a_gaussian_on_data_that_are_one(subspace):
    _, full = subspace
    images, held = full.sample(range(2000))[0], full.sample(range(5000, 6000))[0]
    gaussian = GaussianDenoiser.fit(images)
    fitted = fit_mixture(gaussian, images, coordinates=3, components=6)
    found = [float(law.log_prob(held, 0.1).mean()) for law in (gaussian, fitted, full)]
    assert found[0] + 0.05 < found[1] < found[2] + 0.01 and found[2] - found[1] < 0.1
    with pytest.raises(ValueError, match="coordinates"):
        fit_mixture(gaussian, images[:20], coordinates=3)


def test_the_divergence_is_an_integral_of_squared_distances(gaussian):
    """d KL / d sigma = -E|D_p - D_q|^2 / sigma^3: against the closed form for Gaussians with
    different means and variances."""
    other = GaussianDenoiser(gaussian.mean + 0.5, 1.7 * gaussian.covariance)
    levels = duration.levels(60, 0.3, 300.0)
    images = gaussian.sample(range(4000))
    found = duration.squared_distances(
        Workbench.around(gaussian, batch_size=4000),
        {"other": other},
        images.float(),
        levels,
        target=gaussian,
    )
    assert float(found.of["network"].max()) == 0
    kl = diffusion_time.kl_by_integral(levels, found.of["other"])

    def exact(s):
        a, b = gaussian.eigenvalues + s**2, 1.7 * gaussian.eigenvalues + s**2
        shift = (other.mean - gaussian.mean) @ gaussian.eigenvectors
        return float(0.5 * (a / b - 1 - (a / b).log() + shift**2 / b).sum())

    for k in (0, 10, 25, 40):
        estimate = bootstrap_mean(kl[k])
        tolerance = 0.02 * exact(levels[k]) + (estimate.high - estimate.low)
        assert abs(estimate.value + exact(300.0) - exact(levels[k])) < tolerance


def test_losses_tell_what_the_optimal_denoiser_would(gaussian):
    """Pythagoras: E|D - x_0|^2 - E|D' - x_0|^2 = E|D - D*|^2 - E|D' - D*|^2."""
    one, other = (
        GaussianDenoiser(gaussian.mean, factor * gaussian.covariance) for factor in (1.3, 0.5)
    )
    images, levels = gaussian.sample(range(20_000)).float(), (0.5, 1.0, 2.0)
    bench = Workbench.around(one, batch_size=20_000)
    by_loss = duration.squared_distances(bench, {"other": other}, images, levels)
    by_truth = duration.squared_distances(bench, {"other": other}, images, levels, target=gaussian)
    for k in range(3):
        loss = bootstrap_mean(by_loss.of["network"][k] - by_loss.of["other"][k])
        truth = float((by_truth.of["network"][k] - by_truth.of["other"][k]).mean())
        assert loss.low - 0.01 < truth < loss.high + 0.01 and abs(truth) > 0.01


def test_the_best_time_is_where_the_auxiliary_is_as_good():
    """A network that is right below sigma = 2 and wrong above, an auxiliary that is the other way
    round."""
    levels = duration.levels(41, 0.1, 40.0)
    s = np.array(levels)[:, None]
    network, law = (
        np.where(s < 2, 0.01, 1.0) * s**2 + np.zeros(50),
        np.where(s < 2, 1.0, 0.01) * s**2 + np.zeros(50),
    )
    gap = diffusion_time.cumulative_gap(levels, network)
    best = diffusion_time.optimal_time(levels, gap, diffusion_time.kl_by_integral(levels, law))
    assert 1.7 < best.value < 2.3
    advantage = gap - diffusion_time.cumulative_gap(levels, law)
    without = diffusion_time.optimal_time(levels, advantage, np.zeros(41))
    assert abs(math.log(without.value / best.value)) < 1.01 * math.log(
        levels[1] / levels[0]
    )  # neighbours on the grid: the step lies between two levels


def test_what_cannot_be_told_apart_is_refused(gaussian):
    bench, images = Workbench.around(gaussian), gaussian.sample(range(3)).float()
    with pytest.raises(ValueError, match=r"others\['law'\] is a function without a fingerprint"):
        duration.squared_distances(bench, {"law": lambda x, sigma: x}, images, (1.0,))
    with pytest.raises(ValueError, match="target"):
        duration.squared_distances(bench, {}, images, (1.0,), target=lambda x, sigma: x)
    for times, message in (
        ((80.0, 2.0), "must increase"),
        ((), "must increase"),
        ((-1.0, 2.0), "times"),
    ):
        with pytest.raises(ValueError, match=message):
            duration.flow_likelihoods(bench, images, times, {})
    with pytest.raises(ValueError, match="'noise' is taken"):
        duration.flow_likelihoods(bench, images, (2.0,), {"noise": gaussian})


def test_the_likelihood_through_the_flow_is_the_density(gaussian):
    images = gaussian.sample(range(32))
    pieces = duration.flow_likelihoods(
        Workbench.around(gaussian, batch_size=5), images, (2.0, 80.0), {}, steps=20
    )
    whole = duration.flow_likelihoods(
        Workbench.around(gaussian, batch_size=32), images, (2.0, 80.0), {}, steps=20
    )
    np.testing.assert_allclose(
        pieces["noise"], whole["noise"]
    )  # probes belong to samples, not to batches
    found = duration.flow_likelihoods(
        Workbench.around(gaussian), images, (2.0, 80.0), {"gaussian": gaussian}, steps=200
    )
    noise = NoiseStream(sample_seeds(0, range(32), "forward"), (6,)).normal()
    exact = gaussian.log_prob(images + 0.002 * noise, 0.002).numpy()
    assert np.abs(found["latent"].mean(1) - 1).max() < 0.2
    # Hutchinson's estimate is unbiased per image: the mean over images meets the exact one within
    # its standard error
    for row in found["gaussian"]:
        gap = bootstrap_mean(row - exact)
        assert gap.low - 0.02 < 0 < gap.high + 0.02
    assert (
        abs(float((found["noise"][1] - found["gaussian"][1]).mean())) < 0.01
    )  # at sigma = 80 noise is as good
    assert float((found["gaussian"][0] - found["noise"][0]).mean()) > 0.2  # at 2 it is not


def test_the_perfect_auxiliary_gives_the_data_at_every_time(subspace):
    small, full = subspace
    profile = SimpleNamespace(
        ground_truths=4000, chunk=4000, quality_sigmas=(0.7, 3.0), steps=60, sigma_max=80.0
    )
    study = Study(partial(same, small), "small", profile=profile)
    outputs = duration.auxiliary_starts(study, small).double()
    mean = (full.weights[:, None] * full.means).sum(0)
    reference = small.sample(range(50_000, 70_000))
    for rows in outputs:
        error = (reference.var(0) / len(rows)).sqrt()
        assert float(((rows.mean(0) - mean).abs() / error).max()) < 4
        torch.testing.assert_close(rows.T.cov(), reference.T.cov(), rtol=0, atol=0.12)


# ----------------------------------------------------------------------------------------- verdicts


def near(value, half=0.01):
    return Estimate(value, value - half, value + half)


def test_verdicts_of_nothing_are_refused():
    """Whether verdicts follow their rules: tests/claims/test_claims.py."""
    for empty in (
        lambda: RULES["P2.3"]({}, near(0.1)),
        lambda: RULES["P4.5"]((1, 80), {}),
        lambda: RULES["P4.4"](3, {}, [], (OPEN,)),
        lambda: RULES["P2.1"]([], []),
        lambda: RULES["P4.2"](80, {}),
        lambda: RULES["P4.3"]([], near(5), 48, 2.0, OPEN),
    ):
        with pytest.raises(ValueError, match="is empty"):
            empty()
    with pytest.raises(ValueError, match="calls = 17"):
        RULES["P3.5"](17, near(0.0), 20, near(10), 2.0, OPEN)
    with pytest.raises(ValueError, match="no level above 12"):
        rows = {"model": [near(1), near(9)]}
        RULES["P3.4"]({"model": np.array([5, 1])}, rows, rows)
    with pytest.raises(ValueError, match="rounds"):
        RULES["P2.2"](3, near(0.3), near(0.09), near(0.0), near(10), 0.33, 2.0, OPEN)
    with pytest.raises(ValueError, match="T = 60"):
        RULES["P4.2"](80, {"mixture": (60.0, near(-1))})
    with pytest.raises(ValueError, match="steps has 1 differences"):
        RULES["P4.4"](3, {"noise": near(9)}, [near(1)], (OPEN,))
