"""The CIFAR-10 profile. What needs the data runs where UTURN_DATA names a folder with them; the
rest runs everywhere."""

import json
import os

import numpy as np
import pytest
import torch

from uturn_lib import (
    EmpiricalDenoiser,
    GaussianDenoiser,
    claims,
    experiments,
    load_classifier,
    load_data,
    load_denoiser,
    u_turn,
)
from uturn_lib.claims.published import SPECIATION, load_curves
from uturn_lib.measures import retention
from uturn_lib.networks import shipped_fingerprint
from uturn_lib.profiles import PROFILES
from uturn_lib.reports import run
from uturn_lib.support.places import CHECKPOINTS, reference_folder

FULL, SMALL = PROFILES["cifar10"], PROFILES["cifar10"].on("cpu")
data = pytest.mark.skipif(
    "UTURN_DATA" not in os.environ, reason="UTURN_DATA is not set: no offline copy of CIFAR-10"
)


def test_the_scale_follows_the_device():
    assert PROFILES["cifar10"].on("cuda") is FULL and SMALL.on("cpu") == SMALL
    assert FULL.ground_truths >= 1000 and FULL.ks_steps == 256 and FULL.ks_samples == 256
    assert (
        SMALL.ground_truths < FULL.ground_truths
        and SMALL.sigmas == FULL.sigmas
        and SMALL.name == "cifar10"
    )
    assert (
        PROFILES["laptop"].on("cpu") is not None
        and PROFILES["laptop"].on("cpu").steps == PROFILES["laptop"].steps
    )
    assert (
        f"{SMALL.ground_truths:,} ground truths" in SMALL.scale()
        and "all training images" in FULL.scale()
    )


@pytest.mark.parametrize(
    "profile", [FULL, SMALL, PROFILES["laptop"]], ids=["full", "cpu", "laptop"]
)
def test_a_profile_is_consistent(profile):
    assert set(profile.quality_sigmas) <= set(profile.sigmas) and set(profile.repeat_sigmas) <= set(
        profile.sigmas
    )
    assert (
        set(profile.local_sigmas) <= set(profile.repeat_sigmas)
        and profile.local_ground_truths <= profile.ground_truths
    )
    assert profile.ode_ground_truths <= profile.ground_truths and profile.ground_truths % 10 == 0
    assert 10 * max(2, 5 * profile.ground_truths // 80) <= profile.ground_truths


def test_published_values_are_those_of_the_digest():
    assert (SPECIATION["cifar10"].predicted, SPECIATION["cifar10"].measured) == (8.0, 6.1)
    assert (SPECIATION["mnist"].predicted, SPECIATION["mnist"].measured) == (5.2, 5.0)
    chen = load_curves("chen2023_cifar10")
    assert (np.diff(chen["sigma"]) < 0).all() and (chen["low"] <= chen["high"]).all()
    assert dict(zip(chen["sigma"], chen["low"], strict=True))[3.9] == 9.8


def test_weights_of_the_shipped_networks_are_small_and_carry_a_card():
    for name, limit in (("cifar10", 40e6), ("cifar10-classifier", 10e6)):
        (weights,) = (CHECKPOINTS / name).glob("*.safetensors")
        assert weights.stat().st_size < limit
        card = (CHECKPOINTS / name / "README.md").read_text(encoding="utf-8")
        assert "SHA-256" in card and "seed" in card and "minutes" in card
    config = json.loads((CHECKPOINTS / "cifar10" / "config.json").read_text())["uturn"]["training"]
    assert f"**{config['images_seen']:,}**" in (CHECKPOINTS / "cifar10" / "README.md").read_text(
        encoding="utf-8"
    )
    for picture in ("loss.png", "samples.png"):
        assert 5e3 < (CHECKPOINTS / "cifar10" / picture).stat().st_size < 4e5


def test_committed_results_were_made_with_the_shipped_network():
    folder = reference_folder("cifar10")
    entries = json.loads((folder / "claims.json").read_text())
    assert {entry["network"] for entry in entries} == {shipped_fingerprint("cifar10")}
    judged = {entry["id"] for entry in entries}
    assert judged <= set(claims.STATEMENTS) and {"C1", "C2", "C3", "C5", "C6"} <= judged
    # Figure B1 waits for the next network of CIFAR-10 (docs/cifar10.md).
    made = {path.stem for path in folder.glob("*.png")}
    assert {path.stem for path in run.find_notebooks(["paper", "companions"])} == made
    assert (
        "| machine |" in (folder / "RUN.md").read_text()
        and "ground truths" in (folder / "RUN.md").read_text()
    )


def test_a_run_page_names_scale_machine_and_features():
    text = run.run_page("cifar10", [SMALL], torch.device("cpu"), {"fig02_ks_test": 12.0}, 34.0, 2)
    assert SMALL.scale() in text and "fig02 12" in text and "34 s" in text and "2 notebooks" in text


def test_the_network_works_at_every_level_without_data():
    network = load_denoiser("cifar10", "cpu")
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for sigma in (0.01, 1.0, 80.0):
        assert torch.isfinite(network(x * max(sigma, 0.5), sigma, torch.tensor([3, 7]))).all()
    start = 0.5 * torch.sin(torch.linspace(0, 6, 32)).expand(
        1, 3, 32, 32
    )  # a smooth picture, hardly turned: it comes back
    back = u_turn(network, start, sigma_u=0.05, steps=4, seed=0).y0
    assert float((back - start).abs().mean()) < 0.05


@data
def test_the_classifier_is_as_good_as_its_card_says():
    test = load_data("cifar10", "test")
    config = json.loads((CHECKPOINTS / "cifar10-classifier" / "config.json").read_text())["uturn"][
        "training"
    ]
    assert config["held_out_count"] == len(test)
    right = int(
        (load_classifier("cifar10-classifier", "cpu").predict(test.images) == test.labels).sum()
    )
    assert (
        abs(right - config["held_out_correct"]) <= 5
    )  # rounding on another processor may move a few


@data
def test_the_network_denoises_better_than_a_gaussian_and_knows_its_classes():
    train, test = load_data("cifar10", "train"), load_data("cifar10", "test").take(100)
    network, gaussian = load_denoiser("cifar10", "cpu"), GaussianDenoiser.fit(train.images[:6000])
    noise = torch.randn(test.images.shape, generator=torch.Generator().manual_seed(0))
    for sigma in (0.2, 1.0, 3.0):
        x = test.images + sigma * noise
        error, affine = (
            (d - test.images).square().flatten(1).mean(1)
            for d in (network(x, sigma), gaussian(x, sigma))
        )
        assert float((affine - error).mean() / ((affine - error).std() / 10)) > 5
    x = test.images + 4 * noise
    right, wrong = (network(x, 4.0, labels) for labels in (test.labels, (test.labels + 5) % 10))
    gain = ((wrong - test.images).square() - (right - test.images).square()).flatten(1).mean(1)
    assert float(gain.mean() / (gain.std() / 10)) > 3


@data
def test_the_empirical_score_of_all_images_returns_its_own_at_small_noise():
    train = load_data("cifar10", "train")
    starts = train.take(20)
    own = retention.nearest_index(starts.images, train.images)
    returned, kept = experiments.empirical_retention(train, starts, (0.5, 80.0), own=own)
    assert returned[0].min() > 0.999 and returned[1].max() < 0.01
    assert (
        abs(kept[1].mean() - 0.1) < 0.02
    )  # at sigma = 80 nothing is left but the share of the class
    memory = EmpiricalDenoiser(train.images)
    torch.testing.assert_close(memory(starts.images + 0.01, 0.02), starts.images, atol=1e-4, rtol=0)
