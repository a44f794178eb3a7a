"""Statistics of single ground truths and of image sets: intervals, null hypotheses, planted
effects."""

import tracemalloc

import numpy as np
import pytest
import torch

from uturn_lib.measures import departures, estimate, individuals, quality, retention
from uturn_lib.measures.estimate import bootstrap_median, bootstrap_ratio, resampled_sums

SIGMAS = np.geomspace(0.5, 20, 10)
LOG = np.log(SIGMAS)


# ------------------------------------------------------------------------------------ ground truths


def repeats_of(centres, floor, repeats, rng, width=0.25):
    rates = retention.logistic_curve(LOG[:, None], np.asarray(centres), width, floor)
    return rng.random((len(SIGMAS), len(centres), repeats)) < rates[..., None]


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_individual_centres_of_noiseless_curves_are_exact(floor):
    centres = np.log([0.8, 1.7, 3.0, 6.5, 15.0])
    rates = retention.logistic_curve(LOG[:, None], centres, 0.3, floor)
    np.testing.assert_allclose(
        individuals.individual_centres(LOG, rates, floor, 0.3), centres, atol=2e-3
    )


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_heterogeneity_is_not_seen_where_there_is_none(floor):
    """p-values under the null hypothesis are uniform, up to the pooled rates being estimated."""
    rng = np.random.default_rng(0)
    found = [
        individuals.heterogeneity(
            SIGMAS, repeats_of([1.0] * 15, floor, 12, rng), (1 + floor) / 2, draws=200, seed=seed
        )
        for seed in range(60)
    ]
    for p in (np.array([h.p_value for h in found]), np.array([h.p_permutation for h in found])):
        assert (
            p < 0.05
        ).sum() <= 9 and 0.35 < p.mean() < 0.65  # 3 expected, 9 has probability 0.002


def test_heterogeneity_is_found_and_measured_where_it_is():
    rng = np.random.default_rng(1)
    centres = rng.normal(1.0, 0.3, 40)
    found = individuals.heterogeneity(SIGMAS, repeats_of(centres, 0.0, 16, rng), draws=400)
    assert found.p_value < 0.01 and found.p_permutation < 0.01
    assert found.own_spread == pytest.approx(centres.std(ddof=1), rel=0.15)
    assert (
        found.expected < found.spread.low
        and np.corrcoef(np.log(found.levels), centres)[0, 1] > 0.95
    )


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_intervals_of_single_ground_truths_cover_their_transitions(floor):
    rng = np.random.default_rng(2)
    centres = rng.normal(1.0, 0.2, 150)
    kept = repeats_of(centres, floor, 16, rng)
    times = individuals.individual_times(SIGMAS, kept, (1 + floor) / 2)
    covered = np.mean([t.contains(np.exp(c)) for t, c in zip(times, centres, strict=True)])
    assert 0.9 < covered <= 1  # the common width contains the spread: wide rather than narrow
    found = individuals.heterogeneity(SIGMAS, kept, (1 + floor) / 2, draws=10)
    np.testing.assert_allclose([t.value for t in times], found.levels)


def test_ranks_of_a_common_curve_contain_transitions_that_are_alike_and_no_others():
    rng = np.random.default_rng(3)
    for spread, inside in ((0.0, True), (0.4, False)):
        kept = repeats_of(rng.normal(1.0, spread, 30), 0.0, 16, rng)
        ranks = individuals.common_curve_times(SIGMAS, kept)
        medians = [rank.value for rank in ranks]
        assert medians == sorted(medians)
        times = np.sort([t.value for t in individuals.individual_times(SIGMAS, kept)])
        share = np.mean([rank.contains(t) for rank, t in zip(ranks, times, strict=True)])
        assert (share > 0.8) == inside


@pytest.mark.parametrize(
    "judge",
    [individuals.heterogeneity, individuals.individual_times, individuals.common_curve_times],
)
@pytest.mark.parametrize("shape", [(10, 5), (10, 1, 5)])
def test_bad_repeats_are_refused(judge, shape):
    with pytest.raises(ValueError, match="retained has shape"):
        judge(SIGMAS, np.ones(shape))


