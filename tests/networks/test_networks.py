import copy
import json

import pytest
import torch
from conftest import make_tiny_network
from safetensors.torch import load_file

from uturn_lib import artificial_start, load_classifier, load_data, load_denoiser
from uturn_lib.measures.quality import frechet_distance
from uturn_lib.networks import Classifier, save_classifier, save_denoiser, shipped_fingerprint
from uturn_lib.support.places import CHECKPOINTS


def test_preconditioning_is_table_1_of_karras_et_al(tiny_network):
    """D = c_skip x + c_out F(c_in x, c_noise), assembled here from the bare U-Net."""
    x, s = torch.randn(4, 1, 8, 8), torch.tensor([0.01, 0.5, 3.0, 80.0])
    d, wide = 0.5, s[:, None, None, None]
    patches = torch.nn.functional.pixel_unshuffle(x / (wide**2 + d**2).sqrt(), 2)
    bare = tiny_network.unet(patches, 100 * s.log() / 4, class_labels=torch.full((4,), 3)).sample
    expected = d**2 / (wide**2 + d**2) * x + wide * d / (
        wide**2 + d**2
    ).sqrt() * torch.nn.functional.pixel_shuffle(bare, 2)
    torch.testing.assert_close(tiny_network(x, s), expected, atol=1e-6, rtol=1e-5)


def test_limits_of_the_denoiser(tiny_network):
    x = torch.randn(3, 1, 8, 8)
    assert torch.equal(tiny_network(x, 0.0), x)
    torch.testing.assert_close(tiny_network(x, 1e-4), x, atol=1e-3, rtol=0)


