"""Fixtures that several tests share; nothing here needs CIFAR-10, a GPU or the network."""

import os

os.environ["UTURN_PROGRESS"] = "off"

import uturn_lib  # noqa: E402, F401  before torch: it sets how waiting threads behave

# isort: split
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

from uturn_lib.denoisers import GaussianDenoiser, GaussianMixtureDenoiser  # noqa: E402
from uturn_lib.networks import EDMDenoiser, make_unet  # noqa: E402


@pytest.fixture(autouse=True)
def _private_folders(tmp_path, monkeypatch):
    """Caches and figures of a test stay in its own folder."""
    monkeypatch.setenv("UTURN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UTURN_FIGURES", str(tmp_path / "figures"))


@pytest.fixture(scope="session")
def gaussian():
    """Six-dimensional Gaussian whose eigenvalues spread over a decade around 1."""
    rng = np.random.default_rng(0)
    rotation, _ = np.linalg.qr(rng.standard_normal((6, 6)))
    values = np.array([0.5, 0.7, 1.0, 1.3, 1.8, 2.4])
    mean = torch.tensor(rng.standard_normal(6))
    return GaussianDenoiser(mean, torch.tensor(rotation @ np.diag(values) @ rotation.T))


@pytest.fixture(scope="session")
def mixture():
    """Three unequal, correlated components in the plane: nothing symmetric that an error could hide
    behind."""
    return GaussianMixtureDenoiser(
        torch.tensor([0.5, 0.3, 0.2]),
        torch.tensor([[-2.0, 0.0], [1.5, 1.0], [1.0, -2.5]]),
        torch.tensor(
            [[[0.4, 0.1], [0.1, 0.2]], [[0.15, 0.0], [0.0, 0.6]], [[0.3, -0.15], [-0.15, 0.25]]]
        ),
    )


# The smallest U-Net that has every part: for tests that train or save one.
TINY_UNET = dict(
    block_out_channels=(8, 8),
    layers_per_block=1,
    norm_num_groups=4,
    down_block_types=("DownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "UpBlock2D"),
)


def make_tiny_network(num_classes=3, seed=0):
    """A random network of the shipped kind, small enough for a test: images (1, 8, 8)."""
    torch.manual_seed(seed)
    unet = make_unet(
        (1, 8, 8),
        num_classes,
        unshuffle=2,
        **TINY_UNET,
        attention_head_dim=8,
    )
    return EDMDenoiser(unet, (1, 8, 8), num_classes, unshuffle=2).eval().requires_grad_(False)


@pytest.fixture(scope="session")
def tiny_network():
    return make_tiny_network()
