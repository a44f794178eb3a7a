"""The profiles of the paper's own networks: their data, their parts, what they cost; a run on
stand-ins from end to end."""

import io
import json
import os
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from command_line import command
from edm_stand_in import TINY_ADM, TINY_SONG, random_network, write_edm_pickle
from PIL import Image

from uturn_lib import GaussianDenoiser, cli, experiments, load_data
from uturn_lib.companions import flows
from uturn_lib.companions.p3 import geometry, solvers
from uturn_lib.companions.p4 import duration
from uturn_lib.data import archives
from uturn_lib.data import sets as data
from uturn_lib.data.sets import to_unit_range
from uturn_lib.profiles import COMPOSITES, PROFILES, load_profile, profile_of
from uturn_lib.reports import cost, run
from uturn_lib.support.files import read_json
from uturn_lib.support.places import figure_folder
from uturn_lib.uturn import INITIAL_LAWS


@pytest.fixture(autouse=True)
def _forget():
    yield
    data._load_imagenet64.cache_clear()
    data._load_ffhq64.cache_clear()


def picture(number, label, size=64):
    """A smooth random image whose colour tells its class."""
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    coarse[..., label % 3] = 40 * (label + 1)
    return Image.fromarray(coarse).resize((size, size), Image.BILINEAR)


def png(image):
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()


