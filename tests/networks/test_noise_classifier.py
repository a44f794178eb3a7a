"""The network for p(class | x, sigma) and its file: temperatures, round trip, refusals."""

import json
import math

import pytest
import torch

from uturn_lib import load_noise_classifier
from uturn_lib.networks import CalibratedClassifier, NoiseClassifier, save_noise_classifier
from uturn_lib.networks.noise_classifier import interpolation, noisy_probabilities


def small(seed=0):
    torch.manual_seed(seed)
    network = NoiseClassifier((1, 8, 8), 3, (4, 6), (1, 1), embedding=8)
    for parameter in network.parameters():  # head and modulation begin at zero
        parameter.data += 0.3 * torch.randn_like(parameter)
    return CalibratedClassifier(network.eval(), (0.1, 1.0, 10.0), (0.5, -0.2, 0.1)).requires_grad_(
        False
    )


@pytest.fixture
def images():
    return torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def test_probabilities_are_the_softmax_of_tempered_logits(images):
    classifier = small()
    for sigma, log_temperature in [
        (0.1, 0.5),
        (1.0, -0.2),
        (math.sqrt(10), -0.05),
        (80.0, 0.1),
        (0.0, 0.5),
    ]:
        logits = classifier.network(images, torch.full((6,), sigma))
        wanted = (logits / math.exp(log_temperature)).softmax(1)
        torch.testing.assert_close(classifier(images, sigma), wanted, atol=1e-6, rtol=1e-5)


def test_mirrored_logits_are_those_of_the_mirror_image(tmp_path, images):
    plain = small()
    both = CalibratedClassifier(plain.network, (1.0,), (0.0,), mirrored=True)
    torch.testing.assert_close(both(images, 0.7), both(images.flip(-1), 0.7), atol=1e-6, rtol=1e-5)
    assert (plain(images, 0.7) - plain(images.flip(-1), 0.7)).abs().max() > 1e-3
    save_noise_classifier(both, tmp_path, dtype=torch.float32)
    torch.testing.assert_close(
        load_noise_classifier(tmp_path, "cpu")(images, 0.7), both(images, 0.7), atol=1e-6, rtol=1e-5
    )


def test_every_image_has_its_own_noise_level(images):
    classifier, sigma = small(), torch.tensor([0.0, 0.1, 0.5, 1.0, 7.0, 80.0])
    alone = torch.cat([classifier(x[None], float(s)) for x, s in zip(images, sigma, strict=True)])
    torch.testing.assert_close(classifier(images, sigma), alone, atol=1e-6, rtol=1e-5)
    assert (classifier(images, 0.1) - classifier(images, 5.0)).abs().max() > 1e-3


def test_below_training_the_network_is_told_the_lowest_level(images):
    network = small().network
    torch.testing.assert_close(
        network(images, torch.zeros(6)), network(images, torch.full((6,), 0.05))
    )


def test_interpolation_is_linear_in_the_logarithm():
    knots = (0.5, 1.0, 4.0)
    weights = interpolation(torch.tensor([0.1, 0.5, 1.0, 2.0, 4.0, 9.0]), knots)
    wanted = [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0.5, 0.5], [0, 0, 1], [0, 0, 1]]
    torch.testing.assert_close(weights, torch.tensor(wanted).float(), atol=1e-6, rtol=0)
    assert interpolation(torch.tensor([0.1, 9.0]), (1.0,)).tolist() == [[1.0], [1.0]]


def test_a_file_gives_the_same_classifier_back(tmp_path, images):
    """Matrices are rounded to half precision, relative error 2^-11; vectors are not."""
    classifier = small()
    save_noise_classifier(classifier, tmp_path / "a", {"note": 1}, torch.float32)
    exact = load_noise_classifier(tmp_path / "a", "cpu")
    assert torch.equal(exact(images, 0.7), classifier(images, 0.7)) or torch.allclose(
        exact(images, 0.7), classifier(images, 0.7), atol=1e-6
    )
    save_noise_classifier(classifier, tmp_path / "b")
    rounded = load_noise_classifier(tmp_path / "b", "cpu")
    torch.testing.assert_close(rounded(images, 0.7), classifier(images, 0.7), atol=0.02, rtol=0)
    assert torch.equal(rounded.network.norm.running_var, classifier.network.norm.running_var)
    assert exact.fingerprint != rounded.fingerprint and len(exact.fingerprint) == 64
    assert not any(p.requires_grad for p in exact.parameters()) and not exact.training


def test_a_changed_file_is_refused(tmp_path, images):
    save_noise_classifier(small(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    weights = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[:-10])
    with pytest.raises(ValueError, match="truncated or altered"):
        load_noise_classifier(tmp_path, "cpu")
    (tmp_path / "model.safetensors").write_bytes(weights)
    (tmp_path / "config.json").write_text(
        json.dumps({"uturn": config["uturn"] | {"channels": [4, 8]}})
    )
    with pytest.raises(ValueError, match="do not fit"):
        load_noise_classifier(tmp_path, "cpu")
    with pytest.raises(ValueError, match="not the NoiseClassifier"):
        load_noise_classifier("mnist-classifier", "cpu")
    with pytest.raises(FileNotFoundError, match="no checkpoint 'stones'"):
        load_noise_classifier("stones", "cpu")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="lacks model.safetensors"):
        load_noise_classifier(tmp_path, "cpu")


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ((torch.zeros(2, 3, 8, 8), 1.0), ValueError, r"x has shape \(2, 3, 8, 8\)"),
        ((torch.zeros(2, 1, 8, 8, dtype=torch.int64), 1.0), TypeError, "floating point"),
        (
            (torch.zeros(2, 1, 8, 8), 100.0),
            ValueError,
            r"sigma up to 100 leaves the range of this classifier, \[0, 80\]",
        ),
        ((torch.zeros(2, 1, 8, 8), -1.0), ValueError, "zero or positive"),
        ((torch.zeros(2, 1, 8, 8), float("nan")), ValueError, "zero or positive"),
        ((torch.zeros(2, 1, 8, 8), torch.ones(3)), ValueError, r"sigma has shape \(3,\)"),
    ],
)
def test_bad_input_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        small()(*arguments)


def test_impossible_temperatures_and_resolutions_are_refused():
    network = small().network
    for knots, values, message in [
        ((1.0, 0.5), (0.0, 0.0), "knots"),
        ((), (), "knots"),
        ((0.5, 1.0), (0.0,), "log_temperatures"),
        ((0.5, 1.0), (0.0, math.nan), "log_temperatures"),
    ]:
        with pytest.raises(ValueError, match=message):
            CalibratedClassifier(network, knots, values)
    with pytest.raises(ValueError, match="one of each per resolution"):
        NoiseClassifier((1, 8, 8), 3, (4, 6), (1,))


def test_noise_of_an_image_does_not_depend_on_level_or_batch(images):
    """A classifier that gives x back shows the noise itself."""

    def show(x, sigma):
        return (x - images[: len(x)]).flatten(1) / sigma

    a = noisy_probabilities(show, images, 1.0, draws=2)
    b = noisy_probabilities(show, images, 3.0, draws=1)
    torch.testing.assert_close(a[0], b[0], atol=1e-5, rtol=1e-5)
    assert (a[0] - a[1]).abs().mean() > 0.5
    small_batch = noisy_probabilities(small(), images, 0.5, draws=2, batch_size=2)
    torch.testing.assert_close(
        small_batch, noisy_probabilities(small(), images, 0.5, draws=2), atol=1e-6, rtol=1e-5
    )
