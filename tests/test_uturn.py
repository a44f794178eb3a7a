import math

import pytest
import torch
from conftest import make_tiny_network

from uturn_lib import GaussianDenoiser, artificial_start, g_turn, u_turn
from uturn_lib.networks import EDMDenoiser
from uturn_lib.seeding import NoiseStream, sample_seeds
from uturn_lib.uturn import forward_path


def digits(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 1, 8, 8, generator=generator) * 2 - 1


@pytest.mark.parametrize("method", ["sde", "ode", "edm"])
def test_a_sample_depends_on_its_seed_and_index_only(tiny_network, method):
    x0, labels = digits(7), torch.arange(7) % 3
    whole = u_turn(tiny_network, x0, 2.0, steps=10, method=method, seed=5, labels=labels)
    tolerance = dict(atol=2e-5, rtol=0)
    in_batches = u_turn(
        tiny_network, x0, 2.0, steps=10, method=method, seed=5, labels=labels, batch_size=3
    )
    torch.testing.assert_close(in_batches.y0, whole.y0, **tolerance)
    order = torch.tensor([4, 0, 6, 2, 5, 1, 3])
    shuffled = u_turn(
        tiny_network,
        x0[order],
        2.0,
        steps=10,
        method=method,
        seed=5,
        labels=labels[order],
        indices=order.tolist(),
    )
    torch.testing.assert_close(shuffled.y0, whole.y0[order], **tolerance)
    alone = u_turn(
        tiny_network, x0[3:4], 2.0, steps=10, method=method, seed=5, labels=labels[3:4], indices=[3]
    )
    torch.testing.assert_close(alone.y0, whole.y0[3:4], **tolerance)
    torch.testing.assert_close(alone.x_u, whole.x_u[3:4])  # the same noise; only the sum is rounded
    other = u_turn(tiny_network, x0, 2.0, steps=10, method=method, seed=6, labels=labels)
    assert (other.x_u - whole.x_u).abs().mean() > 0.5


def test_the_same_seed_gives_the_same_eps_at_every_level(gaussian):
    x0 = gaussian.sample(range(5))
    noises = [
        (u_turn(gaussian, x0, sigma, steps=4, seed=3).x_u - x0) / sigma
        for sigma in (0.1, 1.0, 50.0)
    ]
    torch.testing.assert_close(noises[0], noises[1])
    torch.testing.assert_close(noises[0], noises[2])


def test_noise_streams_are_standard_normal_and_independent():
    draws = NoiseStream(sample_seeds(0, range(4000)), (8,)).normal()
    assert draws.mean().abs() < 4 / math.sqrt(32_000) and abs(
        float(draws.var()) - 1
    ) < 4 * math.sqrt(2 / 32_000)
    covariance = torch.cov(draws.T) - torch.eye(8)
    assert covariance.abs().max() < 5 / math.sqrt(4000)
    stream = NoiseStream(sample_seeds(0, range(4000), "forward"), (8,))
    first, second = stream.normal(), stream.normal()
    for a, b in (
        (first, second),
        (first, draws),
        (first[1:], first[:-1]),
    ):  # over time, over purposes, over neighbours
        assert abs(float((a * b).mean())) < 4 / math.sqrt(a.numel())


def test_sigma_zero_returns_the_ground_truth(tiny_network):
    x0 = digits(3)
    turned = u_turn(tiny_network, x0, 0.0, steps=5)
    assert torch.equal(turned.y0, x0) and torch.equal(turned.x_u, x0)


def test_the_turn_is_where_it_was_asked_for(mixture):
    seen = []

    def spy(x, sigma, labels=None):
        seen.append(float(sigma))
        return mixture(x, sigma, labels)

    x0, _ = mixture.sample(range(2))
    u_turn(spy, x0, 0.7310000001, steps=6)
    assert seen[0] == 0.7310000001 and len(seen) == 6


def test_denoised_is_the_first_answer(mixture):
    x0, _ = mixture.sample(range(4))
    turned = u_turn(mixture, x0, 1.5, steps=8)
    torch.testing.assert_close(turned.denoised, mixture(turned.x_u, 1.5))


@pytest.mark.parametrize("method", ["sde", "ode", "edm"])
def test_denoised_is_taken_at_the_turn_itself(tiny_network, method):
    turned = u_turn(tiny_network, digits(3), 2.0, steps=6, method=method)
    torch.testing.assert_close(turned.denoised, tiny_network(turned.x_u, 2.0), atol=1e-4, rtol=0)


def test_outputs_can_be_turned_again(tiny_network):
    y0 = u_turn(tiny_network, digits(3), 2.0, steps=6).y0.clamp(
        -1.4, 1.4
    )  # a trained network overshoots by less than that
    assert u_turn(tiny_network, y0, 2.0, steps=6, seed=1).y0.shape == y0.shape


def test_labels_may_be_a_list(tiny_network):
    as_list, as_tensor = (
        u_turn(tiny_network, digits(2), 1.0, steps=3, labels=labels)
        for labels in ([0, 1], torch.tensor([0, 1]))
    )
    assert torch.equal(as_list.y0, as_tensor.y0)


def test_g_turn_starts_from_the_noisy_gaussian_and_returns_its_law(gaussian):
    count, sigma_u = 20_000, 2.0
    result = g_turn(gaussian, gaussian, count, sigma_u, steps=64, batch_size=count)
    for values, variance in (
        (result.x_u, gaussian.eigenvalues + sigma_u**2),
        (result.y0, gaussian.eigenvalues),
    ):
        modes = values.double() @ gaussian.eigenvectors
        mean = gaussian.mean @ gaussian.eigenvectors
        assert ((modes.mean(0) - mean).abs() < 4 * (variance / count).sqrt() + 1e-3).all()
        assert ((modes.var(0) / variance - 1).abs() < 4 * math.sqrt(2 / count) + 0.01).all()


