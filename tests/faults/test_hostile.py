"""Files made to do harm: each is refused with one error, and nothing of it happens."""

import io
import json
import struct
import zipfile

import numpy as np
import pytest
import torch
from edm_stand_in import TINY_SONG, random_network, write_edm_pickle
from mutants import _save_tiny, _write_archive, _write_diffusers, watched
from PIL import Image

from uturn_lib import load_classifier, load_denoiser
from uturn_lib.data import archives, downloads, sets
from uturn_lib.networks import checkpoints
from uturn_lib.networks.edm.architectures import check_arguments
from uturn_lib.support.files import read_json, sha256, write_json


def open_archive(folder):
    listing = archives.list_split(folder, "set", "train", "make it")
    return archives.read_images(listing, archives.choose(listing, 100), 8)


def picture():
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "png")
    return file.getvalue()


def test_names_that_lead_out_of_an_archive_write_nothing(tmp_path):
    """Members are read from the archive by name and never unpacked."""
    inside = tmp_path / "inside"
    inside.mkdir()
    names = [f"../outside{number}.png" for number in range(27)] + ["/tmp/absolute.png"]
    link = zipfile.ZipInfo("link.png")
    link.external_attr = 0o120777 << 16  # a symbolic link
    with zipfile.ZipFile(inside / "set.zip", "w") as archive:
        for name in names:
            archive.writestr(name, picture())
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ValueError, match="link.png is damaged or cannot be read"):
        open_archive(inside)
    assert [path.name for path in tmp_path.rglob("*")] == ["inside", "set.zip"]


@pytest.mark.parametrize("kind", ["listing", "image", "array"])
def test_decompression_bombs_are_refused_before_they_unpack(tmp_path, kind):
    path = tmp_path / ("test.npz" if kind == "array" else "set.zip")
    inside = {"listing": "dataset.json", "image": "0.png", "array": "images.npy"}[kind]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open(inside, "w", force_zip64=True) as file:
            for _ in range(300):
                file.write(bytes(1 << 20))
        archive.writestr("labels.npy", b"")
    with watched(path), pytest.raises(ValueError, match="would unpack to"):
        sets._read_npz(path) if kind == "array" else open_archive(tmp_path)


def test_an_image_of_another_kind_starts_no_other_program(tmp_path):
    """Pillow would hand EPS to Ghostscript, whatever the file is called."""
    _write_archive(tmp_path)
    eps = io.BytesIO()
    Image.new("RGB", (8, 8)).save(eps, "eps")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for number in range(27):
            archive.writestr(f"{number}.png", eps.getvalue())
    with watched(tmp_path / "set.zip"), pytest.raises(ValueError, match="cannot be read"):
        open_archive(tmp_path)


def test_deep_json_is_refused(tmp_path):
    deep = b"[" * 10**5 + b"]" * 10**5
    (tmp_path / "config.json").write_bytes(deep)
    with (
        watched(tmp_path / "config.json"),
        pytest.raises(ValueError, match="config.json is damaged"),
    ):
        load_denoiser(tmp_path, "cpu")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("0.png", picture())
        archive.writestr("dataset.json", b'{"labels": ' + deep + b"}")
    with watched(tmp_path / "set.zip"), pytest.raises(ValueError, match="dataset.json is damaged"):
        open_archive(tmp_path)
    header = b'{"__metadata__": ' + b'{"a":' * 10**5 + b"}" * 10**5 + b"}"
    with pytest.raises(ValueError, match="not a complete safetensors"):
        open_lying(tmp_path, header)


def open_lying(folder, header, content=b""):
    _save_tiny(folder)
    weights = folder / checkpoints.WEIGHTS
    weights.write_bytes(struct.pack("<Q", len(header)) + header + content)
    config = read_json(folder / "config.json")
    config["uturn"]["weights_sha256"] = sha256(weights)
    write_json(folder / "config.json", config)
    with watched(weights):
        return checkpoints.read_checkpoint(folder, checkpoints.WEIGHTS, "EDMDenoiser")


LIES = {
    "beyond the end": {"a": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]}},
    "another size": {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}},
    "overlapping": {
        "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        "b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
    },
    "negative": {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
    "product beyond 64 bits": {
        "a": {"dtype": "F32", "shape": [2**33, 2**33], "data_offsets": [0, 4]}
    },
    "unknown type": {"a": {"dtype": "X9", "shape": [1], "data_offsets": [0, 4]}},
}


@pytest.mark.parametrize("lie", LIES)
def test_safetensors_with_lying_headers_are_refused(tmp_path, lie):
    with pytest.raises(ValueError, match="not a complete safetensors"):
        open_lying(tmp_path, json.dumps(LIES[lie]).encode(), b"\0\0\0\0")


def test_a_header_longer_than_its_file_is_refused(tmp_path):
    _save_tiny(tmp_path)
    weights = tmp_path / checkpoints.WEIGHTS
    for length in (2**63, 2**40, 10**8):
        weights.write_bytes(struct.pack("<Q", length) + b"{}")
        config = read_json(tmp_path / "config.json")
        config["uturn"]["weights_sha256"] = sha256(weights)
        write_json(tmp_path / "config.json", config)
        with watched(weights), pytest.raises(ValueError, match="not a complete safetensors"):
            load_denoiser(tmp_path, "cpu")


