import math

import numpy as np
import pytest
import torch
from scipy import linalg, stats

from uturn_lib.measures import correlation, gaussianity, quality, retention
from uturn_lib.measures.estimate import bootstrap_mean, bootstrap_ratio, replicate_mean

# -------------------------------------------------------------------------------------- gaussianity


def test_ks_statistic_is_scipys():
    generator = torch.Generator().manual_seed(0)
    samples = torch.cat(
        [torch.randn(97, 6, generator=generator) * 3 - 1, torch.rand(97, 6, generator=generator)],
        dim=1,
    )
    ours = gaussianity.ks_statistic(samples.reshape(97, 3, 4))
    assert ours.shape == (3, 4)
    for column, value in zip(samples.double().T.numpy(), ours.flatten().tolist(), strict=True):
        expected = stats.kstest(column, "norm", args=(column.mean(), column.std())).statistic
        assert value == pytest.approx(expected, abs=1e-6)


def test_ks_statistic_ignores_location_and_scale():
    samples = torch.randn(256, 50, dtype=torch.float64)
    torch.testing.assert_close(
        gaussianity.ks_statistic(samples),
        gaussianity.ks_statistic(7 - 0.01 * samples),
        atol=1 / 256,
        rtol=0,
    )
    torch.testing.assert_close(
        gaussianity.ks_statistic(samples), gaussianity.ks_statistic(7 + 0.01 * samples)
    )


def test_authors_rule_meets_the_lilliefors_null_rate_at_256():
    """Dallal & Wilkinson (1986) approximate the upper tail of the Lilliefors distribution in closed
    form: 2.6 % at 0.06, n = 256."""
    scaled, n = 0.06 * (256 / 100) ** 0.49, 100  # their rule for more than 100 samples
    root = math.sqrt(n + 2.78019)
    tail = math.exp(
        -7.01256 * scaled**2 * (n + 2.78019)
        + 2.99587 * scaled * root
        - 0.122119
        + 0.974598 / math.sqrt(n)
        + 1.67997 / n
    )
    coordinates = 100_000
    generator = torch.Generator().manual_seed(3)
    rate = gaussianity.ks_fraction(torch.randn(256, coordinates, generator=generator))
    error = math.sqrt(rate * (1 - rate) / coordinates)
    assert abs(rate - tail) < 3 * error + 0.0005  # the last digit is the approximation's own error
    assert 0.024 < rate < 0.028


@pytest.mark.parametrize("count", [64, 256])
@pytest.mark.parametrize("level", [0.05, 0.2])
def test_calibrated_threshold_has_its_level(count, level):
    threshold = gaussianity.lilliefors_threshold(count, level)
    generator = torch.Generator().manual_seed(9)
    rate = gaussianity.ks_fraction(torch.randn(count, 40_000, generator=generator), threshold)
    assert abs(rate - level) < 4 * math.sqrt(
        2 * level * (1 - level) / 40_000
    )  # both sides are simulated


def test_ks_sees_what_is_not_gaussian():
    generator = torch.Generator().manual_seed(1)
    assert (
        gaussianity.ks_fraction(
            torch.rand(256, 500, generator=generator).sign()
            * torch.randn(256, 500, generator=generator).abs()
        )
        > 0.99
    )
    assert gaussianity.ks_fraction(torch.full((256, 10), -1.0)) == 1.0  # a constant is no Gaussian
    nearly = -1 + 1e-8 * torch.randn(256, 10, generator=generator)
    assert gaussianity.ks_fraction(nearly) == 1.0  # nor is one that differs by rounding only


@pytest.mark.parametrize(
    "samples, message",
    [
        (torch.randn(2, 5), "at least 3"),
        (torch.tensor([[float("nan")]] * 5), "NaN"),
        (torch.zeros(5, 2, dtype=torch.int64), "dtype"),
    ],
)
def test_bad_samples_are_refused(samples, message):
    with pytest.raises((ValueError, TypeError), match=message):
        gaussianity.ks_statistic(samples)


# -------------------------------------------------------------------------------------- correlation