def write_archive(path, per_class, classes, first=0, size=64):
    """An archive as ``dataset_tool.py`` writes it; without classes for ``classes`` = 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = []
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(per_class * classes):
            name = f"{number // 1000:05d}/img{number:08d}.png"
            archive.writestr(name, png(picture(first + number, number % classes, size)))
            labels.append([name, number % classes])
        archive.writestr("dataset.json", json.dumps({"labels": labels if classes > 1 else None}))
    return path


# --------------------------------------------------------------------------------------------- data


def test_an_archive_of_the_edm_tool_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("UTURN_DATA", str(tmp_path))
    write_archive(tmp_path / "imagenet64" / "imagenet-64x64.zip", 6, 5)
    write_archive(tmp_path / "imagenet64" / "imagenet-64x64-val.zip", 2, 5, first=100)
    train, test = load_data("imagenet64", "train"), load_data("imagenet64", "test")
    assert (len(train), len(test), train.sample_shape) == (30, 10, (3, 64, 64))
    assert (
        train.labels.bincount().tolist() == [6] * 5 and test.labels.bincount().tolist() == [2] * 5
    )
    assert train.labels[:5].sort().values.tolist() == [0, 1, 2, 3, 4]  # classes in turn
    listing = archives.list_split(tmp_path / "imagenet64", "imagenet-64x64", "train", "")
    first = archives.choose(listing, 30)[0]
    expected = to_unit_range(np.asarray(picture(int(first), int(first) % 5))[None])[0]
    assert torch.equal(train.images[0], expected) and int(train.labels[0]) == int(first) % 5
    assert train.fingerprint != test.fingerprint and "were part" not in test.source


def test_without_images_of_their_own_every_26th_is_held_out_and_the_set_says_so(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("UTURN_DATA", str(tmp_path))
    write_archive(tmp_path / "ffhq64" / "ffhq-64x64.zip", 78, 1)
    train, test = load_data("ffhq64", "train"), load_data("ffhq64", "test")
    assert (len(train), len(test)) == (75, 3) and train.class_names == ("image",)
    assert "part of the published networks' training set" in test.source
    together = torch.cat([train.images, test.images]).flatten(1)
    assert len(together.unique(dim=0)) == 78  # no image in both


def test_folders_per_class_are_read(tmp_path, monkeypatch):
    folder = tmp_path / "imagenet64"
    folder.mkdir()
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for split, count in (("train", 3), ("val", 2)):
            for label, name in enumerate(("n01", "n02")):
                for number in range(count):
                    archive.writestr(
                        f"{split}/{name}/{number}.png",
                        png(picture(number, label).convert("L" if number else "RGB")),
                    )
    (folder / "classes.json").write_text('{"n01": "goldfish", "n02": "lion"}')
    monkeypatch.setenv("UTURN_DATA", str(tmp_path))
    train, test = load_data("imagenet64", "train"), load_data("imagenet64", "test")
    assert train.class_names == ("goldfish", "lion") and (len(train), len(test)) == (6, 4)
    assert train.labels.bincount().tolist() == [3, 3]


def test_imagenet_without_classes_is_refused(tmp_path, monkeypatch):
    """As dataset_tool.py makes it from the validation images as they are distributed, in one flat
    folder."""
    monkeypatch.setenv("UTURN_DATA", str(tmp_path))
    write_archive(tmp_path / "imagenet64" / "imagenet-64x64.zip", 30, 1)
    with pytest.raises(ValueError, match="says nothing about classes"):
        load_data("imagenet64")


def test_a_network_of_other_classes_is_refused(stand_ins, monkeypatch):
    """A part of ImageNet whose folders are numbered anew would be given the labels of other
    things."""
    monkeypatch.setenv("UTURN_DATA", str(stand_ins))
    wrong = random_network(
        "EDM",
        TINY_ADM
        | {"img_resolution": 64, "model_channels": 8, "attn_resolutions": [], "label_dim": 7},
    )
    path = stand_ins / "edm" / "edm-imagenet-64x64-cond-adm.pkl"
    kept = path.read_bytes()
    write_edm_pickle(path, wrong)
    try:
        with pytest.raises(ValueError, match="knows 7 classes, the data have 5"):
            experiments.prepare("paper/imagenet64", "cpu").denoiser  # noqa: B018
    finally:
        path.write_bytes(kept)


def test_the_data_folder_may_hold_other_sets_only(stand_ins, monkeypatch):
    """CIFAR-10 is then downloaded as usual."""
    monkeypatch.setenv("UTURN_DATA", str(stand_ins))
    data._load_cifar10.cache_clear()
    asked = []
    monkeypatch.setattr(
        data,
        "download_cifar10",
        lambda: asked.append(1) or (_ for _ in ()).throw(RuntimeError("asked")),
    )
    with pytest.raises(RuntimeError, match="asked"):
        load_data("cifar10")


def test_a_large_archive_is_thinned_evenly_and_always_alike():
    members = tuple(f"{k:05d}.png" for k in range(1000))
    listing = archives.Listing(None, members, tuple(k % 7 for k in range(1000)), tuple("abcdefg"))
    chosen = archives.choose(listing, 100)
    assert len(set(chosen)) == 100 and np.ptp(np.bincount(chosen % 7)) <= 1
    np.testing.assert_array_equal(archives.choose(listing, 40), chosen[:40])


def test_missing_and_damaged_archives_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.delenv("UTURN_DATA", raising=False)
    with pytest.raises(
        FileNotFoundError, match="UTURN_DATA.*dataset_tool.py --source=ffhq/images1024x1024"
    ):
        load_data("ffhq64")
    monkeypatch.setenv("UTURN_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="imagenet-64x64.zip.*image-net.org"):
        load_data("imagenet64")
    path = write_archive(tmp_path / "ffhq64" / "ffhq-64x64.zip", 30, 1, size=32)
    with pytest.raises(ValueError, match="is 32 x 32, 64 x 64 is needed"):
        load_data("ffhq64")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match="damaged or no zip"):
        load_data("ffhq64")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", png(picture(0, 0))[:200])
        archive.writestr("dataset.json", '{"labels": [["b.png", 1]]}')
    with pytest.raises(ValueError, match="no class for a.png"):
        load_data("ffhq64")
    for labels in (
        "5",
        '"text"',
        '[["a.png"]]',
        '[["a.png", null]]',
        '[["a.png", -1]]',
        '[["a.png", 1000000000]]',
        "[" * 10**5,
    ):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.png", png(picture(0, 0)))
            archive.writestr("dataset.json", f'{{"labels": {labels}}}')
        with pytest.raises(ValueError, match="ffhq-64x64.zip: dataset.json is damaged"):
            load_data("ffhq64")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "none")
        archive.writestr("__MACOSX/._a.png", "none")
    with pytest.raises(ValueError, match="no images"):
        load_data("ffhq64")


# ----------------------------------------------------------------------------------------- profiles


def test_the_paper_is_made_of_the_networks_that_the_paper_used():
    paper = {
        figure: load_profile(profile_of("paper", figure))
        for figure in COMPOSITES["paper"].parts
        if figure.startswith("fig")
    }
    assert len(paper) == 16 and all(profile.shows(figure) for figure, profile in paper.items())
    for number in range(1, 9):
        assert paper[f"fig{number:02d}"].checkpoint == "edm-imagenet-64x64-cond-adm.pkl"
    for number in range(9, 16):
        assert paper[f"fig{number:02d}"].checkpoint == "edm-cifar10-32x32-uncond-vp.pkl"
        assert paper[f"fig{number:02d}"].dataset == "cifar10"
    assert (paper["fig16"].second, paper["fig16"].second_checkpoint) == (
        "ffhq64",
        "edm-ffhq-64x64-uncond-vp.pkl",
    )
    assert (
        paper["fig02"].ks_steps == paper["fig09"].steps == 256 and paper["fig02"].ks_samples == 256
    )  # the authors'
    assert len({figure_folder(profile.name) for profile in paper.values()}) == 1
    assert profile_of("paper", "p3a") == profile_of("paper", "p4b") == "paper/cifar10-edm"
    with pytest.raises(
        ValueError, match="a single notebook needs one of paper/imagenet64, paper/cifar10-edm"
    ):
        load_profile("paper")


@pytest.mark.parametrize(
    ("profile", "figure", "lacks"),
    [
        ("cifar10-edm", "fig05", "no classes"),
        ("imagenet64", "fig09", "no score without labels"),
        ("imagenet64", "p3a", "no score without labels"),
        ("cifar10-edm", "p2a", "not a UNet2DModel"),
    ],
)
def test_figures_that_a_network_cannot_make_are_refused_by_name(profile, figure, lacks, capsys):
    assert cli.main(["figures", figure, "--profile", profile]) == 2
    assert lacks in capsys.readouterr().err


def test_scale_names_are_checked(monkeypatch):
    monkeypatch.setenv("UTURN_SCALE", "tiny")
    with pytest.raises(ValueError, match="UTURN_SCALE = 'tiny'"):
        PROFILES["laptop"].on("cpu")
    monkeypatch.setenv("UTURN_SCALE", "smoke")
    assert PROFILES["laptop"].on("cpu").ground_truths < PROFILES["laptop"].ground_truths


# --------------------------------------------------------------------------------------------- cost


class Counting:
    """Counts the images it is asked about."""

    sample_shape, num_classes, sigma_range, fingerprint = (3, 4, 4), 5, (0.0, 80.0), "counting"

    def __init__(self):
        self.images = 0

    def __call__(self, x, sigma, labels=None):
        self.images += len(x)
        return x / (1 + torch.as_tensor(sigma, dtype=x.dtype) ** 2)


def test_the_calls_that_are_announced_are_the_calls_that_are_made():
    network = Counting()
    small = {
        "ground_truths": 20,
        "steps": 12,
        "ode_steps": 9,
        "ode_ground_truths": 6,
        "repeated": 3,
        "repeats": 4,
        "ks_samples": 16,
        "ks_sets": 2,
        "ks_steps": 7,
    }
    profile = replace(PROFILES["laptop"], name="laptop", chunk=7, batch_size=5, **small)
    images, labels = torch.rand(60, 3, 4, 4), torch.arange(60) % 5
    pictures = data.ImageSet(
        "toy", "train", images, labels, tuple("abcde"), "", "", "toy-fingerprint"
    )
    others = replace(pictures, images=1 - images)
    study = experiments.Study(
        lambda: network, "counting", batch_size=5, profile=profile, train=pictures, test=others
    )
    plans = {
        "multi-class": experiments.multi_class.plan(study),
        "conditional": experiments.conditional.plan(study),
        "repeated": experiments.repeated.plan(study),
        "training images": experiments.training_sweep.plan(study),
        "artificial": experiments.start_sweep.plan(study, "artificial"),
        "gaussian": experiments.start_sweep.plan(study, "gaussian", labels=labels[:20]),
        "shortened": experiments.shortened_runs.plan(study, [5, 7]),
        "laws": experiments.initial_laws.plan(
            study, [law for law in INITIAL_LAWS if law != "noise"]
        ),
        "laws by Heun": experiments.initial_laws.plan(study, ["noise", "data"], method="ode"),
        "generation": experiments.profile_generation.plan(study),
        "way back": experiments.return_paths.plan(study, images[:3], 2.0, 6),
        "deviation": experiments.deviation.plan(study, pictures, 6, 9),
        "optimal paths": experiments.deviation.plan(study, pictures, 6, 9, path="optimal"),
        "deterministic": experiments.deterministic.plan(study),
        "affinity": experiments.affinity.plan(
            study, study.gaussian, images[:30], images[30:50], (1.0, 2.0)
        ),
        "shapes": geometry.shapes.plan(study, profile.paths, profile.flow_steps),
        "solvers": geometry.solver_errors.plan(study, list(solvers.ORDERS), (8, 12, 16, 24, 48), 4),
        "flows": flows.run.plan(study, 10, 6, "heun", chunk=4),
        "mixture": duration.auxiliary_starts.plan(study, GaussianDenoiser.fit(images)),
        "losses": duration.squared_distances.plan(study, {}, images[:9], (1.0, 3.0)),
    }
    for name, plan in plans.items():
        expected, before = sum(chunk.calls for chunk in plan.chunks), network.images
        assert expected > 0, name
        plan.run()
        assert network.images - before == expected, name
    before, plan = (
        network.images,
        duration.flow_likelihoods.plan(study, images[:6], (1.0, 80.0), {}, steps=8),
    )
    plan.run()
    assert (
        3 * (network.images - before) == plan.chunks[0].calls
    )  # a call with its derivative costs as much as three


def test_shared_sweeps_are_counted_once_and_the_table_adds_up(capsys):
    assert cli.main(["cost", "--profile", "paper", "--device", "cpu", "--rate", "10"]) == 0
    table = capsys.readouterr().out.partition("| workers")[0]
    rows = [line.split("|")[1:4] for line in table.splitlines() if line.startswith("| ")][1:]
    counts = {row[0].strip(): int(row[1].replace(",", "")) for row in rows}
    assert sum(value for key, value in counts.items() if key != "all") == counts["all"]
    beyond = len(run.find_notebooks(["beyond"]))
    assert counts["fig08"] == 0
    # P2 and B7 need another kind of network, B3 trains its own on digits; the last row is the sum
    assert len(counts) == 16 + 5 + beyond - 2 + 1
    assert set(cost.FIGURES) == {run.figure_of(path) for path in run.find_notebooks([])}
    assert cli.main(["cost", "--profile", "desktop"]) == 2


# ---------------------------------------------------------------------------------- from end to end


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory):
    """A data folder with small archives and random networks under the published names."""
    folder = tmp_path_factory.mktemp("data")
    write_archive(folder / "imagenet64" / "imagenet-64x64.zip", 40, 5)
    write_archive(folder / "imagenet64" / "imagenet-64x64-val.zip", 10, 5, first=1000)
    write_archive(folder / "ffhq64" / "ffhq-64x64.zip", 520, 1, first=5000)
    (folder / "edm").mkdir()
    adm = TINY_ADM | {"img_resolution": 64, "model_channels": 8, "attn_resolutions": []}
    write_edm_pickle(folder / "edm" / "edm-imagenet-64x64-cond-adm.pkl", random_network("EDM", adm))
    song = TINY_SONG | {"img_resolution": 64, "attn_resolutions": []}
    write_edm_pickle(folder / "edm" / "edm-ffhq-64x64-uncond-vp.pkl", random_network("EDM", song))
    return folder


@pytest.mark.skipif(
    "CI" not in os.environ and os.environ.get("UTURN_SLOW") is None,
    reason="set UTURN_SLOW=1 to run whole figures here as well",
)
def test_the_paper_profile_runs_on_stand_ins(stand_ins, tmp_path):
    """Files, networks, labels and notebooks fit together: what is left to a GPU is time. The
    numbers mean nothing."""
    environment = {
        "UTURN_DATA": str(stand_ins),
        "UTURN_SCALE": "smoke",
        "UTURN_FEATURES": "efficientnet-lite0",
    }
    done = command(
        "figures",
        "fig01",
        "fig05",
        "fig06",
        "fig16",
        "--profile",
        "paper",
        "--device",
        "cpu",
        **environment,
    )
    assert done.returncode == 0, done.stderr
    found = {path.stem for path in figure_folder("paper").glob("*.png")}
    assert {
        "fig01_scheme",
        "fig05_class_conditional",
        "fig06_around_T_m",
        "fig16_deterministic_second",
        "fig16_network",
    } <= found
    ledger = read_json(figure_folder("paper") / "claims.json")
    assert {entry["profile"] for entry in ledger} == {"paper/imagenet64"}
    judged = next(entry for entry in ledger if (entry["figure"], entry["id"]) == ("fig16", "C7b"))
    assert "no classes" in judged["measured"]


def test_a_run_page_names_every_part():
    parts = [load_profile(f"paper/{name}").on("cpu") for name in ("imagenet64", "cifar10-edm")]
    text = run.run_page("paper", parts, torch.device("cpu"), {"fig02_ks_test": 12.0}, 34.0, 2)
    assert (
        "PROFILE=paper" in text
        and "paper/imagenet64: 160 ground truths" in text
        and "paper/cifar10-edm:" in text
    )


@pytest.mark.skipif(
    "UTURN_DATA" not in os.environ
    or not os.path.isfile(os.path.join(os.environ["UTURN_DATA"], "imagenet64", "images.zip")),
    reason="UTURN_DATA holds no imagenet64/images.zip",
)
def test_a_real_part_of_imagenet_is_read():
    train, test = load_data("imagenet64", "train"), load_data("imagenet64", "test")
    assert len(train.class_names) == len(test.class_names) == 20 and "goldfish" in train.class_names
    assert (
        train.labels.bincount().tolist() == [500] * 20
        and test.labels.bincount().tolist() == [50] * 20
    )
    means = (train.images.double().mean((0, 2, 3)) + 1) / 2
    # Photographs: near the published channel means of ImageNet, .485 .456 .406 (20 classes are not
    # all of them).
    assert float((means - torch.tensor([0.485, 0.456, 0.406])).abs().max()) < 0.06