@pytest.mark.parametrize(
    "change",
    [
        {"block_out_channels": [2**20, 2**20]},
        {"block_out_channels": [8] * 3000},
        {"layers_per_block": 10**7},
        {"layers_per_block": -1},
        {"num_class_embeds": 10**12},
    ],
)
def test_a_configuration_of_a_huge_network_asks_for_no_memory(tmp_path, change):
    for folder, write in ((tmp_path / "ours", _save_tiny), (tmp_path / "theirs", _write_diffusers)):
        folder.mkdir()
        write(folder)
        write_json(folder / "config.json", read_json(folder / "config.json") | change)
        with watched(folder / "config.json"), pytest.raises(ValueError):
            load_denoiser(folder, "cpu")


def test_a_classifier_of_absurd_size_asks_for_no_memory(tmp_path):
    from mutants import _write_classifier

    _write_classifier(tmp_path)
    config = read_json(tmp_path / "config.json")
    for change in ({"channels": [2**20] * 4}, {"width": 2**40}, {"channels": [1] * 5000}):
        write_json(tmp_path / "config.json", {"uturn": config["uturn"] | change})
        with watched(tmp_path / "config.json"), pytest.raises(ValueError):
            load_classifier(tmp_path, "cpu")


def test_a_hub_folder_with_code_in_it_is_read_as_data(tmp_path, monkeypatch):
    import huggingface_hub

    _write_diffusers(tmp_path)
    trap = f"open({str(tmp_path / 'ran')!r}, 'w')\n"
    for name in ("__init__.py", "unet.py", "pipeline.py", "modeling_unet.py", "setup.py"):
        (tmp_path / name).write_text(trap)
    config = read_json(tmp_path / "config.json")
    auto = {"auto_map": {"AutoModel": "modeling_unet.Model"}, "trust_remote_code": True}
    write_json(tmp_path / "config.json", config | {"_name_or_path": "../pipeline.py"})
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    assert load_denoiser("owner/name", "cpu").sample_shape == (4, 4, 4)
    write_json(tmp_path / "config.json", config | auto)
    try:
        load_denoiser("owner/name", "cpu")
    except ValueError:
        pass
    assert not (tmp_path / "ran").exists()

    class Trap:
        def __reduce__(self):
            return exec, (trap,)

    torch.save({"conv_in.weight": Trap()}, tmp_path / "diffusion_pytorch_model.bin")
    write_json(tmp_path / "config.json", config)
    with pytest.raises(ValueError, match="do not fit"):
        load_denoiser("owner/name", "cpu")
    assert not (tmp_path / "ran").exists()


def test_lists_that_hold_themselves_a_billion_times_are_not_written_out(tmp_path):
    """Few bytes of a pickle, and an error that would repeat them takes for ever."""
    laughs = "ha"
    for _ in range(40):
        laughs = [laughs] * 10
    for wrong in ({"attn_resolutions": laughs}, {"img_resolution": laughs}, {"dropout": laughs}):
        with pytest.raises(ValueError) as caught:
            check_arguments(wrong)
        assert len(str(caught.value)) < 500
    network = random_network("EDM", TINY_SONG)
    network.arguments = network.arguments | {"attn_resolutions": laughs}
    path = write_edm_pickle(tmp_path / "laughs.pkl", network)
    with watched(path), pytest.raises(ValueError):
        load_denoiser(path, "cpu")


def test_notes_beside_a_download_that_are_damaged_do_not_stop_it_for_ever(tmp_path):
    from local_server import Server

    server, content = Server(), bytes(range(256)) * 100
    server.files["net.bin"] = content
    for damage in (b"", b"\xff\xfe\0", b'"tag"\r\nX-Other: 1', b"\n", "\u2028".encode()):
        (tmp_path / "net.bin").unlink(missing_ok=True)
        (tmp_path / "net.bin.sha256").unlink(missing_ok=True)
        (tmp_path / "net.bin.part").write_bytes(content[:100])
        (tmp_path / "net.bin.part.version").write_bytes(damage)
        assert downloads.fetch(server.url("net.bin"), folder=tmp_path).read_bytes() == content
        (tmp_path / "net.bin.sha256").write_bytes(damage)
        assert downloads.fetch(server.url("net.bin"), folder=tmp_path).read_bytes() == content
        assert (tmp_path / "net.bin.sha256").read_text().split()[0] == sha256(tmp_path / "net.bin")
    server.server.shutdown()
    server.server.server_close()


def test_a_claims_file_of_another_shape_is_refused(tmp_path):
    from uturn_lib.claims.pages import judged

    for wrong in ({}, [1], [{"id": "C1"}], [{"id": "C1", "verdict": []}], "claims"):
        write_json(tmp_path / "claims.json", wrong)
        with pytest.raises(ValueError, match="claims.json is damaged.*run the notebooks"):
            if judged("laptop", lambda _: tmp_path) == {}:  # an empty list would be sound
                raise AssertionError(wrong)


def test_object_arrays_are_not_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    np.savez(tmp_path / "test.npz", images=np.array([Trap()], dtype=object), labels=np.arange(1))
    with pytest.raises(ValueError, match="damaged"):
        sets._read_npz(tmp_path / "test.npz")
    assert not (tmp_path / "ran").exists()