def test_correlation_of_known_pairs():
    x0 = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert correlation.uturn_correlation(x0, x0) == 1.0
    assert correlation.uturn_correlation(x0, -x0) == -1.0
    assert correlation.uturn_correlation(
        x0, torch.tensor([[0.5, 9.0], [9.0, 0.0]])
    ) == pytest.approx(0.5 / 5)
    mean = torch.tensor([0.5, 1.0])
    assert correlation.uturn_correlation(x0, mean.expand(2, 2), mean) == 0.0
    with pytest.raises(ValueError, match="shape"):
        correlation.uturn_correlation(x0, x0[:1])


def test_spread_and_excess_of_gaussian_data(gaussian):
    from uturn_lib.uturn import posterior_draws

    x0 = gaussian.sample(range(4000))
    for sigma in (0.5, 2.0):
        a, b = (posterior_draws(gaussian, x0, sigma, seed) for seed in (0, 1))
        squares = (a - b).square().sum(1) / (2 * gaussian.eigenvalues.sum())
        expected = correlation.gaussian_spread(gaussian.eigenvalues, sigma)
        assert abs(float(squares.mean()) - expected) < 4 * float(squares.std()) / 4000**0.5
        c_gauss = correlation.gaussian_correlation(gaussian.eigenvalues, sigma)
        excess = correlation.excess_estimate(x0, a, c_gauss, gaussian.mean)
        assert excess.low < excess.value < excess.high
        assert abs(excess.value) < 2 * (excess.high - excess.low) / 2  # none, for Gaussian data
        c = correlation.uturn_correlation(x0, a, gaussian.mean)
        assert excess.value == pytest.approx((c - c_gauss) / c)


def test_gaussian_correlation_has_its_limits():
    values = [0.1, 1.0, 10.0]
    for method in ("sde", "ode"):
        assert correlation.gaussian_correlation(values, 0.0, 2.0, method) == 1.0
        assert correlation.gaussian_correlation(values, 1e9, 2.0, method) == pytest.approx(2 / 13.1)
    for sigma in (0.3, 2.0):  # one mode: K itself, and its root
        assert correlation.gaussian_correlation([1.7], sigma) == pytest.approx(
            1.7 / (1.7 + sigma**2)
        )
        assert correlation.gaussian_correlation([1.7], sigma, method="ode") == pytest.approx(
            math.sqrt(1.7 / (1.7 + sigma**2))
        )
    with pytest.raises(ValueError, match="method"):
        correlation.gaussian_correlation(values, 1.0, method="edm")


def test_identity_estimate_agrees_with_the_uturn_on_gaussian_data(gaussian):
    from uturn_lib import u_turn

    x0 = gaussian.sample(range(4000))
    turned = u_turn(gaussian, x0, 1.2, steps=48, batch_size=4000)
    one_call = correlation.identity_correlation_estimate(x0, turned.denoised, gaussian.mean)
    whole = correlation.uturn_correlation_estimate(x0, turned.y0, gaussian.mean)
    exact = correlation.gaussian_correlation(gaussian.eigenvalues, 1.2)
    for estimate in (one_call, whole):
        width = (estimate.high - estimate.low) / (2 * 1.96)
        assert abs(estimate.value - exact) < 3 * width and width < 0.02


# ---------------------------------------------------------------------------------------- bootstrap


def test_bootstrap_intervals_cover_a_known_mean_and_ratio():
    rng = np.random.default_rng(0)
    means = ratios = 0
    for trial in range(200):
        x = rng.exponential(2.0, 80)
        y = 3 * x + rng.standard_normal(80)
        means += bootstrap_mean(x, seed=trial).contains(2.0)
        ratios += bootstrap_ratio(y, x, seed=trial).contains(3.0)
    assert (
        178 <= means <= 200 and 180 <= ratios <= 200
    )  # 95 % nominal; a skew law at n = 80 costs a few percent


def test_replicate_intervals_cover_a_known_mean():
    rng = np.random.default_rng(1)
    covered = sum(replicate_mean(row).contains(0.3) for row in rng.normal(0.3, 2.0, (1000, 4)))
    assert abs(covered - 950) < 3.5 * math.sqrt(1000 * 0.95 * 0.05)  # exact for normal replicates
    with pytest.raises(ValueError, match="at least 2"):
        replicate_mean([1.0])


# ---------------------------------------------------------------------------------------- retention


SIGMAS = np.geomspace(0.1, 80, 14)