def test_class_entropy_of_known_laws():
    predicted = torch.tensor([[0, 0, 0, 0], [0, 1, 2, 3], [1, 1, 3, 3]])
    counts = departures.class_counts(predicted, 5)
    assert counts.tolist() == [[4, 0, 0, 0, 0], [1, 1, 1, 1, 0], [0, 2, 0, 2, 0]]
    correction = torch.tensor([0, 3, 1]) / (8 * np.log(2))
    torch.testing.assert_close(
        departures.class_entropy(counts),
        (torch.tensor([0.0, 2.0, 1.0]).double() + correction).clamp(max=np.log2(5)),
    )
    law = torch.tensor([0.6, 0.3, 0.1])
    drawn = torch.multinomial(
        law.expand(20_000, 3), 40, replacement=True, generator=torch.Generator().manual_seed(0)
    )
    exact = float(-(law * law.log2()).sum())
    assert (
        abs(float(departures.class_entropy(departures.class_counts(drawn, 3)).mean()) - exact)
        < 0.01
    )


def test_nearest_strangers_leaves_the_image_itself_out():
    reference = torch.tensor([[0.0, 0.0], [3.0, 4.0], [10.0, 0.0]])
    np.testing.assert_allclose(retention.nearest_strangers(reference[:2], reference), [5.0, 5.0])


# ------------------------------------------------------------------------------------------ quality


