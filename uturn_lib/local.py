"""A local score: the exact denoiser of patches. It makes images that are not stored, untrained."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from .denoisers import ExactDenoiser
from .support import checks
from .support.hashes import content_hash

# Niedoba et al., CIFAR-10: noise level and side of the patch, in units of the image's side (32).
# From the last level on, the patch is the whole image.
SCHEDULE_SIGMAS = (0.3, 0.6, 1.1, 1.9, 3.3, 5.3, 8.4)
SCHEDULE_SIDES = tuple(pixels / 32 for pixels in (3, 5, 7, 11, 15, 23, 63))

# In float32 weights below e^-50 of the largest are nothing, but their products with other small
# numbers would be denormal, and those are computed ten times more slowly.
LOWEST_LOG_WEIGHT, LOWEST_SCALE = -50.0, 1e-15


class LocalDenoiser(ExactDenoiser):
    """Every pixel is denoised by what the training images show at the same place around it.

    A patch P(j) is a square of ``patch`` x ``patch`` pixels around pixel j, cut at the border. Each
    patch of ``x`` has its own posterior over the patches of the training images y_n at that place:

        w_n(j) = softmax_n(-sum_{i in P(j)} |x_i - y_n,i|^2 / (2 sigma^2))
        D(x, sigma)_i = mean over the patches j that contain pixel i of sum_n w_n(j) y_n,i

    Different places of one output may come from different images: this score generalises. Patches
    as large as the image (2 side - 1) give :class:`EmpiricalDenoiser`, which memorises.
    D is no posterior mean of a law of whole images, so ``(D - x) / sigma^2`` need not be a
    gradient, and no ``log_prob`` or ``sample`` exists.

    Source: the patch set posterior composites with square patches of Niedoba et al. (2025,
    arXiv 2411.19339); the same idea in Kamb & Ganguli (2024, arXiv 2412.20292), whose local score
    averages no patches. Written from the formula. Our reading: a patch at the border is cut;
    the authors use only patches that fit into the image.

    Two passes over the images, one ``x`` at a time: the sums over P(j) are box filters (products
    with a banded matrix, whose cost does not depend on ``patch``), the first pass finds the
    normalisation of every w(j), the second filters the weights back. Distances are sums of squared
    differences, never |x|^2 + |y|^2 - 2 x.y. Memory traffic per ``x``: two readings of the images,
    one writing and one reading of the weights.

    Parameters
    ----------
    images: (N, C, H, W), kept by reference, on its device. Half precision is computed in float32.
    patch: side of the patch in pixels, odd; None: :func:`scheduled_patch` of each sigma.
    labels: (N,) integers or None; with them, a label restricts the sum over n to its class.
    chunk: pixels of the weight maps (N, H, W) worked on at once.
    keep: weights are kept between the passes if they are at most so many, else computed twice.
        Memory beyond the data: some ``chunk + keep`` numbers.

    Raises ``ValueError`` for empty images, other shapes, an even patch, a class without images.
    """

    def __init__(
        self,
        images: Tensor,
        patch: int | None = None,
        labels: Tensor | None = None,
        chunk: int = 2**19,
        keep: int = 2**26,
    ):
        checks.samples("images", images)
        if images.ndim != 4:
            raise ValueError(f"images has shape {tuple(images.shape)}; (N, C, H, W) is needed")
        if images.numel() == 0:
            raise ValueError("images is empty; at least one image is needed")
        if patch is not None and checks.positive_int("patch", patch) % 2 == 0:
            raise ValueError(f"patch = {patch} must be odd: its middle is a pixel")
        self.images, self.patch = images, patch
        self.chunk = checks.positive_int("chunk", chunk)
        self.keep = checks.positive_int("keep", keep, minimum=0)
        self.sample_shape = tuple(images.shape[1:])
        self.class_of = None
        if labels is not None:
            self.num_classes = int(torch.as_tensor(labels).max()) + 1
            self.class_of = checks.labels(labels, len(images), self.num_classes).to(images.device)
            missing = sorted(set(range(self.num_classes)) - set(self.class_of.tolist()))
            if missing:
                raise ValueError(
                    f"labels: no image has class {missing}; every class from 0 on needs at least "
                    "one"
                )
        self._fingerprint: str | None = None

    @property
    def fingerprint(self) -> str:
        """Patch and SHA-256 of the images (and labels), computed when first asked for."""
        if self._fingerprint is None:
            data = [self.images] if self.class_of is None else [self.images, self.class_of]
            self._fingerprint = f"local, patch {self.patch}, {content_hash(*data)}"
        return self._fingerprint

    def __call__(self, x: Tensor, sigma: float | Tensor, labels: Tensor | None = None) -> Tensor:
        """D(x, sigma), shape of ``x``; at sigma = 0 the mean of the nearest patches."""
        _, levels = self.flatten(x, sigma)
        labels = checks.labels(labels, len(x), self.num_classes)
        classes = [None] * len(x) if labels is None else labels.tolist()
        work = torch.promote_types(self.images.dtype, torch.float32)
        rows = x.to(device=self.images.device, dtype=work)
        each = [
            self._composite(row, level, self._blocks(k))
            for row, level, k in zip(
                rows, levels.flatten().expand(len(x)).tolist(), classes, strict=True
            )
        ]
        return torch.stack(each).to(device=x.device, dtype=x.dtype) if each else x.clone()

    def _blocks(self, label: int | None) -> Sequence[slice | Tensor]:
        """Which images there are, of ``label`` or all, in blocks of ``chunk`` pixels."""
        size = max(1, self.chunk // math.prod(self.sample_shape[1:]))
        if label is None or self.class_of is None:
            return [slice(first, first + size) for first in range(0, len(self.images), size)]
        return (self.class_of == label).nonzero().flatten().split(size)

    def _composite(self, x: Tensor, sigma: float, blocks: Sequence[slice | Tensor]) -> Tensor:
        """D of one ``x`` (C, H, W): the weights of the patches, filtered back to the pixels."""
        patch = self.patch or scheduled_patch(sigma, max(x.shape[1:]))
        box = BoxFilter(x.shape[1:], patch, x)
        result = torch.zeros(x.shape, dtype=torch.float64, device=x.device)
        for y, weights in self._weights(x, sigma, box, blocks):
            shares = box(weights)  # of image n at pixel i: the sum over the patches around i
            for total, channel in zip(result, y.unbind(1), strict=True):
                total += (shares * channel).sum(0)
        return result / box(torch.ones_like(x[:1], dtype=x.dtype))

    def _weights(
        self, x: Tensor, sigma: float, box: BoxFilter, blocks: Sequence[slice | Tensor]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield blocks of images y (n, C, H, W) and w_n(j) (n, H, W), j the middle of the patch.

        The softmax over all blocks is known after the first pass. Until then weights are relative
        to the largest ``peak`` (H, W) seen so far, and ``total`` is rescaled whenever it grows.
        """
        precision = min(0.5 / max(sigma, 1e-15) ** 2, 1e30)  # finite: sigma = 0 is a limit

        def relative(y: Tensor, peak: Tensor) -> tuple[Tensor, Tensor]:
            logits = box(squared_differences(y, x)).mul_(-precision)
            peak = torch.maximum(peak, logits.amax(0))
            return logits.sub_(peak).clamp_(min=LOWEST_LOG_WEIGHT).exp_(), peak

        kept, keeping = [], len(self.images) * x[0].numel() <= self.keep
        peak, total = torch.full_like(x[0], -math.inf), torch.zeros_like(x[0], dtype=torch.float64)
        for block in blocks:
            before = peak
            weights, peak = relative(self.images[block].to(x.dtype), before)
            total = total * (before - peak).exp() + weights.sum(0)
            if keeping:
                kept.append((weights, peak))
        for number, block in enumerate(blocks):
            y = self.images[block].to(x.dtype)
            weights, then = kept[number] if keeping else relative(y, peak)
            scale = ((then - peak).exp() / total).to(x.dtype)
            yield y, weights.mul_(torch.where(scale < LOWEST_SCALE, 0, scale))


