"""Parts that are not computed give the numbers of parts that are switched off; cached features are
exact where nothing changes; nothing remains."""

import math

import pytest
import torch
from conftest import make_tiny_network
from torch import nn

from uturn_lib import GaussianDenoiser, karras_sigmas, load_denoiser
from uturn_lib.companions.p2.ablation import components, switched_off
from uturn_lib.companions.p2.shortcuts import (
    CachedDenoiser,
    Cut,
    ShortcutDenoiser,
    cached_saving,
    left_out,
    operations,
    part_costs,
)
from uturn_lib.companions.p3 import solvers
from uturn_lib.sampling import final


@pytest.fixture(scope="module")
def network():
    return load_denoiser("mnist", "cpu")


def untouched(unet: nn.Module) -> bool:
    return not any(
        "forward" in vars(module) or module._forward_hooks or module._forward_pre_hooks
        for module in unet.modules()
    )


def test_leaving_out_is_switching_off(network):
    x = torch.randn(2, *network.sample_shape)
    for part in components(network.unet):
        with switched_off(network.unet, [part]):
            expected = network(x, 1.0)
        with left_out(network.unet, [part]):
            assert torch.equal(network(x, 1.0), expected), part.name
    with left_out(network.unet, [part, part]):  # cuts may overlap
        assert torch.equal(network(x, 1.0), expected)
    parts = components(network.unet)[::3]
    with switched_off(network.unet, parts):
        expected = network(x, 1.0)
    with left_out(network.unet, parts):
        assert torch.equal(network(x, 1.0), expected)
    assert untouched(network.unet)


def test_nothing_remains_after_an_error(network):
    x = torch.randn(2, *network.sample_shape)
    before = network(x, 1.0)
    with (
        pytest.raises(RuntimeError, match="on purpose"),
        left_out(network.unet, components(network.unet)),
    ):
        raise RuntimeError("on purpose")
    with pytest.raises(ValueError, match="x has shape"):
        CachedDenoiser(network, 2)(x[:, :, :5], 1.0)
    assert untouched(network.unet) and torch.equal(network(x, 1.0), before)


def test_one_inside_of_another(network):
    x = torch.randn(2, *network.sample_shape)
    a, b = components(network.unet)[0], components(network.unet)[1]
    with left_out(network.unet, [a]):
        only_a = network(x, 1.0)
        with left_out(network.unet, [a, b]):
            both = network(x, 1.0)
        assert torch.equal(network(x, 1.0), only_a) and not torch.equal(both, only_a)
    assert untouched(network.unet)


def test_other_denoisers_are_refused(network):
    exact = GaussianDenoiser(torch.zeros(4), torch.eye(4))
    for make in (lambda: ShortcutDenoiser(exact, []), lambda: CachedDenoiser(exact, 2)):
        with pytest.raises(TypeError, match="GaussianDenoiser; a diffusers UNet2DModel"):
            make()
    with pytest.raises(ValueError, match="not a number"):
        ShortcutDenoiser(network, [])(torch.zeros(2, *network.sample_shape), math.nan)


def test_the_schedule_decides(network):
    parts = components(network.unet)
    shortcut = ShortcutDenoiser(network, [Cut(parts[0], 0.5, 2.0), Cut(parts[1], 1.0, math.inf)])
    assert [len(shortcut.missing(s)) for s in (0.4, 0.5, 1.0, 1.99, 2.0)] == [0, 1, 2, 2, 1]
    x = torch.randn(2, *network.sample_shape)
    assert torch.equal(shortcut(x, 0.4), network(x, 0.4))
    assert not torch.equal(shortcut(x, 3.0), network(x, 3.0))
    with pytest.raises(ValueError, match="different levels"):
        shortcut(x, torch.tensor([1.0, 2.0]))
    with pytest.raises(ValueError, match="0 <= low < high"):
        Cut(parts[0], 2.0, 0.5)


