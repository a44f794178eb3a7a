"""Class retention from a classifier, where the ideal retention is known: a Gaussian mixture of
small images."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from uturn_lib import experiments
from uturn_lib.data import ImageSet
from uturn_lib.data.halves import held_out_halves
from uturn_lib.denoisers import GaussianMixtureDenoiser
from uturn_lib.experiments.study import Judge
from uturn_lib.measures.class_bound import bound_crossing
from uturn_lib.measures.retention import agreement, chance_level
from uturn_lib.networks import NoiseClassifier
from uturn_lib.seeding import NoiseStream, sample_seeds

SIGMAS = (0.2, 0.5, 1.0, 1.7, 3.0, 6.0, 20.0)
SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def images_mixture():
    """Four equally likely classes: smooth patterns in some pixel noise."""
    generator = torch.Generator().manual_seed(0)
    means = torch.nn.functional.interpolate(
        torch.randn(4, 1, 2, 2, generator=generator), (8, 8), mode="bilinear"
    )
    return GaussianMixtureDenoiser(torch.full((4,), 0.25), 0.5 * means, torch.full((4,), 0.05))


def drawn(mixture, count, seed):
    images, labels = mixture.sample(sample_seeds(seed, range(count), "start"))
    return ImageSet(
        "mixture",
        "test",
        images.float(),
        labels,
        tuple("abcd"),
        "made here",
        "none",
        f"mixture:{count}:{seed}",
    )


@pytest.fixture(scope="module")
def exact(images_mixture):
    return Judge(
        lambda: lambda x, sigma: images_mixture.responsibilities(x, sigma),
        images_mixture.fingerprint,
    )


@pytest.fixture(scope="module")
def integral(images_mixture):
    """E sum_k p_k^2 by 20,000 other draws, (values, standard errors) at each level."""
    images, _ = images_mixture.sample(sample_seeds(5, range(20_000), "start"))
    noise = NoiseStream(sample_seeds(6, range(20_000), "forward"), SHAPE).normal()
    kept = torch.stack(
        [agreement(images_mixture.responsibilities(images + s * noise, s)) for s in SIGMAS]
    )
    return kept.mean(1).numpy(), (kept.std(1) / 20_000**0.5).numpy()


def errors(values):
    return values.std(1) / values.shape[1] ** 0.5


def test_the_exact_classifier_gives_the_integral(images_mixture, exact, integral):
    """Both readings, within 4 standard errors of the difference."""
    found = experiments.class_bound(exact, drawn(images_mixture, 3000, 1), SIGMAS, draws=1)
    for values in (found.bound, found.agreement):
        tolerance = 4 * np.hypot(errors(values), integral[1]) + 1e-4
        assert (abs(values.mean(1) - integral[0]) < tolerance).all()
    assert found.bound.shape == (7, 3000) and found.classes == 4
    assert found.curve[0].value > 0.9 and abs(found.curve[-1].value - 0.25) < 0.05


def trained(mixture, steps=250):
    """A small network trained on fresh draws of the mixture, in seconds."""
    torch.manual_seed(0)
    network = NoiseClassifier(SHAPE, 4, (12, 16), (1, 1), sigma_data=0.4, embedding=8)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    images, labels = mixture.sample(sample_seeds(9, range(8192), "start"))
    images, generator = images.float(), torch.Generator().manual_seed(0)
    low, high = math.log(0.1), math.log(30)
    for step in range(steps):
        index = torch.randint(len(images), (256,), generator=generator)
        sigma = (low + (high - low) * torch.rand(256, generator=generator)).exp()
        noise = torch.randn(256, *SHAPE, generator=generator)
        logits = network(images[index] + sigma[:, None, None, None] * noise, sigma)
        loss = torch.nn.functional.cross_entropy(logits, labels[index])
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (1 - step / steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval().requires_grad_(False)
    return lambda x, sigma: network(x, torch.full((len(x),), float(sigma))).softmax(1)


def test_a_trained_classifier_gives_the_integral_from_below(images_mixture, exact, integral):
    """At most 4 standard errors above it at every level, and at most 0.05 (plus those) below: what
    250 steps leave."""
    learnt = trained(images_mixture)
    judge, data = Judge(lambda: learnt, "learnt"), drawn(images_mixture, 3000, 1)
    found = experiments.class_bound(judge, data, SIGMAS, draws=1)
    mean, tolerance = found.bound.mean(1), 4 * np.hypot(errors(found.bound), integral[1]) + 1e-4
    assert (mean < integral[0] + tolerance).all()
    assert (mean > integral[0] - 0.05 - tolerance).all()
    # T_s of the integral is not below the bound's (paired: the same images and noise), and near it
    best = experiments.class_bound(exact, data, SIGMAS, draws=1)
    assert found.t_s.value < best.t_s.value * 1.02
    assert found.t_s.value > 0.85 * best.t_s.value
    assert best.fitted_t_s.value == pytest.approx(best.t_s.value, rel=0.15)


def test_curves_are_means_of_what_is_stored(images_mixture, exact):
    found = experiments.class_bound(exact, drawn(images_mixture, 200, 2), SIGMAS, draws=3, seed=4)
    np.testing.assert_allclose([e.value for e in found.curve], found.bound.mean(1))
    np.testing.assert_allclose(found.bound + 2 * found.gap, found.agreement, atol=1e-6)
    crossing = bound_crossing(SIGMAS, found.bound, chance_level(4))
    assert (found.t_s.value, found.t_s.low) == (crossing.value, crossing.low)
    assert all(0 <= e.low <= e.value <= e.high <= 1 for e in found.accuracy)
    again = experiments.class_bound(exact, drawn(images_mixture, 200, 2), SIGMAS, draws=3, seed=5)
    assert not np.array_equal(again.bound, found.bound)


def test_a_profile_asks_on_images_that_calibrated_nothing(monkeypatch, exact):
    """The first half of the held-out images, which begins with the ground truths."""
    from uturn_lib import load_data
    from uturn_lib.experiments import classes

    test = load_data("digits", "test")
    asked = {}
    monkeypatch.setattr(classes, "noise_judge", lambda study: exact)
    monkeypatch.setattr(
        classes,
        "class_bound",
        lambda judge, data, sigmas, seed: asked.update(data=data, sigmas=sigmas),
    )
    experiments.profile_class_bound(
        SimpleNamespace(test=test, profile=SimpleNamespace(sigmas=(1.0, 2.0)))
    )
    first, second = held_out_halves(test)
    assert asked["data"].fingerprint == first.fingerprint and asked["sigmas"] == (1.0, 2.0)
    assert len(first) + len(second) == len(test) and len(first) == 149
    assert torch.equal(first.images[:20], test.take(20).images)
    both = torch.cat([first.images, second.images]).flatten(1)
    assert sorted(map(tuple, both.tolist())) == sorted(map(tuple, test.images.flatten(1).tolist()))


def test_without_a_noise_classifier_there_is_no_bound_and_no_error():
    study = experiments.prepare("laptop", "cpu")
    for name in (None, "nowhere"):
        without = replace(study, profile=replace(study.profile, noise_classifier=name))
        assert experiments.shipped_class_bound(without) is None
        with pytest.raises(FileNotFoundError, match="noise_classifier|nowhere"):
            experiments.noise_judge(without)