def test_labels_matter_and_none_is_the_null_class(tiny_network):
    x = torch.randn(3, 1, 8, 8)
    one, other = (
        tiny_network(x, 1.0, torch.tensor([0, 0, 0])),
        tiny_network(x, 1.0, torch.tensor([1, 0, 2])),
    )
    assert torch.equal(one[1], other[1]) and not torch.equal(one[0], other[0])
    null = tiny_network.raw(x, torch.zeros(3), torch.tensor([3, 3, 3]))
    assert torch.equal(tiny_network.raw(x, torch.zeros(3)), null)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda d: d(torch.zeros(2, 1, 8, 7), 1.0), "shape"),
        (lambda d: d(torch.zeros(2, 1, 8, 8), 81.0), "range"),
        (lambda d: d(torch.zeros(2, 1, 8, 8), -1.0), "zero or positive"),
        (lambda d: d(torch.zeros(2, 1, 8, 8), float("nan")), "zero or positive"),
        (lambda d: d(torch.zeros(2, 1, 8, 8), torch.ones(3)), "sigma"),
        (lambda d: d(torch.zeros(2, 1, 8, 8), 1.0, torch.tensor([0, 3])), "classes"),
        (lambda d: d(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), 1.0), "dtype"),
    ],
)
def test_bad_calls_are_refused(tiny_network, call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call(tiny_network)


def test_a_saved_network_comes_back_the_same(tmp_path):
    network = make_tiny_network(seed=4)
    save_denoiser(network, tmp_path / "tiny", {"seed": 4})
    again = load_denoiser(tmp_path / "tiny", "cpu")
    x = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(
        again(x, 0.7, torch.tensor([1, 2])), network(x, 0.7, torch.tensor([1, 2]))
    )
    assert again.fingerprint == shipped_fingerprint(tmp_path / "tiny")
    # the same weights under another sigma_data are another function, and have another fingerprint
    config = json.loads((tmp_path / "tiny" / "config.json").read_text())
    config["uturn"]["sigma_data"] = 0.6
    (tmp_path / "tiny" / "config.json").write_text(json.dumps(config))
    assert load_denoiser(tmp_path / "tiny", "cpu").fingerprint != again.fingerprint


def test_the_format_is_diffusers_own(tmp_path):
    from diffusers import UNet2DModel

    network = make_tiny_network(seed=5)
    save_denoiser(network, tmp_path)
    theirs = UNet2DModel.from_pretrained(str(tmp_path), low_cpu_mem_usage=False)
    for name, value in network.unet.state_dict().items():
        assert torch.equal(theirs.state_dict()[name], value)


def damage(folder, kind):
    weights, config = folder / "diffusion_pytorch_model.safetensors", folder / "config.json"
    if kind == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif kind == "altered":
        data = bytearray(weights.read_bytes())
        data[-5] ^= 1
        weights.write_bytes(bytes(data))
    elif kind == "missing":
        weights.unlink()
    elif kind == "half a config":
        config.write_text(config.read_text()[:200])
    elif kind == "foreign config":
        config.write_text(json.dumps({"architecture": "something"}))
    elif kind == "wrong shape":
        entries = json.loads(config.read_text())
        config.write_text(json.dumps(entries | {"block_out_channels": [8, 12]}))


@pytest.mark.parametrize(
    "kind, error, message",
    [
        ("truncated", ValueError, "truncated or altered"),
        ("altered", ValueError, "truncated or altered"),
        ("missing", FileNotFoundError, "lacks"),
        ("half a config", ValueError, "damaged"),
        ("foreign config", ValueError, "no model of ours"),
        ("wrong shape", ValueError, "do not fit"),
    ],
)
def test_damaged_checkpoints_are_refused(tmp_path, kind, error, message):
    save_denoiser(make_tiny_network(), tmp_path)
    damage(tmp_path, kind)
    with pytest.raises(error, match=message):
        load_denoiser(tmp_path, "cpu")


def test_unknown_checkpoints_name_what_is_allowed(tmp_path, monkeypatch):
    for name in ("minst", str(tmp_path), "./nowhere"):
        with pytest.raises(FileNotFoundError, match="shipped checkpoint"):
            load_denoiser(name, "cpu")
    import huggingface_hub

    def offline(*arguments, **options):
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(FileNotFoundError, match="the hub answered: ConnectionError"):
        load_denoiser("owner/name", "cpu")


def test_a_hub_folder_is_loaded_like_any_other(tmp_path, monkeypatch):
    import huggingface_hub

    save_denoiser(make_tiny_network(), tmp_path)
    asked = {}
    monkeypatch.setattr(
        huggingface_hub,
        "snapshot_download",
        lambda name, **options: asked.update(options) or str(tmp_path),
    )
    assert load_denoiser("owner/name", "cpu").num_classes == 3
    assert not any(
        "pkl" in pattern or "bin" in pattern or "pt" == pattern
        for pattern in asked["allow_patterns"]
    )  # nothing that can run


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_is_refused_where_there_is_none(tmp_path):
    save_denoiser(make_tiny_network(), tmp_path)
    with pytest.raises(ValueError, match="no CUDA device"):
        load_denoiser(tmp_path, "cuda")
    with pytest.raises(ValueError, match="not a torch device"):
        load_denoiser(tmp_path, "gpu0")
    with pytest.raises(ValueError, match="'mps' is not supported"):
        load_denoiser(tmp_path, "mps")


def test_classifier_round_trip(tmp_path):
    torch.manual_seed(0)
    classifier = Classifier((1, 16, 16), 4, channels=(4, 8), width=6).eval()
    save_classifier(classifier, tmp_path)
    again, images = load_classifier(tmp_path, "cpu"), torch.randn(5, 1, 16, 16)
    torch.testing.assert_close(again(images), classifier(images))
    assert again.extract(images, batch_size=2).shape == (5, 6) and again.predict(images).shape == (
        5,
    )
    with pytest.raises(ValueError, match="EDMDenoiser"):
        load_denoiser(tmp_path, "cpu")


# -------------------------------------------------------------------------- the shipped checkpoints


def test_shipped_files_are_small_and_complete():
    for name, limit in (
        ("mnist", 10e6),
        ("mnist-classifier", 1e6),
        ("mnist-noise-classifier", 1e6),
        ("cifar10-noise-classifier", 12e6),
    ):
        folder = CHECKPOINTS / name
        assert sum(path.stat().st_size for path in folder.iterdir()) < limit
        assert {"config.json", "README.md"} <= {path.name for path in folder.iterdir()}
        for path in folder.glob("*.safetensors"):
            assert all(
                torch.isfinite(value).all()
                for value in load_file(path).values()
                if value.is_floating_point()
            )


def test_shipped_classifier_knows_the_held_out_digits():
    test = load_data("mnist", "test")
    assert (
        load_classifier("mnist-classifier", "cpu").predict(test.images) == test.labels
    ).double().mean() >= 0.97


@pytest.fixture(scope="module")
def shipped():
    return (
        load_denoiser("mnist", "cpu"),
        load_classifier("mnist-classifier", "cpu"),
        load_data("mnist", "train"),
        load_data("mnist", "test"),
    )


def test_shipped_network_makes_the_digit_it_is_asked_for(shipped):
    denoiser, classifier, *_ = shipped
    labels = torch.arange(100) % 10
    made = artificial_start(denoiser, 100, 80.0, steps=16, labels=labels, seed=11, batch_size=50).y0
    right = (classifier.predict(made) == labels).double().mean()
    assert right >= 0.95 - 2 * (0.95 * 0.05 / 100) ** 0.5


def test_shipped_network_is_near_the_data(shipped):
    """Feature distance of unconditional samples against that of as many training digits; noise of
    equal moments is far off."""
    denoiser, classifier, train, test = shipped
    made = artificial_start(denoiser, 150, 80.0, steps=20, seed=12, batch_size=50).y0
    held_out = classifier.extract(test.images)
    distance = {
        name: frechet_distance(classifier.extract(images), held_out)
        for name, images in (
            ("made", made),
            ("train", train.take(150).images),
            ("noise", torch.randn(150, 1, 32, 32).clamp(-1, 1)),
        )
    }
    assert distance["made"] < 3.5 * distance["train"] and distance["noise"] > 10 * distance["made"]


def test_shipped_network_denoises_better_than_the_gaussian_of_the_data(shipped):
    """Mean squared error on held-out digits, against the best affine denoiser (fitted Gaussian), at
    small and middle noise."""
    from uturn_lib import GaussianDenoiser

    denoiser, _, train, test = shipped
    gaussian, clean = GaussianDenoiser.fit(train.images), test.take(100).images
    for sigma in (0.3, 1.0, 3.0):
        noisy = clean + sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
        error = [(method(noisy, sigma) - clean).square().mean() for method in (denoiser, gaussian)]
        assert error[0] < 0.9 * error[1]


def test_half_precision_on_disk_is_single_precision_in_use(tiny_network, tmp_path):
    save_denoiser(tiny_network, tmp_path / "half", dtype=torch.float16)
    save_denoiser(tiny_network, tmp_path / "single")
    half, single = (load_denoiser(tmp_path / name, "cpu") for name in ("half", "single"))
    assert {p.dtype for p in half.parameters()} == {torch.float32}
    x = torch.randn(4, *tiny_network.sample_shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(half(x, 1.0), single(x, 1.0), atol=5e-3, rtol=0)
    assert not torch.equal(half(x, 1.0), single(x, 1.0)) and half.fingerprint != single.fingerprint


def test_weights_that_half_precision_cannot_hold_are_refused(tiny_network, tmp_path):
    large = copy.deepcopy(tiny_network)
    next(large.unet.parameters()).data.view(-1)[0] = 1e6
    with pytest.raises(ValueError, match="cannot hold"):
        save_denoiser(large, tmp_path / "half", dtype=torch.float16)
    assert not (tmp_path / "half" / "config.json").exists()


def test_an_accelerated_denoiser_rounds_and_says_so(tiny_network, tmp_path):
    from uturn_lib.networks import accelerate, accelerated_fingerprint

    save_denoiser(tiny_network, tmp_path / "net")
    plain, fast = (load_denoiser(tmp_path / "net", "cpu") for _ in range(2))
    accelerate(fast, compiled=False)
    assert fast.fingerprint == accelerated_fingerprint(plain.fingerprint) != plain.fingerprint
    x = torch.randn(8, *tiny_network.sample_shape, generator=torch.Generator().manual_seed(0))
    for sigma in (0.05, 1.0, 50.0):
        exact, rounded = plain(x, sigma), fast(x, sigma)
        assert rounded.dtype == torch.float32 and not torch.equal(exact, rounded)
        c_out = sigma * 0.5 / (sigma**2 + 0.25) ** 0.5
        assert (exact - rounded).abs().mean() < 0.02 * c_out  # 8 bits in each of a few dozen layers
    with pytest.raises(ValueError, match="precision"):
        accelerate(plain, torch.float64)


@pytest.mark.parametrize("body, channels", [("separable", (4, 8)), ("dense", (4, 8, 12))])
def test_both_kinds_of_classifier_are_read_back(body, channels, tmp_path):
    torch.manual_seed(0)
    classifier = Classifier((3, 16, 16), 4, channels=channels, width=6, body=body).eval()
    save_classifier(classifier, tmp_path)
    images = torch.rand(5, 3, 16, 16) * 2 - 1
    again = load_classifier(tmp_path, "cpu")
    torch.testing.assert_close(again(images), classifier(images))
    assert again.features(images).shape == (5, 6)
    with pytest.raises(ValueError, match="body = 'deep'"):
        Classifier((3, 16, 16), 4, body="deep")
