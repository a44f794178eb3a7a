"""The whole way from starts to T_m, T_s, affinity and G-Turns on Gaussian data, where every answer
is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import norm

from uturn_lib import GaussianDenoiser, experiments
from uturn_lib.data import ImageSet
from uturn_lib.measures import correlation, estimate, quality, retention
from uturn_lib.profiles import PROFILES
from uturn_lib.uturn import INITIAL_LAWS, initial_state, posterior_draws

SIGMAS = tuple(np.geomspace(0.02, 30, 16))
VARIANCES = torch.tensor([0.05, 0.1, 0.3, 4.0], dtype=torch.float64)


class Sign:
    """The class is the sign of the last coordinate, which carries most of the variance."""

    fingerprint = "sign of the last coordinate"

    def predict(self, images):
        return (images.flatten(1)[:, -1] > 0).long()

    def extract(self, images):
        return images.flatten(1)


@pytest.fixture(scope="module")
def study():
    data = GaussianDenoiser(torch.zeros(1, 1, 4), torch.diag(VARIANCES))

    def split(name, first, count):
        x = data.sample(range(first, first + count)).float()
        return ImageSet(
            "gauss",
            name,
            x,
            Sign().predict(x),
            ("minus", "plus"),
            "made here",
            "none",
            f"gauss:{name}",
        )

    profile = replace(
        PROFILES["laptop"],
        sigmas=SIGMAS,
        quality_sigmas=(0.5, 2.0, 8.0),
        ground_truths=400,
        steps=64,
        chunk=400,
        affinity_fit=400,
        affinity_held_out=200,
    )
    made = experiments.Study(
        lambda: data,
        data.fingerprint,
        profile=profile,
        train=split("train", 0, 600),
        test=split("test", 10_000, 500),
        batch_size=400,
    )
    made.classifier = Sign()
    made.__dict__["gaussian"] = data  # the true law instead of the fitted one
    return made


def test_t_m_and_t_s_are_the_closed_forms(study):
    """Class retention of the sign: 1/2 + arcsin(K) / pi with K the correlation of the pair
    (Sheppard). Identity retention has no formula in four dimensions, but y_0 given x_0 is Gaussian:
    draws from that law, many for each start, give it as exactly as one likes."""
    found = experiments.transitions(study)
    kept = [0.5 + np.arcsin(4.0 / (4.0 + s**2)) / np.pi for s in SIGMAS]
    truth = np.exp(retention.fit_centres(np.log(SIGMAS), np.array([kept]), floor=0.5)[0])
    assert found.t_s.contains(truth)
    # the formula itself: K = 1 / sqrt 2 gives 3/4
    assert abs(truth / (4 * (2**0.5 - 1)) ** 0.5 - 1) < 0.1
    for curve, exact in zip(found.class_curve, kept, strict=True):
        assert abs(curve.value - exact) < 4 * (exact * (1 - exact) / 400) ** 0.5 + 1e-3

    x0, reference = found.sweep.x0.double(), study.reference
    own = retention.nearest_index(found.sweep.x0, reference)
    generator, exact = torch.Generator().manual_seed(0), []
    for sigma in SIGMAS:
        shrink = VARIANCES / (VARIANCES + sigma**2)
        hits = torch.zeros(len(x0))
        for _ in range(40):
            xi = torch.randn(x0.shape, generator=generator, dtype=torch.float64)
            y0 = shrink * x0 + (VARIANCES * (1 - shrink**2)).sqrt() * xi
            hits += retention.identity_retained(y0.float(), reference, own)
        exact.append(float(hits.mean()) / 40)
    truth = np.exp(retention.fit_centres(np.log(SIGMAS), np.array([exact]))[0])
    assert found.t_m.contains(truth)


def test_identity_retention_on_a_line_is_a_sum_of_gaussian_intervals():
    """In one dimension the images nearest to x_0 are an interval between midpoints, and its
    probability is in closed form."""
    data = GaussianDenoiser(torch.zeros(1), torch.ones(1, 1))
    points = data.sample(range(50)).float()
    for sigma in (0.01, 0.05, 0.3):
        order = points[:, 0].sort().values.double()
        middle = torch.cat(
            [torch.tensor([-np.inf]), (order[1:] + order[:-1]) / 2, torch.tensor([np.inf])]
        ).numpy()
        shrink = 1 / (1 + sigma**2)
        spread = (1 - shrink**2) ** 0.5
        x = shrink * order.numpy()
        exact = norm.cdf((middle[1:] - x) / spread) - norm.cdf((middle[:-1] - x) / spread)
        starts = points.repeat(60, 1)
        y0 = posterior_draws(data, starts, sigma)
        kept = retention.identity_retained(y0, points, torch.arange(50).repeat(60))
        error = (float((exact * (1 - exact)).mean()) / 3000) ** 0.5
        assert abs(float(kept.double().mean()) - exact.mean()) < 4 * error


def test_affinity_and_correlation_are_those_of_a_gaussian(study):
    fit, held_out = study.train.take(400).images, study.test.take(200).images
    found = experiments.affinity(study, study.gaussian, fit, held_out, SIGMAS[::5])
    assert all(
        left.high < 1e-5 for left in found.unexplained("gaussian")
    )  # an affine score leaves nothing
    with pytest.raises(ValueError, match="basis = 'pixels'"):
        found.unexplained("pixels")
    shrink = VARIANCES.numpy() / (VARIANCES.numpy() + np.array(SIGMAS[::5])[:, None] ** 2)
    np.testing.assert_allclose(found.slopes, shrink, rtol=1e-3)
    sweep, misses = experiments.multi_class(study), 0
    for sigma, y0, denoised in zip(sweep.sigmas, sweep.y0, sweep.denoised, strict=True):
        exact = correlation.gaussian_correlation(VARIANCES, sigma)
        # sampling of the ground truths is shared by numerator and denominator: the ratio's own
        # interval is the measure
        misses += not correlation.uturn_correlation_estimate(sweep.x0, y0).contains(exact)
        misses += not correlation.identity_correlation_estimate(sweep.x0, denoised).contains(exact)
    assert misses <= 6  # of 32, at 5 % each and strongly dependent along the curve


def test_starts_without_ground_truth_have_their_laws(study):
    shrink = VARIANCES / (
        VARIANCES + torch.tensor(study.profile.quality_sigmas, dtype=torch.float64)[:, None] ** 2
    )
    for kind, variances in (
        ("gaussian", VARIANCES.expand(3, 4)),
        ("artificial", VARIANCES * (1 - shrink**2)),
    ):
        outputs = experiments.start_sweep(study, kind, count=4000)
        for y0, expected in zip(outputs.flatten(2).double(), variances, strict=True):
            assert ((y0.mean(0)).abs() < 4 * (expected / 4000).sqrt()).all()
            # the sampler's variance error at this number of steps is below 2 %
            assert ((y0.var(0) / expected - 1).abs() < 4 * (2 / 4000) ** 0.5 + 0.02).all(), kind
    held_out = study.features(study.test.images)
    for y0 in experiments.start_sweep(study, "gaussian", count=4000):
        distance = quality.frechet_estimate(study.features(y0), held_out)
        assert distance.value < 0.15  # the floor of 500 held-out samples
    with pytest.raises(ValueError, match="kind = 'laplace'"):
        experiments.start_sweep(study, "laplace")


def test_initial_laws_shift_the_output_as_linear_response_says(study):
    shifted = replace(study, make_denoiser=lambda: moved, fingerprint="moved")
    moved = GaussianDenoiser(torch.full((1, 1, 4), 0.7), torch.diag(VARIANCES))
    shifted.__dict__["gaussian"] = moved
    pair = experiments.initial_laws(shifted, ["noise", "mean"]).double()
    expected = VARIANCES / (VARIANCES + 6400) * 0.7
    torch.testing.assert_close(
        (pair[1] - pair[0]).flatten(1), expected.expand(400, 4), atol=2e-6, rtol=1e-3
    )


@pytest.mark.parametrize("law", INITIAL_LAWS)
def test_initial_states_have_their_law(gaussian, law):
    eps = torch.randn(40_000, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x0 = gaussian.sample(range(40_000))
    state = initial_state(law, eps, 3.0, gaussian, x0)
    mean = torch.zeros(6).double() if law in ("noise", "uniform") else gaussian.mean
    covariance = 9 * torch.eye(6).double() + (
        gaussian.covariance if law in ("gaussian", "data") else 0
    )
    error = covariance.diagonal().max().sqrt() / 200
    assert ((state.mean(0) - mean).abs() < 5 * error).all()
    assert ((torch.cov(state.T) - covariance).abs() < 6 * covariance.max() / 200).all()
    if law == "uniform":
        assert float(state.abs().max()) <= 3.0 * 3**0.5
    # paired: as near to the usual start as the laws allow
    assert (
        float((state - 3 * eps).norm(dim=1).mean())
        < float((state - 3 * eps.roll(1, 0)).norm(dim=1).mean()) / 1.5
    )


def test_bad_initial_laws_are_refused(gaussian):
    eps = torch.zeros(2, 6)
    with pytest.raises(ValueError, match="law = 'cauchy'"):
        initial_state("cauchy", eps, 1.0, gaussian)
    with pytest.raises(ValueError, match="one image per sample"):
        initial_state("data", eps, 1.0, gaussian, torch.zeros(3, 6))


def test_posterior_draws_of_gaussian_data_have_the_law_of_the_sampler(gaussian):
    from uturn_lib import u_turn

    x0 = gaussian.sample([7]).expand(20_000, 6)
    exact, sampled = (
        posterior_draws(gaussian, x0, 1.2),
        u_turn(gaussian, x0, 1.2, steps=64, batch_size=20_000).y0,
    )
    modes = [(y - gaussian.mean) @ gaussian.eigenvectors for y in (exact, sampled)]
    shrink = gaussian.eigenvalues / (gaussian.eigenvalues + 1.44)
    start = (x0[0] - gaussian.mean) @ gaussian.eigenvectors
    for y in modes:
        variance = gaussian.eigenvalues * (1 - shrink**2)
        assert ((y.mean(0) - shrink * start).abs() < 4 * (variance / 20_000).sqrt()).all()
        assert ((y.var(0) / variance - 1).abs() < 4 * (2 / 20_000) ** 0.5 + 0.01).all()


def test_intervals_of_t_m_and_t_s_are_honest(monkeypatch):
    """100 repetitions of the experiment with a known answer: ground truths drawn from two clouds,
    turned exactly. The 95 % interval has to cover the value that the same fit gives to the exact
    curve at least 90 times, for the class and for the identity."""
    data = GaussianDenoiser(torch.zeros(2), torch.diag(torch.tensor([0.3, 3.0])))
    sigmas = np.geomspace(0.05, 20, 12)
    variances = torch.tensor([0.3, 3.0], dtype=torch.float64)
    shrink = torch.stack([variances / (variances + s**2) for s in sigmas])[:, None]  # (S, 1, 2)
    strangers = data.sample(range(10**6, 10**6 + 60))
    generator = torch.Generator().manual_seed(0)

    def turns(count):
        """Starts (N, 2) and exact outputs (S, N, 2), the same noise at every level as in the
        sweeps."""
        x0 = torch.randn(count, 2, generator=generator, dtype=torch.float64) * variances.sqrt()
        xi = torch.randn(count, 2, generator=generator, dtype=torch.float64)
        return x0, shrink * x0 + (variances * (1 - shrink**2)).sqrt() * xi

    def retained(x0, y0):
        same_class = (y0[..., 1] > 0) == (x0[:, 1] > 0)
        to_own = (y0 - x0).norm(dim=-1)
        to_others = torch.cdist(y0.flatten(0, 1), strangers).amin(1).reshape(to_own.shape)
        return same_class.numpy(), (to_own < to_others).numpy()

    exact = [kept.mean(1) for kept in retained(*turns(200_000))]
    truths = [
        np.exp(retention.fit_centres(np.log(sigmas), np.array([curve]), floor)[0])
        for curve, floor in zip(exact, (0.5, 0.0), strict=True)
    ]
    covered = np.zeros(2, dtype=int)
    monkeypatch.setattr(
        estimate, "RESAMPLES", 200
    )  # enough for two ends; a hundred intervals are made
    for repetition in range(100):
        for number, (kept, level) in enumerate(
            zip(retained(*turns(150)), (0.75, 0.5), strict=True)
        ):
            covered[number] += retention.transition(sigmas, kept, level, seed=repetition).contains(
                truths[number]
            )
    assert (covered >= 90).all(), covered


def test_balanced_sets_hold_every_class_alike(study):
    x = torch.cat(
        [
            study.test.images[study.test.labels == 1][:30],
            study.test.images[study.test.labels == 0][:12],
        ]
    )
    chosen = study.balanced(x, 10)
    assert len(chosen.unique()) == 20 and study.predict(x[chosen]).tolist() == [0, 1] * 10
    short = study.balanced(x, 15)  # the second class has 12 only: three of the first fill the gap
    assert len(short.unique()) == 30 and study.predict(x[short]).sum() == 18
    with pytest.raises(ValueError, match="per_class = 30"):
        study.balanced(x, 30)


def test_shortened_runs_converge_to_the_full_run(study):
    """With more steps the artificial start at sigma_max has the variances of the data, to second
    order."""
    runs = experiments.shortened_runs(study, [8, 32])
    assert runs.shape == (2, 400, 1, 1, 4)
    error = [float((run.flatten(1).double().var(0) / VARIANCES - 1).abs().max()) for run in runs]
    assert error[1] < 0.3 and error[1] < error[0]


def test_exact_u_turns_of_the_empirical_score_are_its_weights(study):
    from uturn_lib import EmpiricalDenoiser
    from uturn_lib.uturn import forward_path

    stored, starts = study.train, study.train.take(40)
    own = retention.nearest_index(starts.images, stored.images)
    returned, kept = experiments.empirical_retention(stored, starts, (0.1, 1.0, 30.0), own=own)
    memory = EmpiricalDenoiser(stored.images)
    for level, sigma in enumerate((0.1, 1.0, 30.0)):
        weights = memory.weights(forward_path(starts.images, [sigma])[0].float(), sigma).double()
        np.testing.assert_allclose(returned[level], weights[torch.arange(40), own], atol=1e-5)
        same = (stored.labels == starts.labels[:, None]).double()
        np.testing.assert_allclose(kept[level], (weights * same).sum(1), atol=1e-5)
    assert (
        returned[0].mean() > returned[1].mean() > returned[2].mean()
        and abs(kept[2].mean() - 0.5) < 0.05
    )
    held_out = experiments.empirical_retention(stored, study.test.take(30), (0.1,))
    assert (held_out[0] == 0).all() and held_out[1].mean() > 0.9


def test_the_local_score_is_turned_as_the_network_is(study):
    from uturn_lib import LocalDenoiser, u_turn
    from uturn_lib.noise import proportional_steps

    few = {
        "local_ground_truths": 7,
        "local_sigmas": SIGMAS[5:8],
        "repeat_sigmas": SIGMAS,
        "ground_truths": 40,
    }
    small = replace(study, profile=replace(study.profile, steps=16, **few))
    found = experiments.identity_by_score(small)
    scores = ("network", "empirical", "gaussian", "local")
    assert set(found) == {(kind, starts) for kind in scores for starts in ("training", "held out")}
    local = LocalDenoiser(study.train.images)
    for starts, data in (("training", study.train), ("held out", study.test)):
        x0 = data.take(7).images
        own = retention.nearest_index(x0, study.reference)
        assert (
            found["network", starts].kept.shape == (16, 40)
            and found["local", starts].sigmas == SIGMAS[5:8]
        )
        for sigma, kept in zip(SIGMAS[5:8], found["local", starts].kept, strict=True):
            y0 = u_turn(local, x0, sigma, steps=proportional_steps(sigma, 16)).y0
            assert torch.equal(retention.identity_retained(y0, study.reference, own), kept)


def test_the_nearest_image_does_not_depend_on_the_pieces(study):
    x, reference = study.test.images[:50] * 1.1, study.train.images
    direct = torch.cdist(x.flatten(1).double(), reference.flatten(1).double()).argmin(1)
    for chunk in (1, 7, 600, 10_000):
        assert torch.equal(retention.nearest_index(x, reference, chunk), direct)


def test_bad_sweeps_are_refused_before_the_first_call(study):
    class Never:
        sample_shape, num_classes, fingerprint = (1, 1, 4), 0, "never"

        def __call__(self, *_):
            raise AssertionError("the denoiser was called")

    bench = replace(study, make_denoiser=Never, fingerprint="never")
    bench.__dict__["gaussian"] = study.gaussian
    for call, message in (
        (lambda: experiments.shortened_runs(bench, []), "at least one"),
        (lambda: experiments.shortened_runs(bench, [4, -1]), "steps = -1"),
        (
            lambda: experiments.start_sweep(bench, "artificial", [1.0], steps=[5, 6]),
            "2 numbers for 1",
        ),
        (lambda: experiments.start_sweep(bench, "artificial", count=0), "count = 0"),
        (
            lambda: experiments.start_sweep(bench, "artificial", labels=torch.zeros(3, dtype=int)),
            "labels have shape",
        ),
        (lambda: experiments.initial_laws(bench, ["noise", "unifrom"]), "law = 'unifrom'"),
        (
            lambda: experiments.empirical_retention(
                study.train, study.test, (1.0,), own=torch.zeros(3, dtype=int)
            ),
            "labels",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="denoiser is a Never"):
        posterior_draws(Never(), study.test.images, 1.0)
    with pytest.raises(ValueError, match="NaN"):
        posterior_draws(study.gaussian, study.test.images * float("nan"), 1.0)


def test_the_split_of_the_regression_is_in_its_key(study):
    im = study.train.images
    first = experiments.affinity(study, study.gaussian, im[:100], im[100:300], (1.0,))
    second = experiments.affinity(study, study.gaussian, im[:200], im[200:300], (1.0,))
    assert first.total.shape == (1, 200) and second.total.shape == (1, 100)
