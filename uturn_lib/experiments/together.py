"""What changes together in the U-Turns of a sweep, in pixels or in features."""

from __future__ import annotations

from ..measures.susceptibility import Susceptibility, susceptibility
from .spaces import in_space
from .study import Study
from .sweeps import Sweep


def changes_together(
    study: Study, sweep: Sweep, space: str = "pixels", seed: int = 0
) -> Susceptibility:
    """Susceptibility of the changes x_0 -> y_0 of ``sweep``, at its levels.

    ``space``: "pixels" (a site is a pixel with its colours), or one of features
    (``experiments.spaces``; a site is a feature). Raises ``ValueError`` for another space.
    """
    if space == "pixels":
        return susceptibility(sweep.sigmas, sweep.x0, sweep.y0, seed)
    x0, y0 = (in_space(study, space, images) for images in (sweep.x0, sweep.y0))
    return susceptibility(sweep.sigmas, x0[..., None, :], y0[..., None, :], seed)
