"""Model cards: a header that the Hub can read, and text and header that agree."""

import json

import pytest
import torch
from huggingface_hub import ModelCard

from uturn_lib.support.files import sha256
from uturn_lib.support.places import CHECKPOINTS
from uturn_lib.training import card

KINDS = ("", "-classifier", "-noise-classifier")
NAMES = tuple(dataset + kind for dataset in ("mnist", "cifar10") for kind in KINDS)


@pytest.mark.parametrize("name", NAMES)
def test_shipped_networks_carry_a_header(name):
    shipped = ModelCard.load(CHECKPOINTS / name / "README.md")
    data = shipped.data
    assert data.license == "apache-2.0" and data.datasets == [card.HUB[name.split("-")[0]]]
    assert "u-turn-diffusion" in data.tags and data.to_dict()["library_name"] == "uturn-lib"
    assert {result.metric_type for result in data.eval_results} == set(data.metrics)
    (weights,) = (CHECKPOINTS / name).glob("*.safetensors")
    assert sha256(weights) in shipped.text and f'("{name}")' in shipped.text


@pytest.mark.parametrize("name", NAMES)
def test_numbers_of_the_header_are_those_of_the_text(name):
    shipped = ModelCard.load(CHECKPOINTS / name / "README.md")
    for result in shipped.data.eval_results:
        value = result.metric_value
        shown = f"{value:.1%}" if result.metric_type == "accuracy" else f"{value:g}"
        assert shown in shipped.text, (name, result.metric_type)


def test_a_classifiers_card_is_written_from_its_record(tmp_path):
    source = CHECKPOINTS / "mnist-classifier"
    for file in source.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    card.write_classifier_card(tmp_path, "mnist")
    record = json.loads((source / "config.json").read_text())["uturn"]["training"]
    accuracy = record["held_out_correct"] / record["held_out_count"]
    written = ModelCard.load(tmp_path / "README.md")
    assert written.data.eval_results[0].metric_value == pytest.approx(accuracy, abs=1e-4)
    assert f"{record['held_out_correct']} of {record['held_out_count']}" in written.text


def test_a_denoisers_card_says_what_was_measured(tmp_path, monkeypatch):
    for file in (CHECKPOINTS / "mnist").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    measured = {
        "samples": 1000,
        "steps": 64,
        "class_accuracy": 0.75,
        "features": card.NAMING["classifier"],
        "frechet": {"unconditional": 3.25, "conditional": 2.5, "floor": 1.125},
        "kernel": {"unconditional": 0.5, "conditional": 0.25, "floor": 0.0},
        "images_per_second": 1000.0,
        "threads": 2,
        "grid": torch.zeros(60, 1, 32, 32),
    }
    monkeypatch.setattr(card, "measure_denoiser", lambda *arguments: measured)
    card.write_denoiser_card(
        tmp_path, CHECKPOINTS / "mnist-classifier", "mnist", torch.device("cpu")
    )
    written = ModelCard.load(tmp_path / "README.md")
    found = {result.metric_type: result.metric_value for result in written.data.eval_results}
    assert found == {"accuracy": 0.75, "frechet_distance": 3.25, "kernel_distance": 0.5}
    assert "| Frechet distance | 3.25 (aim" in written.text and "75.0%" in written.text


def test_a_noise_classifiers_card_is_written_from_its_record(tmp_path):
    """The numbers of the table are those of config.json, each with its interval."""
    from uturn_lib.training import noise_card

    source = CHECKPOINTS / "mnist-noise-classifier"
    for file in source.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    noise_card.write_noise_classifier_card(tmp_path, "mnist")
    training = json.loads((source / "config.json").read_text())["uturn"]["training"]
    text = (tmp_path / "README.md").read_text()
    for row in training["held_out"]["levels"]:
        shown = [
            f"{row[name]['value']:.3f} [{row[name]['low']:.3f}" for name in ("accuracy", "bound")
        ]
        (line,) = [line for line in text.splitlines() if line.startswith(f"| {row['sigma']:g} |")]
        assert all(part in line for part in shown)
    assert f"**{training['images_seen']:,}**" in text


def test_what_the_noise_card_measures(tmp_path):
    """A network that knows nothing (its head is zero): accuracy and bound of chance, calibrated,
    T_s below every level."""
    from uturn_lib import load_data
    from uturn_lib.networks import CalibratedClassifier, NoiseClassifier
    from uturn_lib.training import noise_card

    data = load_data("digits", "test").take(100)
    network = NoiseClassifier((1, 8, 8), 10, (4,), (1,), embedding=8).eval()
    torch.nn.init.zeros_(network.head.bias)
    found = noise_card.measure_noise_classifier(
        CalibratedClassifier(network, (1.0,), (0.0,)), data, draws=2
    )
    assert [row["sigma"] for row in found["levels"]] == list(noise_card.MEASURED)
    for row in found["levels"]:
        assert (
            row["bound"]["value"] == pytest.approx(0.1, abs=1e-6)
            and abs(row["accuracy"]["value"] - 0.1) < 1e-6
        )
        assert row["calibration_gap"]["value"] == pytest.approx(0, abs=1e-6)
    assert found["t_s"]["value"] == 0.0 and found["images"] == 100
