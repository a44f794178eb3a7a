"""Parts of a U-Net that are switched off: what is left is what was said, and nothing remains of
it."""

import pytest
import torch
from conftest import make_tiny_network
from torch import nn

from uturn_lib import load_denoiser
from uturn_lib.companions.p2.ablation import AblatedDenoiser, Component, components, switched_off


@pytest.fixture(scope="module")
def network():
    return load_denoiser("mnist", "cpu")


def test_every_part_is_found(network):
    unet, parts = network.unet, components(network.unet)
    assert len({part.name for part in parts}) == len(parts)
    resnets = [module for module in unet.modules() if type(module).__name__ == "ResnetBlock2D"]
    attentions = [module for module in unet.modules() if type(module).__name__ == "Attention"]
    count = {
        kind: sum(part.kind == kind for part in parts) for kind in ("block", "attention", "skip")
    }
    readers = sum(len(block.resnets) for block in unet.up_blocks)
    assert count == {"block": len(resnets), "attention": len(attentions), "skip": readers}
    saved = [unet.conv_in.out_channels]  # channels of what the encoder leaves for the decoder
    for block in unet.down_blocks:
        saved += [resnet.conv1.out_channels for resnet in block.resnets]
        saved += [block.resnets[-1].conv1.out_channels] * bool(block.downsamplers)
    assert [part.skip_channels for part in parts if part.kind == "skip"] == saved[::-1]


def test_a_block_that_is_off_is_its_shortcut_and_an_attention_its_input(network):
    unet, x = network.unet, torch.randn(2, *network.sample_shape)
    seen = {}
    for part in components(unet):
        module = unet.get_submodule(part.module)
        with switched_off(
            unet, [part]
        ):  # hooks run in the order of their registration: these see what the network sees
            before = module.register_forward_pre_hook(
                lambda m, a, name=part.name: seen.update({f"{name} in": a[0]})
            )
            after = module.register_forward_hook(
                lambda m, a, out, name=part.name: seen.update({f"{name} out": out})
            )
            network(x, 1.0)
            before.remove(), after.remove()
        given, found = seen[f"{part.name} in"], seen[f"{part.name} out"]
        if part.kind == "skip":
            assert (
                float(given[:, -part.skip_channels :].abs().max())
                == 0
                < float(given[:, : -part.skip_channels].abs().max())
            )
        else:
            shortcut = getattr(module, "conv_shortcut", None)
            expected = given if shortcut is None else shortcut(given)
            torch.testing.assert_close(found, expected)


def test_removing_the_branch_by_hand_is_the_same(network):
    """Another way to the same network: with the last convolution of a block zeroed nothing but the
    shortcut is left."""
    x = torch.randn(2, *network.sample_shape)
    part = next(part for part in components(network.unet) if part.name == "decoder 1 block 0")
    with switched_off(network.unet, [part]):
        hooked = network(x, 1.0)
    convolution = network.unet.get_submodule(part.module).conv2
    kept = [value.clone() for value in (convolution.weight, convolution.bias)]
    convolution.weight.zero_(), convolution.bias.zero_()
    try:
        torch.testing.assert_close(hooked, network(x, 1.0))
    finally:
        convolution.weight.copy_(kept[0]), convolution.bias.copy_(kept[1])


def test_nothing_remains_even_after_an_error(network):
    x = torch.randn(2, *network.sample_shape)
    before = network(x, 1.0)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    for part in components(network.unet):
        with switched_off(network.unet, [part]):
            assert not torch.equal(network(x, 1.0), before), part.name  # every part matters
    with (
        pytest.raises(RuntimeError, match="on purpose"),
        switched_off(network.unet, components(network.unet)),
    ):
        raise RuntimeError("on purpose")
    assert torch.equal(network(x, 1.0), before)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert not any(
        module._forward_hooks or module._forward_pre_hooks for module in network.unet.modules()
    )


def test_the_window_decides():
    network = make_tiny_network()
    network.fingerprint = "tiny"
    parts = components(network.unet)[:2]
    ablated = AblatedDenoiser(network, parts, 0.5, 2.0)
    x = torch.randn(3, 1, 8, 8)
    for sigma, inside in ((0.49, False), (0.5, True), (1.9, True), (2.0, False), (0.0, False)):
        assert torch.equal(ablated(x, sigma), network(x, sigma)) != inside, sigma
    assert "without encoder 0 block 0" in ablated.fingerprint and "[0.5, 2)" in ablated.fingerprint
    with pytest.raises(ValueError, match="inside and outside"):
        ablated(x, torch.tensor([0.1, 1.0, 1.0]))
    with pytest.raises(ValueError, match="make no window"):
        AblatedDenoiser(network, parts, 2.0, 0.5)


def test_other_networks_and_kinds_are_named():
    with pytest.raises(TypeError, match="UNet2DModel"):
        components(nn.Linear(2, 2))
    with (
        pytest.raises(ValueError, match="kind"),
        switched_off(make_tiny_network().unet, [Component("x", "wheel", "encoder", "conv_in", 0)]),
    ):
        pass
