"""Features for quality distances: what their network is, that names are honest, that no weights run
code."""

import hashlib
import sys
import types

import pytest
import torch

from uturn_lib import load_data
from uturn_lib.networks import features
from uturn_lib.networks.features import (
    NAMING,
    chosen_extractor,
    extractor_fingerprint,
    imagenet_extractor,
)


@pytest.fixture(autouse=True)
def forget(monkeypatch, tmp_path):
    """Choices are made once per process: each test makes its own; no test looks for weights outside
    its folder."""
    monkeypatch.delenv("UTURN_FEATURES", raising=False)
    monkeypatch.delenv("UTURN_DATA", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    for cached in (features._chosen, features._built, features._verified):
        cached.cache_clear()
    yield
    for cached in (features._chosen, features._built, features._verified):
        cached.cache_clear()


def test_lite_features_do_not_depend_on_the_batch_or_on_how_grey_is_written():
    images = load_data("mnist", "test").images[:5]
    extractor = imagenet_extractor("efficientnet-lite0")
    found = extractor.extract(images)
    assert found.shape == (5, 1280) and found.dtype == torch.float32
    torch.testing.assert_close(extractor.extract(images, batch_size=2), found, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(extractor.extract(images.expand(-1, 3, -1, -1)), found)


def test_lite_features_tell_digits_apart_without_having_seen_any():
    """Nearest neighbours in its features: a network with random weights gives about what chance and
    ink do."""
    train, test = load_data("mnist", "train").take(300), load_data("mnist", "test").take(100)
    extractor = imagenet_extractor("efficientnet-lite0")
    nearest = torch.cdist(extractor.extract(test.images), extractor.extract(train.images)).argmin(1)
    right = int((train.labels[nearest] == test.labels).sum())
    assert right >= 60  # of 100; chance is 10


def test_only_inception_features_are_called_fid():
    assert {
        name for name, naming in NAMING.items() if "FID" in naming.frechet or "KID" in naming.kernel
    } == {"inception"}


def test_a_part_of_the_features_is_no_fid():
    whole, part = features.feature_naming("inception"), features.feature_naming("inception", 64)
    assert (whole.frechet, whole.kernel) == ("FID", "KID")
    assert (part.frechet, part.kernel) == (
        "Frechet distance",
        "kernel distance",
    ) and "64 leading" in part.phrase


def test_without_torch_fidelity_the_package_weights_are_used(monkeypatch):
    monkeypatch.setattr(features, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="torch-fidelity"):
        features.inception_weights()
    assert chosen_extractor("imagenet") == "efficientnet-lite0"
    assert extractor_fingerprint("imagenet") == extractor_fingerprint("efficientnet-lite0")
    assert imagenet_extractor("imagenet").name == "efficientnet-lite0"


def test_bad_names_and_images_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="features = 'vgg'"):
        imagenet_extractor("vgg")
    monkeypatch.setenv("UTURN_FEATURES", "vgg")
    with pytest.raises(ValueError, match="UTURN_FEATURES = 'vgg'"):
        chosen_extractor("imagenet")
    for bad in (torch.zeros(2, 5, 8, 8), torch.zeros(2, 64)):
        with pytest.raises(ValueError, match="1 or 3"):
            imagenet_extractor("efficientnet-lite0").extract(bad)


@pytest.fixture
def fidelity(monkeypatch):
    """A stand-in for torch-fidelity: its network returns the mean of the 8-bit pixels it was
    given."""

    class Inception(torch.nn.Module):
        def __init__(self, name, wanted, path):
            super().__init__()
            assert wanted == ["2048"] and torch.load(path, weights_only=True)

        def forward(self, pixels):
            assert pixels.dtype == torch.uint8 and pixels.shape[1] == 3
            return (pixels.float().mean((2, 3)),)

    module = types.ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    module.FeatureExtractorInceptionV3, module.URL_INCEPTION_V3 = (
        Inception,
        "http://127.0.0.1:9/weights.pth",
    )
    package = types.ModuleType("torch_fidelity")
    monkeypatch.setitem(sys.modules, "torch_fidelity", package)
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", module)
    monkeypatch.setattr(features, "find_spec", lambda name: package)


def put_weights(folder, monkeypatch, content):
    torch.save(content, folder / features.INCEPTION_WEIGHTS)
    digest = hashlib.sha256((folder / features.INCEPTION_WEIGHTS).read_bytes()).hexdigest()
    monkeypatch.setattr(features, "INCEPTION_HASH", digest[:8])
    monkeypatch.setenv("UTURN_DATA", str(folder))


def test_inception_is_used_where_its_weights_are(fidelity, monkeypatch, tmp_path):
    put_weights(tmp_path, monkeypatch, {"weight": torch.ones(1)})
    assert chosen_extractor("imagenet") == "inception"
    images = torch.full((3, 1, 4, 4), -1.0)
    images[1], images[2] = 0.2, 1.5  # beyond the range: clipped
    found = imagenet_extractor("imagenet").extract(images)
    torch.testing.assert_close(found[:, 0], torch.tensor([0.0, 153.0, 255.0]))


def test_inception_weights_that_are_altered_or_would_run_code_are_refused(
    fidelity, monkeypatch, tmp_path
):
    class Hostile:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w').close()",))

    put_weights(tmp_path, monkeypatch, {"weight": Hostile()})
    with pytest.raises(ValueError, match="more than tensors"):
        features.inception_weights()
    (tmp_path / features.INCEPTION_WEIGHTS).write_bytes(b"half")
    features._verified.cache_clear()
    with pytest.raises(ValueError, match="truncated or altered"):
        features.inception_weights()
    assert not (tmp_path / "ran").exists()


def test_offline_the_error_says_which_file_to_put_where(fidelity):
    with pytest.raises(FileNotFoundError, match="put weights-inception.*UTURN_DATA"):
        features.inception_weights()
    assert chosen_extractor("imagenet") == "efficientnet-lite0"
