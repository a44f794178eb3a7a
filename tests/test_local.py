"""The local score, against loops over patches written from the definition, its limits and its
symmetries."""

import math

import pytest
import torch

from uturn_lib import EmpiricalDenoiser, LocalDenoiser, u_turn
from uturn_lib.local import BoxFilter, scheduled_patch

EPS = torch.finfo(torch.float32).eps
# Two orders of the same float32 sums; exponents |x - y|^2 / 2 sigma^2 of the images that matter are
# below 100 here.
ROUNDING = dict(rtol=0, atol=100 * EPS)


def pictures(count, channels=1, height=6, width=6, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, channels, height, width, generator=generator, dtype=dtype) * 2 - 1


def noisy(images, sigma, seed=1):
    return images + sigma * torch.randn(
        images.shape, generator=torch.Generator().manual_seed(seed), dtype=images.dtype
    )


def by_loops(x, images, patch, sigma):
    """The definition in float64: cut out every patch, its posterior mean, and the average of all
    that cover a pixel."""
    x, images, (height, width) = x.double(), images.double(), x.shape[-2:]
    total, count = torch.zeros_like(x), torch.zeros(height, width)
    for i in range(height):
        for j in range(width):
            rows = slice(max(0, i - patch // 2), i + patch // 2 + 1)
            columns = slice(max(0, j - patch // 2), j + patch // 2 + 1)
            seen, known = x[:, rows, columns], images[:, :, rows, columns]
            weights = torch.softmax(
                -(known - seen).square().flatten(1).sum(1) / (2 * sigma**2), dim=0
            )
            total[:, rows, columns] += (weights[:, None, None, None] * known).sum(0)
            count[rows, columns] += 1
    return total / count


@pytest.mark.parametrize("shape", [(1, 6, 6), (3, 5, 8), (2, 7, 1)])
@pytest.mark.parametrize("patch", [1, 3, 5, 11])
@pytest.mark.parametrize("sigma", [0.05, 0.4, 3.0])
def test_it_is_the_average_of_the_posterior_means_of_patches(shape, patch, sigma):
    images = pictures(40, *shape)
    x = noisy(pictures(3, *shape, seed=2), sigma)
    expected = torch.stack([by_loops(row, images, patch, sigma) for row in x])
    # a weight is as good as its exponent: a few eps times its size, at most that of the nearest
    # whole image
    largest = float(torch.cdist(x.flatten(1), images.flatten(1)).amin(1).square().max()) / (
        2 * sigma**2
    )
    error = (LocalDenoiser(images, patch)(x, sigma) - expected).abs().max()
    assert float(error) < 2 * EPS * (1 + largest)


@pytest.mark.parametrize("sigma", [0.01, 0.3, 2.0])
def test_in_double_precision_only_the_smallest_weights_are_left_out(sigma):
    images = pictures(60, 2, dtype=torch.float64)
    x = noisy(images[:2], sigma)
    expected = torch.stack([by_loops(row, images, 3, sigma) for row in x])
    torch.testing.assert_close(LocalDenoiser(images, 3)(x, sigma), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "options", [{"chunk": 1}, {"chunk": 100}, {"keep": 0}, {"chunk": 100, "keep": 0}]
)
def test_blocks_and_kept_weights_change_nothing(options):
    """Also where the nearest image comes late or early: the running maximum then grows in many
    steps, or never."""
    images = pictures(50, 3)
    for order in (images, images.flip(0)):
        x = noisy(images[-4:], 0.2)
        whole = LocalDenoiser(order, 3)(x, 0.2)
        torch.testing.assert_close(LocalDenoiser(order, 3, **options)(x, 0.2), whole, **ROUNDING)


@pytest.mark.parametrize("sigma", [0.002, 0.5, 20.0])
def test_a_patch_of_the_whole_image_memorises(sigma):
    images = pictures(80, 3, 5, 4)
    x = noisy(images[:6], sigma)
    memory = EmpiricalDenoiser(images)
    torch.testing.assert_close(
        LocalDenoiser(images, 9)(x, sigma), memory(x, sigma), rtol=0, atol=1e-5
    )
    assert (LocalDenoiser(images, 3)(x, 1.0) - memory(x, 1.0)).abs().max() > 0.01


def test_symmetries():
    """Mirrored data and input give the mirrored output; the order of the images does not matter."""
    images, x = pictures(50, 2, 5, 7), pictures(3, 2, 5, 7, seed=4)
    plain = LocalDenoiser(images, 3)(x, 0.4)
    for dims in ([-1], [-2], [-1, -2]):
        mirrored = LocalDenoiser(images.flip(dims), 3)(x.flip(dims), 0.4)
        torch.testing.assert_close(mirrored.flip(dims), plain, **ROUNDING)
    torch.testing.assert_close(
        LocalDenoiser(images.mT.contiguous(), 3)(x.mT, 0.4).mT, plain, **ROUNDING
    )
    shuffled = images[torch.randperm(50, generator=torch.Generator().manual_seed(0))]
    torch.testing.assert_close(LocalDenoiser(shuffled, 3)(x, 0.4), plain, **ROUNDING)


def test_limits_of_the_noise_level():
    images = pictures(50, 3)
    local = LocalDenoiser(images, 3)
    for sigma in (0.0, 1e-20, 1e-3):  # every patch of a training image finds itself
        torch.testing.assert_close(local(images[:4], sigma), images[:4], rtol=0, atol=1e-6)
    everything = images.mean(0).expand(2, -1, -1, -1)
    torch.testing.assert_close(local(images[:2], 1e5), everything, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        LocalDenoiser(images)(images[:2], 1e5), everything, rtol=0, atol=1e-5
    )


def test_it_puts_together_what_no_image_shows_together():
    """Left halves and right halves are drawn independently: a new pair is known to the local score,
    not to memory."""
    generator = torch.Generator().manual_seed(0)
    halves = torch.rand(2, 12, 1, 8, 8, generator=generator) * 2 - 1
    pair = lambda i, j: torch.cat([halves[0, i, :, :, :4], halves[1, j, :, :, 4:]], dim=-1)  # noqa: E731
    images = torch.stack([pair(i, j) for i in range(12) for j in range(12) if (i + j) % 4])
    new = torch.stack([pair(i, (4 - i) % 12) for i in range(12)])
    local, memory = (
        d(noisy(new, 0.3), 0.3) for d in (LocalDenoiser(images, 3), EmpiricalDenoiser(images))
    )
    errors = [float((d - new).square().mean()) for d in (local, memory)]
    assert errors[0] < 0.25 * errors[1]


def test_noise_levels_and_labels_may_differ_within_a_batch():
    images, labels = pictures(60, 2), torch.arange(60) % 3
    local = LocalDenoiser(images, labels=labels, chunk=300)
    x, sigma, wanted = (
        pictures(4, 2, seed=5),
        torch.tensor([0.0, 0.3, 1.0, 20.0]),
        torch.tensor([0, 1, 2, 1]),
    )
    together, free = local(x, sigma, wanted), local(x, sigma)
    for row, (level, k) in enumerate(zip(sigma.tolist(), wanted.tolist(), strict=True)):
        alone = LocalDenoiser(images[labels == k])(x[row : row + 1], level)[0]
        torch.testing.assert_close(together[row], alone, **ROUNDING)
        torch.testing.assert_close(
            free[row], LocalDenoiser(images)(x[row : row + 1], level)[0], **ROUNDING
        )
    assert local(x[:0], 1.0).shape == (0, 2, 6, 6)


def test_results_keep_shape_and_dtype():
    for stored in (torch.float16, torch.float32, torch.float64):
        for dtype in (torch.float32, torch.float64):
            result = LocalDenoiser(pictures(9).to(stored))(pictures(2, dtype=dtype), 0.5)
            assert (
                result.shape == (2, 1, 6, 6)
                and result.dtype == dtype
                and bool(result.isfinite().all())
            )


def test_a_u_turn_ends_on_patches_of_the_images():
    """From little noise the way back returns what was turned, through the samplers as they are."""
    images = pictures(30, 1, 8, 8)
    turned = u_turn(LocalDenoiser(images, 3), images[:3], 0.1, steps=8)
    torch.testing.assert_close(turned.y0, images[:3], rtol=0, atol=0.02)


def test_box_sums_lose_no_digits():
    maps = pictures(4, 1, 32, 20).square()[:, 0] * torch.logspace(-6, 3, 4)[:, None, None]
    for patch in (1, 3, 11, 63):
        box = BoxFilter((32, 20), patch, maps)(maps)
        exact = BoxFilter((32, 20), patch, maps.double())(maps.double())
        assert float(((box - exact) / exact).abs().max()) < 32 * torch.finfo(torch.float32).eps
        pooled = torch.nn.functional.avg_pool2d(
            maps.double(), patch, 1, patch // 2, divisor_override=1
        )
        torch.testing.assert_close(exact, pooled, rtol=1e-12, atol=0)


def test_the_schedule():
    published = {
        0.3: 3,
        0.6: 5,
        1.1: 7,
        1.9: 11,
        3.3: 15,
        5.3: 23,
        8.4: 63,
        80.0: 63,
        0.01: 3,
        0.0: 3,
    }
    assert {sigma: scheduled_patch(sigma, 32) for sigma in published} == published
    for side in (4, 7, 28, 64):
        sizes = [scheduled_patch(sigma, side) for sigma in torch.logspace(-2, 2, 60).tolist()]
        assert all(size % 2 == 1 for size in sizes) and sizes == sorted(sizes)
        assert sizes[-1] == 2 * side - 1  # the whole image around every pixel
    images, x = pictures(20, 1, 16, 16), pictures(2, 1, 16, 16, seed=3)
    expected = LocalDenoiser(images, scheduled_patch(1.5, 16))(x, 1.5)
    torch.testing.assert_close(LocalDenoiser(images)(x, 1.5), expected, **ROUNDING)


def test_fingerprints_tell_what_is_computed():
    images, labels = pictures(6), torch.arange(6) % 2
    made = [
        LocalDenoiser(images),
        LocalDenoiser(images, 3),
        LocalDenoiser(images, 5),
        LocalDenoiser(images + 0.1, 3),
    ]
    made += [LocalDenoiser(images, 3, labels), EmpiricalDenoiser(images)]
    assert len({d.fingerprint for d in made}) == len(made)
    assert LocalDenoiser(images, 3, chunk=7).fingerprint == made[1].fingerprint


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: LocalDenoiser(pictures(0)), "images is empty"),
        (lambda: LocalDenoiser(torch.zeros(3, 12)), r"images has shape \(3, 12\)"),
        (lambda: LocalDenoiser(torch.zeros(3, 1, 4, 4, dtype=torch.uint8)), "images has dtype"),
        (lambda: LocalDenoiser(pictures(3), 4), "patch = 4 must be odd"),
        (lambda: LocalDenoiser(pictures(3), -1), "patch = -1"),
        (lambda: LocalDenoiser(pictures(3), 2.5), "patch = 2.5"),
        (lambda: LocalDenoiser(pictures(3), chunk=0), "chunk = 0"),
        (lambda: LocalDenoiser(pictures(3), keep=-1), "keep = -1"),
        (
            lambda: LocalDenoiser(pictures(3), labels=torch.tensor([0, 2, 2])),
            r"no image has class \[1\]",
        ),
        (lambda: LocalDenoiser(pictures(3), labels=torch.tensor([0, 1])), "labels have shape"),
        (lambda: LocalDenoiser(pictures(3))(pictures(2, 3), 1.0), "x has shape"),
        (lambda: LocalDenoiser(pictures(3))(pictures(2), math.nan), "sigma"),
        (lambda: LocalDenoiser(pictures(3))(pictures(2), -1.0), "sigma"),
        (lambda: LocalDenoiser(pictures(3))(pictures(2), 1.0, torch.tensor([0, 0])), "no classes"),
        (lambda: scheduled_patch(-1.0, 32), "sigma"),
        (lambda: scheduled_patch(1.0, 0), "side"),
    ],
)
def test_bad_input_is_refused_by_name(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