def test_the_uturn_keeps_the_data_law(mixture):
    """The U-Turn is a Markov kernel with the data law stationary: component shares and means do not
    move."""
    count = 10_000
    x0, before = mixture.sample(range(count))
    y0 = u_turn(mixture, x0, 2.5, steps=64, batch_size=count).y0
    after = mixture.responsibilities(y0, 1e-3).argmax(1)
    shares = torch.stack(
        [labels.bincount(minlength=3).double() / count for labels in (before, after)]
    )
    assert (shares[0] - shares[1]).abs().max() < 4 * math.sqrt(0.5 / count)
    assert (before == after).double().mean() < 0.9  # while many samples did change their component


def test_results_keep_the_dtype_of_the_ground_truth(gaussian, tiny_network):
    for dtype in (torch.float32, torch.float64):
        assert u_turn(gaussian, torch.zeros(2, 6, dtype=dtype), 1.0, steps=4).y0.dtype == dtype
    turned = u_turn(tiny_network, digits(2), 1.0, steps=4)
    assert turned.y0.dtype == turned.x_u.dtype == turned.denoised.dtype == torch.float32


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(sigma_u=-0.1), "sigma_u"),
        (dict(sigma_u=float("nan")), "sigma_u"),
        (dict(sigma_u=80.5), "sigma_u.*80"),
        (dict(sigma_u=float("inf")), "sigma_u"),
        (dict(steps=0), "steps"),
        (dict(sigma_u="much"), "sigma_u.*number"),
        (dict(steps=2.5), "steps"),
        (dict(seed="abc"), "seed"),
        (dict(method="eulr"), "method.*sde.*euler"),
        (dict(seed=-1), "seed"),
        (dict(batch_size=0), "batch_size"),
        (dict(indices=[1]), "indices"),
        (dict(labels=torch.tensor([0, 3])), "classes 0 to 2"),
        (dict(labels=torch.tensor([0, -1])), "classes 0 to 2"),
        (dict(labels=torch.tensor([0])), "one per sample"),
        (dict(labels=torch.tensor([0.0, 1.0])), "integers"),
        (dict(x0=torch.zeros(2, 1, 8, 9)), "shape"),
        (dict(x0=torch.zeros(2, 3, 8, 8)), "shape"),
        (dict(x0=torch.zeros(2, 1, 8, 8, dtype=torch.uint8)), "floating point"),
        (dict(x0=torch.full((2, 1, 8, 8), 255.0)), r"\[-1, 1\]"),
        (dict(x0=torch.full((2, 1, 8, 8), float("nan"))), "NaN"),
    ],
)
def test_bad_input_is_refused_by_name(tiny_network, change, message):
    good = dict(x0=digits(2), sigma_u=1.0, steps=3)
    with pytest.raises((ValueError, TypeError), match=message):
        u_turn(tiny_network, **(good | change))


def test_labels_for_a_network_without_classes_are_refused():
    network = make_tiny_network(num_classes=0)
    u_turn(network, digits(2), 1.0, steps=3)  # without labels it works
    with pytest.raises(ValueError, match="no classes"):
        u_turn(network, digits(2), 1.0, steps=3, labels=torch.tensor([0, 1]))


def test_starts_without_ground_truth_check_their_input(tiny_network, gaussian):
    with pytest.raises(ValueError, match="count"):
        artificial_start(tiny_network, 0, 1.0)
    with pytest.raises(ValueError, match="sigma_u"):
        artificial_start(tiny_network, 2, 81.0)
    with pytest.raises(ValueError, match="sample_shape"):
        artificial_start(lambda x, sigma, labels=None: x, 2, 1.0)
    with pytest.raises(ValueError, match="shape"):
        g_turn(tiny_network, gaussian, 2, 1.0)


def test_a_network_that_returns_nan_stops_the_turn():
    network = make_tiny_network()
    next(network.unet.parameters()).fill_(float("nan"))
    assert isinstance(network, EDMDenoiser)
    with pytest.raises(FloatingPointError, match="NaN or infinity at sigma = 1"):
        u_turn(network, digits(2), 1.0, steps=3)


def test_gaussian_data_of_a_single_point_is_always_returned():
    point = GaussianDenoiser(torch.full((3,), 0.25), torch.zeros(3, 3))
    y0 = u_turn(point, torch.full((4, 3), 0.25), 5.0, steps=20).y0
    torch.testing.assert_close(y0, torch.full((4, 3), 0.25), atol=1e-6, rtol=0)


def test_the_forward_path_is_brownian_motion_on_the_clock_of_the_variance():
    count, sigmas = 4000, [0.0, 0.5, 1.5, 4.0]
    start = torch.full((count, 3), 0.7)
    path = forward_path(start, sigmas)
    assert path.shape == (4, count, 3) and torch.equal(path[0], start.double())
    steps = path.diff(dim=0)
    for step, (a, b) in zip(steps, zip(sigmas, sigmas[1:], strict=False), strict=True):
        assert abs(float(step.var()) / (b**2 - a**2) - 1) < 4 * math.sqrt(2 / (3 * count))
    assert abs(
        float((steps[0] * steps[1]).mean()) / float(steps[0].std() * steps[1].std())
    ) < 4 / math.sqrt(3 * count)
    with pytest.raises(ValueError, match="increase"):
        forward_path(start, [1.0, 0.5])
