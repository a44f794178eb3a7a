"""Running a reverse process: its settings (``Sampler``), and ``reverse``, which yields it step by step.

``reverse`` is a generator: it gives the state at every noise level of the grid together with the denoiser's answer there, so that
whatever one wants to know of a path (norms, correlations, tests of Gaussianity) is read off on the way. The methods and their
formulas are in ``methods``. The state is float64 whatever the network's precision.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from .denoisers import Denoiser, sigma_range
from .methods import METHODS, Churn, Leg, Method, Step
from .noise import SIGMA_MIN
from .seeding import NoiseStream
from .support import checks


@dataclass(frozen=True)
class Sampler:
    """How to go back: ``Sampler("dpmpp", 8)``. Hashable; equal settings are equal samplers.

    ``method``: a name in ``methods.METHODS``. ``steps``: of the reverse leg. ``batch_size``: samples per denoiser call, without influence
    on the result. ``churn``: of "edm" only (a ``Churn`` or its fields; by default that of the paper's authors).
    Raises ``ValueError`` or ``TypeError`` for settings that cannot be used.
    """

    method: str = "sde"
    steps: int = 64
    batch_size: int = 256
    churn: Churn | None = None

    def __post_init__(self) -> None:
        checks.one_of("method", self.method, METHODS)
        for name in ("steps", "batch_size"):
            object.__setattr__(self, name, checks.positive_int(name, getattr(self, name)))
        object.__setattr__(self, "churn", churn_of(METHODS[self.method], self.churn))

    @classmethod
    def of(cls, sampler: Sampler | None, **settings: Any) -> Sampler:
        """``sampler`` itself, or one made of those ``settings`` that are not None. Both at once are refused (``ValueError``)."""
        given = {name: value for name, value in settings.items() if value is not None}
        if sampler is None:
            return cls(**given)
        if not isinstance(sampler, cls):
            hint = "give a number of steps as steps=, a name as method="
            raise TypeError(f"sampler = {sampler!r} must be a Sampler; {hint}")
        if given:
            raise ValueError(
                f"sampler and {', '.join(given)} are given; one or the other: {sampler} says it all"
            )
        return sampler

    @property
    def calls(self) -> int:
        """Denoiser calls for each sample of a reverse leg."""
        return METHODS[self.method].calls_in(self.steps)

    @property
    def key(self) -> dict[str, Any]:
        """What the result depends on, as JSON types, for a cache key; ``Sampler(**key)`` is this sampler again, but for the batch size."""
        return {name: value for name, value in asdict(self).items() if name != "batch_size"}


def churn_of(method: Method, churn: Churn | Mapping[str, float] | None) -> Churn | None:
    """The churn that ``method`` runs with: None where it has none. ``ValueError`` where it was given all the same."""
    if method.perturb is None:
        if churn is not None:
            raise ValueError(f"churn is for method 'edm' only, not {method.name!r}")
        return None
    if isinstance(churn, Mapping):
        churn = Churn(**churn)
    if not isinstance(churn, Churn | None):
        raise TypeError(f"churn = {churn!r} must be a Churn")
    return churn or Churn()


def reverse(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    method: str | Method = "sde",
    seeds: Sequence[int] | None = None,
    labels: Tensor | None = None,
    churn: Churn | None = None,
) -> Iterator[Step]:
    """Run the reverse process from ``x`` (B, *sample) at ``sigmas[0]`` down to ``sigmas[-1]`` = 0 and yield every :class:`Step`.

    ``sigmas`` (n + 1,) decrease (``noise.karras_sigmas``). ``method``: a name in ``methods.METHODS``, or a ``Method``. ``seeds``: one int
    per sample, for methods that draw noise. ``labels`` (B,): classes. ``churn``: of "edm" only.

    Raises ``ValueError`` for a bad method, grid, seeds, or noise level outside the denoiser's range (at once, not at the
    first step), ``FloatingPointError`` when the denoiser returns NaN or infinity.
    """
    if not isinstance(method, Method):
        checks.one_of("method", method, METHODS)
        method = METHODS[method]
    checks.samples("x", x, getattr(denoiser, "sample_shape", None))
    grid, (low, high) = check_grid(sigmas), sigma_range(denoiser)
    checks.noise_level("sigmas[0]", grid[0], highest=high)
    checks.noise_level("sigmas[-2]", grid[-2], lowest=low)
    options: dict[str, Any] = {"highest": high}
    if (churn := churn_of(method, churn)) is not None:
        options["churn"] = churn
    if method.draws_noise:
        if seeds is None or len(seeds) != len(x):
            found = "none" if seeds is None else len(seeds)
            raise ValueError(
                f"seeds: {found} given for {len(x)} samples; method {method.name!r} needs one int per sample"
            )
        options["noise"] = NoiseStream(seeds, x.shape[1:], x.device).normal
    return _walk(method, Leg(guarded(denoiser, labels), grid, **options), x.double())


def _walk(method: Method, leg: Leg, x: Tensor) -> Iterator[Step]:
    before = None
    for index, (s, t) in enumerate(pairwise(leg.sigmas)):
        asked_x, asked_s = method.perturb(leg, x, s) if method.perturb else (x, s)
        now = Step(index, s, x, leg.D(asked_x, asked_s), asked_x, asked_s)
        yield now
        x = (
            method.update(leg, now, before, t)
            if t > 0 or method.into_zero
            else now.denoised.to(x.dtype)
        )
        before = now
    yield Step(len(leg.sigmas) - 1, 0.0, x, x, x, 0.0)


def final(steps: Iterator[Step]) -> Tensor:
    """Exhaust a reverse process and return its last state, (B, *sample) float64."""
    return deque(steps, maxlen=1).pop().x


def sampling_grid(
    denoiser: Denoiser, steps: int, sigma_start: float, method: str = "ode"
) -> Tensor:
    """The grid of ``steps`` steps from ``sigma_start`` to 0 that suits ``method``, above the lowest level that the denoiser was made for.

    The Karras grid down to ``noise.SIGMA_MIN``; for "sde" ``noise.reverse_sde_sigmas``.
    """
    checks.one_of("method", method, METHODS)
    return METHODS[method].grid(steps, sigma_start, max(SIGMA_MIN, sigma_range(denoiser)[0]))


def check_grid(sigmas: Tensor) -> list[float]:
    """``sigmas`` (n + 1,) as floats; ``ValueError`` unless they decrease strictly and end at 0."""
    grid = torch.as_tensor(sigmas, dtype=torch.float64).tolist()
    if len(grid) < 2 or grid[-1] != 0 or not all(a > b for a, b in pairwise(grid)):
        raise ValueError(
            f"sigmas must decrease strictly and end at 0, got {grid[:3]} ... {grid[-2:]}"
        )
    return grid


def guarded(denoiser: Denoiser, labels: Tensor | None) -> Callable[[Tensor, float], Tensor]:
    """The denoiser without gradients, stopped at the first NaN: a bad number must not travel into a result."""

    def call(x: Tensor, sigma: float) -> Tensor:
        with torch.no_grad():
            denoised = denoiser(x, sigma, labels)
        if not torch.isfinite(denoised).all():
            bad = int((~torch.isfinite(denoised.flatten(1)).all(1)).sum())
            raise FloatingPointError(
                f"the denoiser returned NaN or infinity at sigma = {sigma:g} for {bad} of {len(x)} samples"
            )
        return denoised

    return call