def gaussian_features(count, seed, shift=0.0):
    return (
        torch.randn(count, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        + shift
    )


def test_the_jackknife_gives_the_spread_of_the_frechet_distance():
    reference = gaussian_features(5000, 10**6)
    found = [
        quality.frechet_estimate(gaussian_features(240, seed, 0.5), reference) for seed in range(60)
    ]
    values = np.array([e.value for e in found])
    halves = np.array([(e.high - e.low) / 2 for e in found])
    assert found[0].value == pytest.approx(
        quality.frechet_distance(gaussian_features(240, 0, 0.5), reference)
    )
    ratio = (
        np.sqrt((halves**2).mean()) / 2.069 / values.std()
    )  # Student's t for 23 degrees of freedom
    assert 0.8 < ratio < 1.5
    covered = np.mean([e.contains(values.mean()) for e in found])
    assert covered >= 0.85


def test_the_jackknife_gives_the_spread_of_the_kernel_distance():
    reference = gaussian_features(2000, 10**6)
    found = [
        quality.kernel_estimate(gaussian_features(240, seed, 0.5), reference) for seed in range(40)
    ]
    values = np.array([e.value for e in found])
    halves = np.array([(e.high - e.low) / 2 for e in found])
    assert 0.75 < np.sqrt((halves**2).mean()) / 2.069 / values.std() < 1.5
    assert found[0].value == pytest.approx(
        quality.kernel_distance(gaussian_features(240, 0, 0.5), reference)
    )


def test_kernel_distance_is_the_double_sum():
    a, b = gaussian_features(7, 0), gaussian_features(9, 1)
    kernel = lambda x, y: float((x @ y / 6 + 1) ** 3)  # noqa: E731
    within_a = np.mean([kernel(a[i], a[j]) for i in range(7) for j in range(7) if i != j])
    within_b = np.mean([kernel(b[i], b[j]) for i in range(9) for j in range(9) if i != j])
    between = np.mean([kernel(x, y) for x in a for y in b])
    assert quality.kernel_distance(a, b) == pytest.approx(
        within_a + within_b - 2 * between, rel=1e-10
    )


def test_paired_differences_are_sharper_than_their_parts():
    reference, a = gaussian_features(5000, 10**6), gaussian_features(300, 3)
    found = quality.frechet_difference(a + 0.02, a, reference)
    single = quality.frechet_estimate(a, reference)
    assert found.high - found.low < (single.high - single.low) / 2
    assert found.value == pytest.approx(
        quality.frechet_distance(a + 0.02, reference) - quality.frechet_distance(a, reference),
        abs=1e-9,
    )
    swapped = quality.frechet_difference(a, a + 0.02, reference)
    assert (swapped.value, swapped.low) == (pytest.approx(-found.value), pytest.approx(-found.high))


def test_groups_are_runs_of_neighbours():
    member = quality.group_of(240, 24)
    assert (member.bincount() == 10).all() and (member.diff() >= 0).all()
    assert quality.group_of(10, 4).bincount().tolist() == [3, 2, 3, 2]
    with pytest.raises(ValueError, match="groups = 24"):
        quality.frechet_estimate(torch.randn(10, 3), torch.randn(30, 3))


def test_the_minimum_of_the_kernel_distance_is_found_or_at_the_edge():
    sigmas, reference = (0.1, 1.0, 10.0, 80.0), gaussian_features(1000, 10**6)
    base = gaussian_features(240, 0)
    inside = [base + shift for shift in (1.0, 0.5, 0.0, 1.0)]
    falling = [base + shift for shift in (1.5, 1.0, 0.5, 0.0)]
    for sets, expected in ((inside, 10.0), (falling, 80.0)):
        found = quality.kernel_minimum(sigmas, quality.kernel_curve(sets, reference)[1])
        assert (found.value, found.low, found.high) == (expected, expected, expected)
    flat = [
        gaussian_features(240, seed) for seed in range(4)
    ]  # nothing to choose: the interval spans levels
    found = quality.kernel_minimum(sigmas, quality.kernel_curve(flat, reference)[1])
    assert found.low < found.high


def test_nearness_tells_copies_from_strangers():
    generator = torch.Generator().manual_seed(0)
    truths, strangers, others = (torch.randn(200, 1, 4, 4, generator=generator) for _ in range(3))
    assert quality.nearness(others, truths, strangers).contains(1.0)
    assert quality.nearness(truths + 0.01 * others, truths, strangers).high < 0.05


def test_image_distances():
    a = torch.zeros(2, 1, 2, 2)
    b = torch.tensor([3.0, 4.0])[:, None, None, None].expand(2, 1, 2, 2)
    assert quality.paired_distance(a, b).tolist() == [6.0, 8.0]
    assert quality.nearest_distance(a, b).tolist() == [6.0, 6.0]
    assert quality.unrelated_distance(torch.cat([a[:1], b])) == pytest.approx(6.0)  # 6, 8 and 2
    with pytest.raises(ValueError, match="paired"):
        quality.paired_distance(a, b[:1])
    with pytest.raises(ValueError, match="at least 2"):
        quality.unrelated_distance(a[:1])


def test_a_difference_of_medians_is_paired():
    """A common shift is exact whatever the spread; swapping changes the sign; independent noise is
    covered."""
    rng = np.random.default_rng(0)
    a = rng.exponential(2.0, 101)
    shifted = estimate.median_difference(a + 0.3, a)
    np.testing.assert_allclose([shifted.value, shifted.low, shifted.high], 0.3)
    b = a + 0.1 * rng.standard_normal(101)
    there, back = estimate.median_difference(a, b, seed=1), estimate.median_difference(b, a, seed=1)
    np.testing.assert_allclose(
        [there.value, there.low, there.high], [-back.value, -back.high, -back.low]
    )
    apart = bootstrap_median(a)
    assert there.high - there.low < apart.high - apart.low  # what both share drops out
    with pytest.raises(ValueError, match="101 values, b has 100"):
        estimate.median_difference(a, b[:100])


def test_the_bootstrap_of_a_median_covers_it():
    rng = np.random.default_rng(0)
    covered = sum(
        bootstrap_median(rng.exponential(2.0, 101), 2.0, seed).contains(np.log(2))
        for seed in range(100)
    )
    assert covered >= 88


@pytest.mark.parametrize(
    "kept, block",
    [(10**7, 8 * 10**6), (0, 8 * 10**6), (0, 7 * 31 * 8), (10**7, 7 * 31 * 8), (0, 1)],
)
def test_resamples_are_those_of_one_dense_draw(monkeypatch, kept, block):
    """Drawn once and kept, or anew in blocks of any size: the numbers of the whole matrix R x N."""
    monkeypatch.setattr(estimate, "KEPT", kept)
    monkeypatch.setattr(estimate, "BLOCK", block)
    estimate._kept_counts.cache_clear()
    values = np.random.default_rng(1).standard_normal((31, 2, 3))
    dense = np.random.default_rng(5).multinomial(31, np.full(31, 1 / 31), size=200)
    for _ in range(2):  # the second time they may be kept
        np.testing.assert_allclose(
            resampled_sums(values, 5, 200), np.einsum("rn,nij->rij", dense, values), atol=1e-12
        )
    sums = dense @ values.reshape(31, -1)
    ratios = resampled_sums(values[:, 0, 0], 5, 200) / resampled_sums(
        np.abs(values[:, 1, 1]), 5, 200
    )
    np.testing.assert_allclose(ratios, sums[:, 0] / (dense @ np.abs(values[:, 1, 1])), atol=1e-12)
    rows = np.random.default_rng(5).integers(31, size=(1000, 31))
    expected = estimate.interval(np.median(values[:, 0, 0][rows], axis=1))
    found = bootstrap_median(values[:, 0, 0], seed=5)
    np.testing.assert_allclose((found.low, found.high), expected, rtol=1e-12)


def test_the_bootstrap_needs_little_memory():
    """Kept draws, and more than are kept: each was about 0.1 GB as one matrix of 64-bit integers,
    and twice that as numbers."""
    for count, confidence in ((800, 0.995), (12_000, 0.95)):
        values = np.random.default_rng(2).exponential(1.0, (2, count))
        estimate._kept_counts.cache_clear()
        tracemalloc.start()
        bootstrap_ratio(*values, confidence=confidence)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 64e6


def test_quantities_of_the_same_samples_are_resampled_alike_and_cannot_spoil_each_other():
    values = np.random.default_rng(3).standard_normal(40)
    np.testing.assert_allclose(resampled_sums(2 * values, 1), 2 * resampled_sums(values, 1))
    assert not np.allclose(resampled_sums(values, 1), resampled_sums(values, 2))
    for block in estimate.resample_counts(40, 1, 1000):
        assert (block.sum(1, dtype=int) == 40).all()
        with pytest.raises(ValueError, match="read-only"):
            block[0, 0] = 9


# ---------------------------------------------------------------------------------------- hierarchy


def test_leaving_to_all_classes_alike_is_not_called_a_hierarchy():
    rng = np.random.default_rng(0)
    labels = torch.arange(20) % 10
    p_values = []
    for seed in range(40):
        predicted = np.where(
            rng.random((1, 20, 16)) < 0.6, labels[None, :, None], rng.integers(0, 10, (1, 20, 16))
        )
        counts = departures.class_counts(torch.tensor(predicted), 10)
        p_values.append(
            departures.leaving_concentration(counts, labels, draws=300, seed=seed).p_value[0]
        )
    assert (np.array(p_values) < 0.05).sum() <= 7 and 0.35 < np.mean(p_values) < 0.75


def test_leaving_to_a_neighbour_is_a_hierarchy():
    rng = np.random.default_rng(0)
    labels = torch.arange(20) % 10
    away = np.where(
        rng.random((20, 16)) < 0.8, (labels[:, None] + 1) % 10, rng.integers(0, 10, (20, 16))
    )
    predicted = np.stack(
        [np.where(rng.random((20, 16)) < keep, labels[:, None], away) for keep in (1.0, 0.7)]
    )
    counts = departures.class_counts(torch.tensor(predicted), 10)
    found = departures.leaving_concentration(counts, labels)
    assert (
        found.p_value[0] == 1.0 and found.leaving[0] == 0 and np.isnan(found.seen[0])
    )  # nobody leaves
    assert found.p_value[1] < 0.001 and found.seen[1] < found.expected[1]
    expected = [
        9 * (1 - (8 / 9) ** n) for n in (16 - counts[1, np.arange(20), labels]).numpy() if n >= 2
    ]
    assert found.expected[1] == pytest.approx(
        np.mean(expected), rel=0.01
    )  # classes seen in n even draws of 9


def test_crossing_without_a_fit():
    curve = 1 / (1 + (SIGMAS / 3.0) ** 4)
    assert retention.crossing_between(SIGMAS, curve, 0.5) == pytest.approx(3.0, rel=0.02)
    assert np.isnan(retention.crossing_between(SIGMAS, np.ones(10), 0.5))
    assert retention.crossing_between([1.0, 10.0, 100.0], [1.0, 0.0, 0.0], 0.5) == pytest.approx(
        10**0.5
    )


# ---------------------------------------------------------------------------------------- bad input


def test_a_transition_that_was_not_seen_has_no_finite_gap():
    falling = np.array([[1] * 6, [1, 1, 1, 0, 0, 0], [0] * 6], dtype=float)
    never, sigmas = np.ones((3, 6)), [0.1, 1.0, 10.0]
    assert retention.log_gap(sigmas, falling, never, 0.55).value == np.inf
    unknown = retention.log_gap(sigmas, never, never, 0.55)
    assert np.isnan(unknown.value) and not unknown.low > 0
    with pytest.raises(ValueError, match="must be equal"):
        retention.log_gap(sigmas, falling, np.ones((3, 9)), 0.55)


NAN = float("nan")


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: retention.nearest_index(torch.full((1, 4), NAN), torch.zeros(3, 4)),
            "samples holds NaN",
        ),
        (
            lambda: retention.nearest_index(torch.zeros(1, 4), torch.full((3, 4), NAN)),
            "reference holds NaN",
        ),
        (
            lambda: retention.nearest_index(torch.zeros(1, 4), torch.zeros(0, 4)),
            "reference has shape",
        ),
        (lambda: retention.nearest_index(torch.zeros(1, 4), torch.zeros(3, 4), 0), "chunk = 0"),
        (
            lambda: retention.identity_retained(
                torch.zeros(2, 4), torch.zeros(3, 4), torch.tensor([0])
            ),
            "own_index",
        ),
        (
            lambda: retention.identity_retained(
                torch.zeros(1, 4), torch.zeros(3, 4), torch.tensor([3])
            ),
            "own_index",
        ),
        (lambda: individuals.heterogeneity([0.1, NAN, 10], np.ones((3, 4, 5))), "sigmas must be"),
        (
            lambda: individuals.heterogeneity([0.1, 1, 10], np.ones((3, 4, 5)), level=1.5),
            "level = 1.5",
        ),
        (
            lambda: departures.leaving_concentration(torch.ones(1, 2, 3), torch.tensor([0])),
            "labels have shape",
        ),
        (lambda: quality.kernel_estimate(torch.randn(2, 3), torch.randn(9, 3), 2), "groups = 2"),
        (lambda: quality.kernel_curve([], torch.randn(9, 3)), "sets is empty"),
        (lambda: quality.kernel_minimum([1, 2], np.full((2, 5), NAN)), "must be finite"),
        (lambda: quality.kernel_minimum([1], np.ones((2, 5))), "one row for each"),
        (lambda: bootstrap_median([1.0, NAN]), "finite numbers"),
        (lambda: bootstrap_median([1.0, 2.0], scale=0), "scale = 0"),
    ],
)
def test_what_cannot_be_judged_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_one_feature_is_enough_for_a_distance():
    a = torch.tensor([[0.0], [1.0], [2.0], [5.0]])
    assert quality.frechet_distance(a, a + 3) == pytest.approx(9.0)


