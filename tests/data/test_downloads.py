"""Downloads against a server on loopback: continued after a break, verified, kept, and an altered
file noticed."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from local_server import Server

from uturn_lib import cli, load_denoiser
from uturn_lib.data.downloads import fetch, offline_file
from uturn_lib.networks.edm import pretrained

CONTENT = bytes(range(256)) * 4000  # a megabyte whose parts differ


@pytest.fixture
def server():
    made = Server()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_is_continued(server, tmp_path, ranges):
    server.files["net.bin"], server.breaks_after, server.ranges = CONTENT, 300_000, ranges
    with pytest.raises(
        RuntimeError, match="MB are kept; the next try goes on from there. Put it elsewhere"
    ):
        fetch(server.url("net.bin"), folder=tmp_path, remedy="Put it elsewhere")
    kept = (tmp_path / "net.bin.part").stat().st_size
    assert 0 < kept <= 300_000 and not (tmp_path / "net.bin").exists()
    path = fetch(server.url("net.bin"), folder=tmp_path)
    assert path.read_bytes() == CONTENT and not (tmp_path / "net.bin.part").exists()
    assert server.asked == [
        None,
        f"bytes={kept}-",
    ]  # a server without ranges sends all of it again: nothing is doubled
    assert fetch(server.url("net.bin"), folder=tmp_path) == path and len(server.asked) == 2  # kept
    assert not list(tmp_path.glob("*.part*"))


@pytest.mark.parametrize("change", ["content", "no tags", "another place"])
def test_two_versions_of_a_file_are_never_joined(server, tmp_path, change):
    server.files["net.bin"], server.breaks_after, server.tags = (
        CONTENT,
        300_000,
        change != "no tags",
    )
    with pytest.raises(RuntimeError):
        fetch(server.url("net.bin"), folder=tmp_path)
    if change == "another place":
        server.shift = 5  # a server that sends another range than it was asked for
    else:
        server.files["net.bin"] = CONTENT[::-1]
    assert fetch(server.url("net.bin"), folder=tmp_path).read_bytes() == server.files["net.bin"]


def test_two_processes_may_want_the_same_file(server, tmp_path):
    server.files["net.bin"] = CONTENT
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: fetch(server.url("net.bin"), folder=tmp_path), range(4)))
    assert len(set(paths)) == 1 and paths[0].read_bytes() == CONTENT
    assert server.asked == [None]  # the others waited, and found it


def test_hashes_are_verified_and_a_wrong_file_is_not_kept(server, tmp_path):
    server.files["net.bin"] = CONTENT
    right = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    with pytest.raises(ValueError, match="wrong checksum"):
        fetch(server.url("net.bin"), "sha256:" + "0" * 64, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".net.bin.lock"]
    assert fetch(server.url("net.bin"), right, tmp_path).read_bytes() == CONTENT


def test_without_a_published_hash_the_first_download_is_the_reference(server, tmp_path):
    server.files["net.bin"] = CONTENT
    path = fetch(server.url("net.bin"), folder=tmp_path)
    assert (tmp_path / "net.bin.sha256").read_text().split() == [
        hashlib.sha256(CONTENT).hexdigest(),
        "net.bin",
    ]
    path.write_bytes(CONTENT[:-1] + b"!")  # altered on disk: fetched again
    assert fetch(server.url("net.bin"), folder=tmp_path).read_bytes() == CONTENT
    path.unlink()
    server.files["net.bin"] = CONTENT[::-1]  # altered on the server: refused
    with pytest.raises(ValueError, match="wrong checksum"):
        fetch(server.url("net.bin"), folder=tmp_path)
    assert not path.exists()


@pytest.mark.parametrize("part", [CONTENT, CONTENT + b"more", b"foreign"])
@pytest.mark.parametrize("known", [True, False])
def test_a_part_that_is_complete_or_of_another_file(server, tmp_path, part, known):
    server.files["net.bin"] = CONTENT
    (tmp_path / "net.bin.part").write_bytes(part)
    if known and part != b"foreign":  # interrupted between the last byte and the renaming
        (tmp_path / "net.bin.part.version").write_text(f'"{hashlib.md5(CONTENT).hexdigest()}"')
    assert fetch(server.url("net.bin"), folder=tmp_path).read_bytes() == CONTENT


def test_unreachable_and_missing_files_say_what_to_do(server, tmp_path):
    with pytest.raises(RuntimeError, match="HTTPError"):
        fetch(server.url("none.bin"), folder=tmp_path)
    with pytest.raises(RuntimeError, match="cannot download .* Put it there"):
        fetch("http://127.0.0.1:9/net.bin", folder=tmp_path, remedy="Put it there")


def test_an_edm_file_is_downloaded_by_its_published_name(server, tmp_path, monkeypatch):
    from edm_stand_in import TINY_SONG, random_network, write_edm_pickle

    name = "edm-cifar10-32x32-uncond-vp.pkl"
    made = random_network("EDM", TINY_SONG)
    server.files[name] = write_edm_pickle(tmp_path / "made.pkl", made).read_bytes()
    monkeypatch.delenv("UTURN_DATA", raising=False)
    monkeypatch.setattr(pretrained, "EDM_HOME", server.url(""))
    monkeypatch.setattr("uturn_lib.data.downloads.kept_folder", lambda: tmp_path / "kept")
    found = load_denoiser(name, "cpu")
    assert found.sample_shape == (3, 16, 16) and (tmp_path / "kept" / name).is_file()
    assert cli.main(["fetch", name]) == 0
    assert len(server.asked) == 1
    # A file that was put into the data folder by hand comes first.
    (tmp_path / "data" / "edm").mkdir(parents=True)
    write_edm_pickle(tmp_path / "data" / "edm" / name, random_network("EDM", TINY_SONG, seed=1))
    monkeypatch.setenv("UTURN_DATA", str(tmp_path / "data"))
    assert (
        offline_file("edm", name) is not None
        and load_denoiser(name, "cpu").fingerprint != found.fingerprint
    )


def test_offline_the_error_names_file_size_and_place(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("UTURN_DATA", raising=False)
    monkeypatch.setattr(pretrained, "EDM_HOME", "http://127.0.0.1:9/")
    monkeypatch.setattr("uturn_lib.data.downloads.kept_folder", lambda: tmp_path)
    with pytest.raises(
        RuntimeError,
        match=r"edm-imagenet-64x64-cond-adm.pkl \(1184 MB, CC BY-NC-SA 4.0\).*UTURN_DATA/edm/",
    ):
        load_denoiser("edm-imagenet-64x64-cond-adm.pkl", "cpu")
    assert cli.main(["fetch", "edm-ffhq-64x64-uncond-vp.pkl"]) == 2
    assert "UTURN_DATA/edm/" in capsys.readouterr().err
