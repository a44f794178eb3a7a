"""The EDM architectures: the original's outputs where they are at hand, counts, formulas,
filters."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from edm_stand_in import TINY_ADM, TINY_NCSN, TINY_SONG, random_network
from safetensors.torch import load_file
from scipy.signal import convolve2d
from torch.nn import functional as F

from uturn_lib import u_turn
from uturn_lib.networks.edm import architectures as edm

VECTORS = Path(os.environ.get("UTURN_DATA", "/nowhere")) / "edm_vectors"
CIFAR10 = {
    "img_resolution": 32, "img_channels": 3, "label_dim": 0, "augment_dim": 9,
    "model_type": "SongUNet", "embedding_type": "positional",
    "encoder_type": "standard", "decoder_type": "standard",
    "channel_mult_noise": 1, "resample_filter": [1, 1], "model_channels": 128,
    "channel_mult": [2, 2, 2], "dropout": 0.13,
}  # fmt: skip
IMAGENET = {
    "img_resolution": 64,
    "img_channels": 3,
    "label_dim": 1000,
    "model_type": "DhariwalUNet",
    "model_channels": 192,
    "channel_mult": [1, 2, 3, 4],
}
TINY = {
    "song": ("EDM", TINY_SONG),
    "ncsn": ("VE", TINY_NCSN),
    "adm": ("EDM", TINY_ADM),
    "vp": ("VP", TINY_SONG | {"augment_dim": 0}),
}


@pytest.fixture(params=TINY, scope="module")
def tiny(request):
    return random_network(*TINY[request.param])


@pytest.mark.skipif(not VECTORS.is_dir(), reason="UTURN_DATA names no folder with edm_vectors")
@pytest.mark.parametrize("name", ["songunet_ddpmpp", "dhariwal_adm"])
def test_the_original_implementation_is_reproduced(name):
    arguments, vectors = (
        json.loads((VECTORS / f"{name}.json").read_text()),
        load_file(VECTORS / f"{name}.safetensors"),
    )
    denoiser = edm.Preconditioned(
        arguments.pop("precond").removesuffix("Precond"), arguments
    ).eval()
    prefix = "parameters/model."
    denoiser.unet.load_state_dict(
        {k.removeprefix(prefix): v for k, v in vectors.items() if k.startswith(prefix)}
    )
    with torch.no_grad():
        found = denoiser(vectors["x"], vectors["sigma"], vectors.get("labels"))
    for mine, theirs in zip(found, vectors["denoised"], strict=True):  # each at its own noise level
        assert float((mine - theirs).norm() / theirs.norm()) < 1e-5


@pytest.mark.parametrize(("arguments", "millions"), [(CIFAR10, 55.7), (IMAGENET, 296)])
def test_the_published_number_of_parameters(arguments, millions):
    with torch.device("meta"):
        denoiser = edm.Preconditioned("EDM", arguments)
    count = sum(value.numel() for value in denoiser.parameters()) / 1e6
    assert count == pytest.approx(millions, abs=0.5 * 10 ** -(len(str(millions).partition(".")[2])))


def test_names_of_the_parameters_of_the_published_networks():
    with torch.device("meta"):
        song, adm = (
            set(edm.Preconditioned("EDM", a).unet.state_dict()) for a in (CIFAR10, IMAGENET)
        )
    for name in (
        "map_augment.weight",
        "map_layer0.bias",
        "enc.32x32_conv.weight",
        "enc.16x16_down.conv0.resample_filter",
        "enc.16x16_block3.qkv.weight",
        # fmt: skip
        "dec.8x8_in0.proj.bias",
        "dec.8x8_in1.affine.weight",
        "dec.32x32_block4.skip.weight",
        "dec.32x32_aux_norm.bias",
        "dec.32x32_aux_conv.weight",
    ):
        assert name in song
    assert "enc.32x32_block0.qkv.weight" not in song and "dec.16x16_block3.qkv.weight" not in song
    for name in (
        "map_label.weight",
        "enc.32x32_down.skip.resample_filter",
        "enc.8x8_block2.qkv.bias",
        "dec.8x8_block0.norm2.weight",
        "out_norm.weight",
        "out_conv.bias",
    ):
        assert name in adm
    assert (
        "enc.32x32_down.skip.weight" not in adm
        and "enc.64x64_block0.qkv.weight" not in adm
        and "map_label.bias" not in adm
    )


def test_shape_dtype_and_the_limit_of_no_noise(tiny):
    low = tiny.sigma_range[0]
    x = torch.randn(3, *tiny.sample_shape, dtype=torch.float64)
    labels = torch.arange(3) if tiny.num_classes else None
    assert torch.equal(tiny(x, 0.0, labels), x)  # D(x, 0) = x
    found = tiny(x, max(low, 0.5), labels)
    assert found.shape == x.shape and found.dtype == x.dtype and torch.isfinite(found).all()
    for sigma in (
        max(low, 1e-3),
        2 * max(low, 1e-3),
    ):  # and in the limit: the distance vanishes with sigma
        assert float((tiny(x, sigma, labels) - x).abs().max()) < 20 * sigma


@pytest.mark.parametrize("sigma", [0.02, 0.3, 1.0, 7.0, 80.0])
def test_the_coefficients_are_those_of_table_1(sigma):
    level = torch.tensor(sigma, dtype=torch.float64)
    skip, out, inner, noise = edm.KINDS["EDM"]["coefficients"](
        level, sigma_data=0.5, sigma_min=0, sigma_max=math.inf
    )
    variance = sigma**2 + 0.25
    found = [float(value) for value in (skip, out, inner, noise)]
    assert found == pytest.approx(
        [0.25 / variance, 0.5 * sigma / variance**0.5, variance**-0.5, math.log(sigma) / 4],
        rel=1e-12,
    )
    # What they are for (Karras et al. 2022, Appendix B.6): input and target of F have unit variance
    # for data of variance s_d^2.
    assert found[2] ** 2 * variance == pytest.approx(1)
    assert ((1 - found[0]) ** 2 * 0.25 + found[0] ** 2 * sigma**2) / found[1] ** 2 == pytest.approx(
        1
    )
    skip, out, inner, noise = edm.KINDS["VE"]["coefficients"](level, sigma_min=0.02, sigma_max=100)
    assert (skip, float(out), float(inner), float(noise)) == pytest.approx(
        (1, sigma, 1, math.log(sigma / 2))
    )
    skip, out, inner, noise = edm.KINDS["VP"]["coefficients"](
        level, beta_d=19.9, beta_min=0.1, M=1000, epsilon_t=1e-5
    )
    assert (skip, float(out), float(inner)) == pytest.approx((1, -sigma, (1 + sigma**2) ** -0.5))
    time = float(noise) / 999  # c_noise is the step at which sigma(t) is sigma
    assert edm.vp_sigma(time) == pytest.approx(sigma, rel=1e-9)
    # Song et al.'s alpha(t) = exp(-1/2 int beta), beta from 0.1 to 20: sigma^2 = 1 / alpha^2 - 1,
    # by quadrature.
    times = np.linspace(0, time, 20001)
    assert math.expm1(np.trapezoid(0.1 + 19.9 * times, times)) == pytest.approx(sigma**2, rel=1e-6)


def test_ranges_are_those_of_the_files():
    assert edm.Preconditioned("EDM", TINY_SONG).sigma_range == (0.0, math.inf)
    ve, vp = edm.Preconditioned("VE", TINY_NCSN), edm.Preconditioned("VP", TINY_SONG)
    assert ve.sigma_range == (0.02, 100.0)
    assert vp.sigma_range == pytest.approx(
        (math.sqrt(math.expm1(0.5 * 19.9e-10 + 1e-6)), math.sqrt(math.expm1(10.05)))
    )
    x = torch.zeros(1, 3, 16, 16)
    for sigma in (0.01, 101.0):
        with pytest.raises(ValueError, match="leaves the range"):
            ve(x, sigma, torch.tensor([0]))
        with pytest.raises(ValueError, match="sigma_u"):
            u_turn(ve, x, sigma)
    turned = u_turn(ve, x, 0.5, steps=6)  # the grid ends at the lowest level of the network
    assert torch.isfinite(turned.y0).all()


@pytest.mark.parametrize("taps", [(1, 1), (1, 3, 3, 1)])
def test_resampling_is_a_filter_and_every_second_pixel(taps):
    kernel = edm.separable_filter(taps)
    assert float(kernel.sum()) == pytest.approx(1)
    x = torch.randn(2, 3, 8, 8)
    # Away from the border: scipy's convolution at the original resolution, then every second pixel.
    full = convolve2d(x[0, 0].numpy(), kernel[0, 0].numpy(), mode="valid")
    edge = (len(taps) - 1) // 2
    halved = edm.halve(x, kernel, edge)
    first = edge // 2 + edge % 2
    np.testing.assert_allclose(
        halved[0, 0, first : -first or None, first : -first or None],
        full[(2 * first - edge) :: 2, (2 * first - edge) :: 2],
        atol=1e-6,
    )
    # Doubling is the adjoint of halving, four times: <halve(x), y> = <x, double(y)> / 4.
    y = torch.randn(2, 3, 4, 4)
    assert float((halved * y).sum()) == pytest.approx(
        float((x * edm.double(y, kernel)).sum()) / 4, rel=1e-4
    )
    inner = slice(2, -2)
    assert torch.allclose(
        edm.double(torch.ones(1, 1, 6, 6), kernel)[:, :, inner, inner], torch.ones(1), atol=1e-6
    )


def test_the_fast_box_filter_is_the_general_one():
    x, kernel = torch.randn(2, 5, 8, 8), edm.separable_filter((1, 1))
    weight = kernel.expand(5, 1, -1, -1)
    torch.testing.assert_close(edm.halve(x, kernel, 0), F.conv2d(x, weight, stride=2, groups=5))
    torch.testing.assert_close(
        edm.double(x, kernel), F.conv_transpose2d(x, 4 * weight, stride=2, groups=5)
    )


def test_a_late_convolution_is_convolution_then_filter_then_every_second_pixel():
    torch.manual_seed(0)
    layer = edm.Conv(1, 1, 3, "down", (1, 3, 3, 1), fused=True)
    x = torch.randn(1, 1, 8, 8)
    # Zeros around the image, as far as both filters reach; correlation (torch) is convolution with
    # the kernel turned round.
    padded = np.pad(x[0, 0].numpy(), 2)
    wide = convolve2d(padded, layer.weight.detach()[0, 0].numpy()[::-1, ::-1], mode="valid")
    expected = convolve2d(wide, layer.resample_filter[0, 0].numpy(), mode="valid")[
        ::2, ::2
    ] + float(layer.bias.detach())
    np.testing.assert_allclose(layer(x).detach()[0, 0], expected, atol=1e-5)


def test_attention_is_softmax_of_scaled_products():
    torch.manual_seed(0)
    block = edm.Block(8, 8, 4, heads=2)
    qkv = torch.randn(2, 24, 3, 3)
    found = block.attention(qkv)
    for b in range(2):
        for head in range(2):
            part = qkv[b].reshape(2, 4, 3, 9)[head]  # (channel of the head, which of q k v, pixel)
            q, k, v = part[:, 0], part[:, 1], part[:, 2]
            weights = torch.softmax(q.T @ k / 2, dim=1)  # (query, key); 2 = sqrt(4)
            torch.testing.assert_close(found[b].reshape(2, 4, 9)[head], v @ weights.T)


def test_labels_and_augmentation_reach_the_network():
    denoiser = random_network("EDM", TINY_ADM)
    x = torch.randn(2, 3, 16, 16)
    one, other = denoiser(x, 1.0, torch.tensor([0, 1])), denoiser(x, 1.0, torch.tensor([0, 2]))
    assert torch.equal(one[0], other[0]) and not torch.allclose(one[1], other[1])
    with pytest.raises(ValueError, match="labels"):
        denoiser(x, 1.0, torch.tensor([0, 5]))
    for arguments in (
        TINY_ADM,
        TINY_NCSN,
    ):  # no label is the label of zeros, which a bias does not leave without effect
        network = random_network("EDM", arguments)
        scaled, noise = x / 1.25**0.5, torch.zeros(2)
        raw = network.unet(scaled, noise, torch.zeros(2, network.num_classes))
        torch.testing.assert_close(
            network(x, 1.0), 0.2 * x + 0.5 / 1.25**0.5 * raw, rtol=1e-4, atol=1e-5
        )
    assert network.unet.map_label.bias is not None
    song = random_network("EDM", TINY_SONG)
    level = torch.ones(2, 1, 1, 1)
    without = song.denoise(x, level, None)
    torch.testing.assert_close(song.denoise(x, level, None, torch.zeros(2, 9)), without)
    assert not torch.allclose(song.denoise(x, level, None, torch.ones(2, 9)), without)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_blocks": 10**6}, "num_blocks"),
        ({"channel_mult": [1] * 1000}, "channel_mult"),
        ({"channel_mult": []}, "channel_mult"),
        ({"model_channels": 0}, "model_channels"),
        ({"label_dim": -1}, "label_dim"),
        ({"resample_filter": [1, 1, 1]}, "resample_filter"),
        ({"img_resolution": float("inf")}, "img_resolution"),
        ({"sigma_data": 0.0}, "sigma_data"),
        ({"sigma_data": float("nan")}, "make no sense"),
        ({"sigma_min": 3.0, "sigma_max": 1.0}, "noise levels"),
        ({"dropout": torch.zeros(1)}, "dropout"),
        ({"img_resolution": None}, "img_resolution"),
        ({"model_type": "UNet3D"}, "model_type"),
        ({"wings": 2}, "wings"),
        ({"encoder_type": "odd"}, "encoder_type"),
    ],
)
def test_bad_arguments_are_named(change, message):
    arguments = {key: value for key, value in (TINY_SONG | change).items() if value is not None}
    with pytest.raises(ValueError, match=message):
        edm.Preconditioned("EDM", arguments)


def test_it_compiles_and_exports(tiny):
    """The graph is captured whole, without falling back to Python (no compiler is needed for
    that)."""
    x = torch.randn(2, *tiny.sample_shape)
    labels = F.one_hot(torch.arange(2), tiny.num_classes).float() if tiny.num_classes else None
    noise = torch.tensor([0.1, 0.7])
    compiled = torch.compile(tiny.unet, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, noise, labels), tiny.unet(x, noise, labels))


def test_empty_batches_and_endless_noise(tiny):
    empty = torch.empty(0, *tiny.sample_shape)
    assert tiny(empty, 1.0).shape == empty.shape
    for sigma in (math.inf, math.nan):
        with pytest.raises(ValueError, match="sigma"):
            tiny(torch.zeros(1, *tiny.sample_shape), sigma)