def test_errors_of_the_classifier_are_taken_out():
    """A classifier that errs evenly, simulated: the curve comes back, and T_s with it."""
    rng = np.random.default_rng(0)
    sigmas, classes, accuracy = np.geomspace(0.1, 80, 14), 10, 0.85
    truth = retention.logistic_curve(np.log(sigmas), np.log(4.0), 0.35, 0.1)
    seen = truth * accuracy + (1 - truth) * (1 - accuracy) / (classes - 1)
    assert retention.without_errors(seen, accuracy, classes) == pytest.approx(truth, abs=1e-12)
    kept = rng.random((14, 4000)) < seen[:, None]
    naive = retention.transition(sigmas, kept, retention.chance_level(classes))
    corrected = retention.error_free_transition(sigmas, kept, 8500, 10_000, classes)
    assert naive.high < 4.0 and corrected.contains(4.0)
    few = retention.error_free_transition(sigmas, kept, 85, 100, classes)
    assert few.high - few.low > corrected.high - corrected.low  # an error rate known less well


@pytest.mark.parametrize("accuracy", [0.1, 0.05, 1.2])
def test_an_accuracy_that_is_none_is_refused(accuracy):
    with pytest.raises(ValueError, match="accuracy"):
        retention.without_errors(np.ones(3), accuracy, 10)
    with pytest.raises(ValueError, match="right"):
        retention.error_free_transition([1.0, 2.0], np.ones((2, 3)), 11, 10, 10)
