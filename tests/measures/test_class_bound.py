"""The bound of class retention: what holds for every classifier, what only for the exact one, and
what calibration adds."""

import numpy as np
import pytest
import torch

from uturn_lib.measures import class_bound as classes
from uturn_lib.measures.retention import agreement, crossing_between
from uturn_lib.seeding import NoiseStream, sample_seeds

SIGMA, COUNT = 1.0, 6000


@pytest.fixture(scope="module")
def noisy(mixture):
    """Noisy points of the mixture, the classes they came from, and p(class | x)."""
    x0, labels = mixture.sample(sample_seeds(0, range(COUNT), "start"))
    x = x0 + SIGMA * NoiseStream(sample_seeds(0, range(COUNT), "forward"), (2,)).normal()
    return x, labels, mixture.responsibilities(x, SIGMA)


def standard_error(values):
    return float(values.std() / len(values) ** 0.5)


def wrong_classifiers(p):
    """None of them is p: too sure, too unsure, knows nothing, knows one class only, errs always,
    random."""
    generator = torch.Generator().manual_seed(0)
    shift = torch.nn.functional.one_hot(torch.full((len(p),), 1), 3).double()
    return {
        "too sure": (4 * p.log()).softmax(1),
        "decision": torch.nn.functional.one_hot(p.argmax(1), 3).double(),
        "too unsure": (0.3 * p.log()).softmax(1),
        "knows nothing": torch.full_like(p, 1 / 3),
        "one class": shift,
        "errs": p.roll(1, 1),
        "random": torch.rand(p.shape, generator=generator, dtype=p.dtype).softmax(1),
    }


def test_the_exact_posterior_attains_its_agreement(noisy):
    """E[2 p_y - sum p^2] = E sum p^2; and p is calibrated: E[sum p^2 - p_y] = 0. Within 4 standard
    errors."""
    _, labels, p = noisy
    gap = classes.calibration_gap(p, labels)
    assert abs(float(gap.mean())) < 4 * standard_error(gap)
    difference = classes.retention_bound(p, labels) - agreement(p)
    assert abs(float(difference.mean())) < 4 * standard_error(difference)


@pytest.mark.parametrize(
    "name", ["too sure", "decision", "too unsure", "knows nothing", "one class", "errs", "random"]
)
def test_any_other_classifier_stays_below_by_its_squared_error(noisy, name):
    """c* - E[2 q_y - sum q^2] = E sum (p - q)^2, within 4 standard errors of the paired
    difference."""
    _, labels, p = noisy
    q = wrong_classifiers(p)[name]
    gap, error = agreement(p) - classes.retention_bound(q, labels), (p - q).square().sum(1)
    paired = gap - error
    assert abs(float(paired.mean())) < 4 * standard_error(paired) + 1e-12
    assert float(gap.mean()) > 4 * standard_error(gap)  # each of them errs enough to be seen


def test_the_agreement_of_a_classifier_that_is_too_sure_is_no_bound(noisy):
    """Why the second reading needs calibration: it lies above c*, and the gap says so."""
    _, labels, p = noisy
    q = wrong_classifiers(p)["too sure"]
    above, gap = agreement(q) - agreement(p), classes.calibration_gap(q, labels)
    assert float(above.mean()) > 4 * standard_error(above) and float(
        gap.mean()
    ) > 4 * standard_error(gap)


def test_a_calibrated_classifier_that_sees_less_stays_below(mixture, noisy):
    """q = E[p | first coordinate's sign and class pair merged]: calibrated in full, so that both
    readings agree and lie below c* (Jensen)."""
    x, labels, p = noisy
    cell = (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()
    q = torch.stack([p[cell == k].mean(0) for k in range(4)])[cell]
    gap = classes.calibration_gap(q, labels)
    assert abs(float(gap.mean())) < 4 * standard_error(gap)
    below = agreement(p) - agreement(q)
    assert float(below.mean()) > 4 * standard_error(below)


def test_identities_of_the_readings():
    """For one certain and one undecided classifier, by hand; bound + 2 gap = agreement always."""
    q, labels = torch.tensor([[1.0, 0, 0, 0], [0.25] * 4, [1.0, 0, 0, 0]]), torch.tensor([0, 2, 1])
    assert classes.retention_bound(q, labels).tolist() == [1.0, 0.25, -1.0]
    assert classes.calibration_gap(q, labels).tolist() == [0.0, 0.0, 1.0]
    found = classes.readings(q.repeat(2, 20, 1), labels.repeat(20))
    assert found["bound"].shape == (60,) and found["right"][[0, 2]].tolist() == [1.0, 0.0]
    np.testing.assert_allclose(found["bound"] + 2 * found["gap"], found["agreement"])


def test_calibration_error_is_the_excess_of_confidence():
    """Confidence 0.8 everywhere, right in half of the cases: 0.3 in every bin. Calibrated: chance
    only."""
    q = torch.tensor([[0.8, 0.2]]).repeat(3000, 1)
    half = torch.arange(3000) % 2
    assert abs(classes.calibration_error(q, half) - 0.3) < 0.01
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(20_000, 3, generator=generator).pow(2).add(1e-3)
    p = p / p.sum(1, keepdim=True)
    labels = torch.multinomial(p, 1, generator=generator)[:, 0]
    chance = (2 * 15 * 0.25 / (np.pi * len(p))) ** 0.5
    assert classes.calibration_error(p, labels) < 2 * chance
    with pytest.raises(ValueError, match="2 images are too few for bins = 15"):
        classes.calibration_error(p[:2], labels[:2])


def test_crossings_of_a_known_curve():
    """1 - ln(sigma) / 4 falls through 0.55 at sigma = e^1.8; beyond the grid 0 or inf."""
    sigmas = np.geomspace(1, 50, 25)
    curve = 1 - np.log(sigmas) / 4
    bound = curve[:, None] + np.linspace(-0.2, 0.2, 101)  # the mean is the curve
    found = classes.bound_crossing(sigmas, bound, 0.55)
    assert abs(np.log(found.value) - 1.8) < 1e-9 and found.low < found.value < found.high
    assert found.value == pytest.approx(crossing_between(sigmas, curve, 0.55))
    assert abs(np.log(classes.bound_crossing(sigmas, bound, 0.55, fitted=True).value) - 1.8) < 0.15
    assert classes.bound_crossing(sigmas[:4], bound[:4], 0.55).value == np.inf
    assert classes.bound_crossing(sigmas, bound - 1, 0.55).value == 0.0


def test_labels_that_are_none_are_refused():
    with pytest.raises(ValueError, match="labels"):
        classes.retention_bound(torch.full((3, 2), 0.5), torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="labels"):
        classes.retention_bound(torch.full((3, 2), 0.5), torch.tensor([0, 1]))