def test_operations_saved_add_up(network):
    """Counted operations of a block are those of its two convolutions and its embedding; parts that
    do not overlap add up."""
    parts = [part for part in components(network.unet) if part.kind != "skip"]
    costs = part_costs(network, parts)
    full = operations(network)
    index = next(k for k, part in enumerate(parts) if part.name == "encoder 0 block 1")
    block, side = (
        network.unet.get_submodule(parts[index].module),
        network.sample_shape[1] // network.unshuffle,
    )
    channels, embedding = block.conv1.out_channels, block.time_emb_proj.in_features
    by_hand = (
        2 * side**2 * 9 * channels * (block.conv1.in_channels + channels) + 2 * embedding * channels
    )
    assert costs[index] * full == pytest.approx(by_hand, rel=1e-9)
    attention = next(k for k, part in enumerate(parts) if part.kind == "attention")
    module, at = network.unet.get_submodule(parts[attention].module), side >> parts[attention].depth
    channels, tokens = module.to_q.in_features, at**2
    by_hand = (
        2 * tokens * 4 * channels**2 + 2 * 2 * tokens**2 * channels
    )  # four projections; scores and their use
    assert costs[attention] * full == pytest.approx(by_hand, rel=1e-9)
    everything = ShortcutDenoiser(network, [Cut(part, 0.0, math.inf) for part in parts])
    assert 1 - operations(everything) / full == pytest.approx(sum(costs), rel=1e-9)
    assert part_costs(network, [part for part in components(network.unet) if part.kind == "skip"])[
        :1
    ] == [0.0]


def test_cached_features_are_exact_where_nothing_changes(network):
    """Asked twice for (nearly) the same the second answer needs only the outermost stage, and is
    the same; asked for something else it is not."""
    cached = CachedDenoiser(network, 2)
    x = torch.randn(3, *network.sample_shape)
    assert torch.equal(cached(x, 1.0), network(x, 1.0))
    nearly = cached(x, 1.0 - 1e-7)
    torch.testing.assert_close(nearly, network(x, 1.0), rtol=0, atol=1e-5)
    assert torch.equal(cached(x, 0.5), network(x, 0.5))  # the third call is a full one again
    assert not torch.allclose(cached(x + 1, 0.4), network(x + 1, 0.4), atol=1e-3)
    assert untouched(network.unet)


def test_a_new_trajectory_begins_with_a_full_call(network):
    cached = CachedDenoiser(network, 3)
    x = torch.randn(2, *network.sample_shape)
    cached(x, 1.0)
    other = torch.randn(2, *network.sample_shape)
    assert torch.equal(cached(other, 1.0), network(other, 1.0))  # not lower: another run
    assert torch.equal(cached(other[:1], 0.5), network(other[:1], 0.5))  # another batch


def test_every_first_call_is_the_network_itself(network):
    x, grid = 80 * torch.randn(2, *network.sample_shape), karras_sigmas(6, 80.0)
    plain = final(solvers.solve(network, x, grid))
    assert torch.equal(final(solvers.solve(CachedDenoiser(network, 1), x, grid)), plain)
    assert torch.equal(final(solvers.solve(ShortcutDenoiser(network, []), x, grid)), plain)
    assert not torch.equal(final(solvers.solve(CachedDenoiser(network, 2), x, grid)), plain)


def test_a_cached_call_costs_less(network):
    cached = CachedDenoiser(network, 2)
    full = operations(cached, 1.0)
    assert full == operations(network) and operations(cached, 0.9) < 0.5 * full


def test_compiled_networks_are_run_as_written():
    """Hooks and hidden parts act on modules; a compiled network would run past them."""
    network = make_tiny_network()
    calls = []

    class Compiled:
        def __call__(self, *arguments, **options):
            calls.append(1)
            return network.unet._call_impl(*arguments, **options)

    network.unet._compiled_call_impl = Compiled()
    x = torch.randn(2, 1, 8, 8)
    network(x, 1.0)
    assert calls == [1]
    with switched_off(network.unet, components(network.unet)[:1]):
        network(x, 1.0)
    ShortcutDenoiser(network, [])(x, 1.0)
    assert calls == [1]
    network(x, 1.0)
    assert calls == [1, 1]


def test_saving_of_cached_features_counts_the_calls_in_between(network):
    """None with every call full; one call of two against two of three saves as 1/2 to 2/3."""
    assert cached_saving(network, 1, 6) == 0
    half, two_thirds = cached_saving(network, 2, 6), cached_saving(network, 3, 6)
    assert 0 < half < 0.5 and two_thirds / half == pytest.approx(4 / 3)
    cached = CachedDenoiser(network, 2)
    total = sum(operations(cached, sigma) for sigma in (5.0, 4.0, 3.0, 2.0, 1.0, 0.5))
    assert 1 - total / (6 * operations(network)) == pytest.approx(half)
