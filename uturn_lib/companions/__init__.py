"""The experiments of the three companion studies: :mod:`dynamics` (P2, what the U-Net's parts do), :mod:`geometry` (P3, how trajectories move), :mod:`duration` (P4, how long
the diffusion must be). Beside ``experiments``, and built like it: pieces cached by everything they depend on; sweeps that several of them need are in :mod:`flows`.
"""

from . import claims, duration, dynamics, flows, geometry

__all__ = ["claims", "duration", "dynamics", "flows", "geometry"]
