"""Franzese et al. (2023): diffusion times, and auxiliary distributions for short diffusions."""