def test_transition_finds_the_centre_of_a_noiseless_curve():
    for floor in (0.0, 0.1, 0.5):
        for centre, width in ((0.4, 0.2), (3.0, 0.5), (25.0, 0.1)):
            curve = retention.logistic_curve(np.log(SIGMAS), math.log(centre), width, floor)
            found = retention.transition(
                SIGMAS, np.repeat(curve[:, None], 5, 1), level=(1 + floor) / 2
            )
            assert found.value == pytest.approx(centre, rel=5e-3)


def test_transition_says_when_it_was_not_seen():
    assert retention.transition(SIGMAS, np.ones((14, 20))).value == math.inf
    assert retention.transition(SIGMAS, np.zeros((14, 20))).value == 0.0


def test_retention_curve_is_honest_at_the_ends():
    never, always = retention.retention_curve(torch.tensor([[False] * 150, [True] * 150]))
    assert (
        never.value == 0
        and 0.01 < never.high < 0.04
        and always.value == 1
        and 0.96 < always.low < 0.99
    )
    (half,) = retention.retention_curve(np.full((1, 30), 0.5))
    assert (half.value, half.low, half.high) == (0.5, 0.5, 0.5)


def test_log_gap_is_paired():
    rng = np.random.default_rng(2)
    shift = rng.normal(0, 1.0, 80)  # a large spread that both curves share
    uniform = rng.random((14, 80))
    identity = uniform < retention.logistic_curve(np.log(SIGMAS)[:, None], 0.3 + shift, 0.2, 0.0)
    classes = uniform < retention.logistic_curve(np.log(SIGMAS)[:, None], 0.8 + shift, 0.2, 0.1)
    gap = retention.log_gap(SIGMAS, identity, classes, 0.55)
    alone = retention.transition(SIGMAS, identity)
    assert gap.contains(0.5) and gap.low > 0
    assert gap.high - gap.low < 0.7 * math.log(
        alone.high / alone.low
    )  # pairing removes the shared spread


def test_two_nearest_are_those_of_all_distances():
    """Also where float32 products cannot tell them apart: a large offset, and images twice."""
    draw = torch.Generator().manual_seed(3)
    reference = torch.randn(50, 2, 3, generator=draw, dtype=torch.float64) + 300
    reference = torch.cat([reference, reference[:4]])
    samples = reference[:20] + 0.3 * torch.randn(20, 2, 3, generator=draw, dtype=torch.float64)
    exact = torch.cdist(
        samples.flatten(1), reference.flatten(1), compute_mode="donot_use_mm_for_euclid_dist"
    )
    expected = exact.sort(dim=1).values[:, :2]
    for chunk in (2, 7, 4096):  # across the borders of blocks
        torch.testing.assert_close(retention.two_nearest(samples, reference, chunk), expected)
    assert torch.equal(retention.copied(samples, reference), expected[:, 0] < expected[:, 1] / 3)
    assert not retention.copied(reference[:4], reference).any()  # stored twice: 0 is not below 0
    for wrong in (reference[:1], reference[:, :1]):
        with pytest.raises(ValueError, match="at least two references of the samples' shape"):
            retention.two_nearest(samples, wrong)


def test_the_crossing_of_a_mean_curve_without_a_fit():
    sigmas, draw = np.array([0.5, 1.0, 2.0, 4.0]), np.random.default_rng(0)
    kept = np.array([1.2, 0.9, 0.3, -0.4])[:, None] + draw.normal(
        0, 0.01, (4, 400)
    )  # a bound: beyond [0, 1]
    found = retention.crossing_centres(sigmas, kept, 0.6)
    assert len(found) == 1001 and np.exp(found[0]) == pytest.approx(2**0.5, rel=0.01)
    assert found[0] == pytest.approx(np.log(retention.crossing_between(sigmas, kept.mean(1), 0.6)))
    assert retention.crossing(sigmas, found).contains(2**0.5)
    assert np.isneginf(retention.crossing_centres(sigmas, kept, 2.0)).all()
    assert np.isposinf(retention.crossing_centres(sigmas, kept, -1.0)).all()
    with pytest.raises(ValueError, match=r"finite values \(4, N\) are needed"):
        retention.crossing_centres(sigmas, kept[:3], 0.6)


