"""A small random grammar: data with a hierarchy that is known, every string of it at hand."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..support import checks


def random_grammar(
    symbols: int = 4, rules: int = 2, depth: int = 3, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """All strings of a random grammar: tokens (M, 2^depth) and their root symbols (M,).

    At each of ``depth`` levels each of the ``symbols`` has ``rules`` ways to be written as a pair
    of symbols of the level below. All pairs of a level differ, so that a string has one root (the
    class). Each root has M / symbols = rules^(2^depth - 1) strings. After the random hierarchy
    model of Cagnetta et al. (2024); ours is as small as can be enumerated. Raises ``ValueError``
    for fewer than ``symbols * rules`` pairs, or more than 100,000 strings.
    """
    for name, value in (("symbols", symbols), ("rules", rules), ("depth", depth)):
        checks.positive_int(name, value)
    if rules > symbols:
        raise ValueError(f"rules = {rules}: {symbols} symbols have only {symbols} pairs each")
    if symbols * rules ** (2**depth - 1) > 100_000:
        raise ValueError(f"depth = {depth}: more than 100,000 strings; take fewer rules or levels")
    rng = np.random.default_rng(seed)
    strings = [np.array([[token]]) for token in range(symbols)]  # of each symbol, lowest level
    for _ in range(depth):
        pairs = rng.permutation(symbols**2)[: symbols * rules].reshape(symbols, rules)
        strings = [
            np.concatenate([_joined(strings[p // symbols], strings[p % symbols]) for p in own])
            for own in pairs
        ]
    roots = np.repeat(np.arange(symbols), [len(own) for own in strings])
    return torch.from_numpy(np.concatenate(strings)), torch.from_numpy(roots)


def _joined(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Every string of ``left`` followed by every one of ``right``."""
    return np.hstack([np.repeat(left, len(right), 0), np.tile(right, (len(left), 1))])


def one_hot(tokens: Tensor, symbols: int) -> Tensor:
    """``tokens`` (N, L) as vectors, (N, symbols, L), float64: a channel for each symbol."""
    return torch.nn.functional.one_hot(tokens, symbols).double().transpose(1, 2)
