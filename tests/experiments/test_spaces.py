"""Whose image is an output, asked in several spaces: closed forms, symmetries, copies."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm

from uturn_lib import EmpiricalDenoiser, experiments, u_turn
from uturn_lib.data import ImageSet
from uturn_lib.experiments import spaces
from uturn_lib.experiments.study import Judge, Study
from uturn_lib.experiments.sweeps import Sweep
from uturn_lib.measures import retention
from uturn_lib.profiles import PROFILES


class Linear:
    """A judge with features A x: a linear space."""

    def __init__(self, matrix):
        self.matrix, self.fingerprint = matrix, f"linear {matrix.sum().item():.6f}"

    def extract(self, images):
        return images.flatten(1) @ self.matrix.T

    def predict(self, images):
        return torch.zeros(len(images), dtype=torch.long)


def image_set(split, images):
    labels = torch.zeros(len(images), dtype=torch.long)
    return ImageSet("toy", split, images, labels, ("a",), "", "", f"{split} {images.sum():.6f}")


def study_of(train, test, matrix):
    study = Study(
        lambda: None, "toy", profile=PROFILES["laptop"],
        train=image_set("train", train), test=image_set("test", test),
    )  # fmt: skip
    study.__dict__["_profile_judge"] = Judge(partial(Linear, matrix), Linear(matrix).fingerprint)
    return study


def sweep_of(x0, y0, sigmas):
    return Sweep(sigmas, x0, torch.zeros(len(x0), dtype=torch.long), y0, y0)


SIGMAS = (0.5, 1.0, 2.0, 4.0)


def test_two_stored_images_are_kept_as_an_integral_says_in_every_linear_space():
    """The empirical score of two images at distance d returns image 1 with probability
    E sigmoid(d^2 / 2 sigma^2 + (d / sigma) z), z ~ N(0, 1); a linear map that keeps them apart
    cannot change which of the two is nearest to one of them."""
    images = torch.zeros(2, 1, 2, 2)
    images[1, 0, 0] = torch.tensor([1.2, -0.9])  # d = 1.5
    count, draw = 1500, torch.Generator().manual_seed(0)
    x0 = images[:1].expand(count, -1, -1, -1)
    y0 = torch.stack(
        [u_turn(EmpiricalDenoiser(images), x0, s, steps=24, batch_size=count).y0 for s in SIGMAS]
    ).float()
    train = torch.cat([images[1:], images[1:] + 99])  # a copy is told by its two nearest images
    study = study_of(train, images[:1], torch.randn(3, 4, generator=draw))
    found = {
        name: experiments.kept_in(study, sweep_of(x0, y0, SIGMAS), name)
        for name in ("pixels", "classifier")
    }
    for level, sigma in enumerate(SIGMAS):
        a = 1.5 / sigma
        exact = quad(lambda z, a=a: norm.pdf(z) * expit(a * a / 2 + a * z), -9, 9)[0]
        error = np.sqrt(exact * (1 - exact) / count)
        for kept in found.values():
            # the sampler has 24 steps: 0.01 for its discretisation
            assert abs(float(kept.identity[level].double().mean()) - exact) < 4 * error + 0.01


def test_rotated_features_keep_what_pixels_keep_and_a_projection_is_the_projected_problem():
    draw = torch.Generator().manual_seed(1)
    train, test = torch.randn(60, 1, 2, 4, generator=draw), torch.randn(40, 1, 2, 4, generator=draw)
    y0 = test + torch.tensor([0.2, 0.6, 1.0, 1.5]).reshape(4, 1, 1, 1, 1) * torch.randn(
        4, *test.shape, generator=draw
    )
    sweep = sweep_of(test, y0, SIGMAS)
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=draw))[0]
    rotated = experiments.kept_in(study_of(train, test, rotation), sweep, "classifier")
    pixels = experiments.kept_in(study_of(train, test, rotation), sweep, "pixels")
    assert torch.equal(rotated.identity, pixels.identity)
    assert (rotated.copied == pixels.copied).double().mean() > 0.99  # rounding at the limit of 1/3
    assert pixels.t_m == retention.transition(SIGMAS, pixels.identity)

    part = torch.eye(8)[:3]
    projected = experiments.kept_in(study_of(train, test, part), sweep, "classifier")
    reference = torch.cat([train, test]).flatten(1)[:, :3]
    for level, rows in enumerate(y0.flatten(2)[..., :3]):
        nearest = torch.cdist(rows.double(), reference.double()).argmin(1)
        assert torch.equal(projected.identity[level], nearest == 60 + torch.arange(40))


def test_only_training_images_can_be_copied():
    draw = torch.Generator().manual_seed(2)
    train, test = torch.randn(30, 1, 1, 6, generator=draw), torch.randn(20, 1, 1, 6, generator=draw)
    y0 = torch.stack([test, train[:20]]) + 1e-3
    kept = experiments.kept_in(
        study_of(train, test, torch.eye(6)), sweep_of(test, y0, (0.5, 1.0)), "pixels"
    )
    assert kept.copied[1].all() and not kept.copied[0].any()
    assert kept.identity[0].all() and not kept.identity[1].any()


def test_unknown_spaces_are_refused_and_the_primary_one_is_always_there():
    study = study_of(torch.zeros(3, 1, 2, 2), torch.ones(2, 1, 2, 2), torch.eye(4))
    with pytest.raises(ValueError, match="space = 'colours' is not known; choose one of 'pixels'"):
        spaces.in_space(study, "colours", study.train.images)
    assert spaces.PRIMARY in spaces.spaces_at_hand()


@pytest.mark.skipif("imagenet" not in spaces.spaces_at_hand(), reason="needs EfficientNet-Lite0")
def test_features_of_another_network_have_the_shape_of_the_images():
    study = study_of(torch.zeros(3, 1, 4, 4), torch.ones(2, 1, 4, 4), torch.eye(16))
    draw = torch.rand(2, 3, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = spaces.in_space(study, "imagenet", draw)
    assert found.shape == (2, 3, 1280) and torch.isfinite(found).all()
    torch.testing.assert_close(
        spaces.in_space(study, "imagenet", draw[1]), found[1], rtol=1e-4, atol=1e-4
    )