def test_nearest_index_and_identity():
    generator = torch.Generator().manual_seed(0)
    reference = torch.rand(40, 1, 4, 4, generator=generator)
    own = torch.tensor([3, 17, 39])
    near = reference[own] + 0.01 * torch.randn(3, 1, 4, 4, generator=generator)
    assert torch.equal(retention.nearest_index(near, reference), own)
    assert retention.identity_retained(near, reference, own).all()
    assert not retention.identity_retained(near, reference, torch.tensor([4, 17, 39]))[0]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((SIGMAS[::-1], np.ones((14, 3))), "increasing"),
        ((SIGMAS, np.ones((13, 3))), "shape"),
        ((SIGMAS, 2 * np.ones((14, 3))), r"\[0, 1\]"),
        ((SIGMAS, np.ones((14, 3)), 0.2), "level"),
        ((SIGMAS, np.full((14, 3), np.nan)), "NaN"),
    ],
)
def test_bad_curves_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        retention.transition(*arguments)


# ------------------------------------------------------------------------------------------ quality


def test_frechet_distance_of_gaussians_is_the_closed_form():
    rng = np.random.default_rng(0)
    roots = rng.standard_normal((2, 5, 5))
    a = torch.tensor(rng.standard_normal((50, 5)) @ roots[0])
    b = torch.tensor(rng.standard_normal((70, 5)) @ roots[1] + 1.5)
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    expected = float((a.mean(0) - b.mean(0)).square().sum()) + np.trace(
        cov_a + cov_b - 2 * linalg.sqrtm(cov_a @ cov_b).real
    )
    assert quality.frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert quality.frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)
    assert quality.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    shift = torch.tensor([3.0, 0, 4.0, 0, 0])
    assert quality.frechet_distance(a, a + shift) == pytest.approx(25.0, rel=1e-9)


def test_kernel_distance_is_unbiased_and_sees_a_shift():
    generator = torch.Generator().manual_seed(0)
    null = [
        quality.kernel_distance(
            torch.randn(40, 3, generator=generator), torch.randn(60, 3, generator=generator)
        )
        for _ in range(300)
    ]
    assert abs(np.mean(null)) < 3 * np.std(null) / math.sqrt(300)
    moved = quality.kernel_distance(
        torch.randn(200, 3, generator=generator) + 1, torch.randn(200, 3, generator=generator)
    )
    assert moved > 5 * np.std(null)


def test_bad_features_are_refused():
    with pytest.raises(ValueError, match="features"):
        quality.frechet_distance(torch.zeros(4, 2), torch.zeros(4, 3))
    with pytest.raises(ValueError, match="NaN"):
        quality.frechet_distance(torch.full((4, 2), float("nan")), torch.zeros(4, 2))
    with pytest.raises(ValueError, match="shape"):
        quality.kernel_distance(torch.zeros(1, 2), torch.zeros(4, 2))


def test_few_samples_in_many_dimensions_take_the_short_way_to_the_same_distance():
    generator = torch.Generator().manual_seed(0)
    a, b = (
        torch.randn(12, 40, generator=generator).double(),
        2 * torch.randn(200, 40, generator=generator).double() + 1,
    )
    own, other = torch.cov(a.T), torch.cov(b.T)
    product = np.linalg.eigvals((own @ other).numpy()).clip(min=0)
    expected = (
        float((a.mean(0) - b.mean(0)).square().sum() + own.trace() + other.trace())
        - 2 * np.sqrt(product).real.sum()
    )
    assert quality.frechet_distance(a, b) == pytest.approx(expected, rel=1e-7)


def test_the_kernel_within_a_set_is_summed_in_blocks():
    b = torch.randn(50, 7, generator=torch.Generator().manual_seed(0)).double()
    kernel = (b @ b.T / 7 + 1) ** 3
    expected = float(kernel.sum() - kernel.trace()) / (50 * 49)
    for rows in (1, 7, 50, 1000):
        assert quality._within(b, rows) == pytest.approx(expected, rel=1e-12)


def test_nearest_strangers_are_found_piece_by_piece():
    from uturn_lib.measures import retention

    images = torch.randn(9000, 6, generator=torch.Generator().manual_seed(0))
    distances = torch.cdist(images[:20].double(), images.double())
    distances[torch.arange(20), torch.arange(20)] = torch.inf
    assert retention.nearest_strangers(images[:20], images) == pytest.approx(
        distances.amin(1).numpy(), abs=1e-6
    )