class BoxFilter:
    """Sums over squares of ``patch`` x ``patch`` pixels around every pixel, cut at the border.

    ``box(maps)``: (..., H, W) to (..., H, W), as R maps C with banded matrices of ones. ``like``
    gives dtype and device. Only positive numbers are added here: no digits are lost, as they would
    be by differences of cumulative sums.
    """

    def __init__(self, size: Sequence[int], patch: int, like: Tensor):
        self.rows, self.columns = (band(length, patch).to(like) for length in size)

    def __call__(self, maps: Tensor) -> Tensor:
        return self.rows @ (maps @ self.columns)


def band(length: int, width: int) -> Tensor:
    """Symmetric matrix (length, length) of ones within ``width // 2`` of the diagonal."""
    place = torch.arange(length)
    return ((place[:, None] - place).abs() <= width // 2).float()


def squared_differences(y: Tensor, x: Tensor) -> Tensor:
    """|y_n - x|^2 of each pixel, summed over channels: (N, C, H, W), (C, H, W) to (N, H, W)."""
    total = (y[:, 0] - x[0]).square_()
    for channel in range(1, len(x)):
        difference = y[:, channel] - x[channel]
        total.addcmul_(difference, difference)
    return total


def scheduled_patch(sigma: float, side: int) -> int:
    """Side of the patch in pixels, odd, for noise of level ``sigma`` in images of ``side`` pixels.

    That of Niedoba et al. for CIFAR-10 (32 pixels): 3, 5, 7, 11, 15, 23 at sigma = 0.3, 0.6, 1.1,
    1.9, 3.3, 5.3; 3 below; the whole image from 8.4 on. Ours: linear in ln sigma between, and in
    proportion to the side of other images.
    """
    levels = SCHEDULE_SIGMAS
    sigma, side = checks.noise_level("sigma", sigma), checks.positive_int("side", side)
    if sigma >= levels[-1]:
        return 2 * side - 1
    pixels = side * np.interp(math.log(max(sigma, levels[0])), np.log(levels), SCHEDULE_SIDES)
    return 2 * max(0, round((pixels - 1) / 2)) + 1
