"""Model cards: what a shipped network was made of and what was measured on it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from .data import load_data
from .files import atomic_path, read_json, sha256
from .measures.quality import frechet_distance, kernel_distance
from .networks import Classifier, EDMDenoiser, load_classifier, load_denoiser
from .uturn import artificial_start

SAMPLES = 1000
STEPS = 64


def calls_per_second(denoiser: EDMDenoiser, batch: int = 64, rounds: int = 9) -> float:
    """Images per second of one network call: the median of ``rounds`` timings."""
    device = next(denoiser.parameters()).device
    x, sigma = torch.randn(batch, *denoiser.sample_shape, device=device), torch.ones(batch, device=device)
    times = []
    with torch.no_grad():
        for _ in range(rounds + 2):
            begun = time.perf_counter()
            denoiser(x, sigma)
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - begun)
    return batch / sorted(times[2:])[rounds // 2]


def measure_denoiser(
    denoiser: EDMDenoiser, classifier: Classifier, dataset: str, samples: int = SAMPLES, steps: int = STEPS
) -> dict[str, Any]:
    """Class accuracy of conditional samples, feature distances of unconditional ones with their floor, and speed."""
    train, test = load_data(dataset, "train"), load_data(dataset, "test")
    labels = torch.arange(samples) % len(train.class_names)
    sigma_max = denoiser.sigma_range[1]
    conditional = artificial_start(denoiser, samples, sigma_max, steps, labels=labels, seed=1).y0
    unconditional = artificial_start(denoiser, samples, sigma_max, steps, seed=2).y0
    held_out, features = classifier.extract(test.images), classifier.extract(unconditional)
    floor = classifier.extract(train.take(min(samples, len(train))).images)
    return {
        "samples": samples,
        "steps": steps,
        "class_accuracy": float((classifier.predict(conditional) == labels).double().mean()),
        "frechet": frechet_distance(features, held_out),
        "frechet_floor": frechet_distance(floor, held_out),
        "kernel": kernel_distance(features, held_out),
        "kernel_floor": kernel_distance(floor, held_out),
        "images_per_second": calls_per_second(denoiser),
        "threads": torch.get_num_threads(),
    }


def write_denoiser_card(folder: Path, classifier_folder: Path, dataset: str, device: torch.device) -> dict[str, Any]:
    """Measure the checkpoint in ``folder`` and write its README.md; returns the measurements."""
    denoiser, data = load_denoiser(folder, device), load_data(dataset, "train")
    found = measure_denoiser(denoiser, load_classifier(classifier_folder, device), dataset)
    training = read_json(folder / "config.json")["uturn"]["training"]
    recipe, last = training["recipe"], training["loss"][-1]
    parameters = sum(p.numel() for p in denoiser.parameters())
    error = (found["class_accuracy"] * (1 - found["class_accuracy"]) / found["samples"]) ** 0.5
    stages = "; ".join(
        f"{stage['images']:,} images, learning rate {stage['learning_rate']:g}, label dropout {stage['label_dropout']:.0%}"
        for stage in recipe["stages"]
    )
    text = f"""# A denoiser of {dataset} images

A diffusers `UNet2DModel` ({parameters / 1e6:.2f} million parameters, pixels unshuffled by {denoiser.unshuffle}) under the preconditioning of
Karras et al. (2022), Table 1, with sigma_data = {denoiser.sigma_data}; images {tuple(denoiser.sample_shape)} in [-1, 1], noise levels up to
{denoiser.sigma_range[1]:g}. With labels it is class-conditional ({denoiser.num_classes} classes), without them unconditional (null class, from label
dropout).

```python
from uturn_lib import load_denoiser
denoiser = load_denoiser("{folder.name}")
```

## How it was made

`make train` (`python -m uturn_lib.training`), recipe in `config.json` under `uturn.training`.

| | |
|---|---|
| data | {data.source}; the {len(data)} training images (fingerprint {data.fingerprint[:16]}) |
| licence of the data | {data.licence} |
| seed | {recipe["seed"]} |
| images seen | {training["images_seen"]:,} in batches of {recipe["batch"]} |
| noise levels | ln sigma ~ N({recipe["log_sigma_mean"]}, {recipe["log_sigma_std"]}^2) |
| stages | {stages} |
| optimiser | Adam, warm-up and cosine decay in each stage; average of the weights with half-life {recipe["ema_halflife"]:,} images |
| duration | {training["minutes"]:.0f} minutes on {training["machine"]}, torch {training["torch"]}; wall time |
| final loss | held-out images {last["held_out_loss"]:.4f}, training images {last["train_set_loss"]:.4f} (same noise levels and weights) |

## What was measured

{found["samples"]} samples each, time reversal ("sde"), {found["steps"]} steps from sigma = {denoiser.sigma_range[1]:g}; features of the shipped classifier.

| | found | for comparison |
|---|---|---|
| the classifier gives the wanted class to | {found["class_accuracy"]:.1%} +- {error:.1%} of class-conditional samples | aim: at least 95 % |
| Frechet distance of unconditional samples to the held-out images | {found["frechet"]:.2f} | {found["frechet_floor"]:.2f} for {found["samples"]} training images (floor); ratio {found["frechet"] / found["frechet_floor"]:.2f}, aim at most 3 |
| kernel distance | {found["kernel"]:.4f} | {found["kernel_floor"]:.4f} (floor) |
| images per second of one call, batch 64, {found["threads"]} CPU threads | {found["images_per_second"]:.0f} | aim: at least 500 |

The distances are single values without interval: {found["samples"]} samples against {len(load_data(dataset, "test"))} held-out images; the floor shows the bias of that size.

## Limits

Trained on {len(data)} images on a CPU, for teaching and for tests of the method. It is no state-of-the-art generator. The gap between
held-out and training loss above says how far it has begun to memorise.

Weights: SHA-256 {sha256(folder / "diffusion_pytorch_model.safetensors")}; Apache-2.0, the terms of the data apply.
"""
    _write(folder, text)
    return found


def write_classifier_card(folder: Path, dataset: str) -> None:
    """Write the README.md of a classifier's checkpoint from its recorded training."""
    training = read_json(folder / "config.json")["uturn"]["training"]
    data = load_data(dataset, "train")
    right, count = training["held_out_correct"], training["held_out_count"]
    accuracy = right / count
    text = f"""# A classifier of {dataset} images

A small convolutional network: its decision gives class retention, its penultimate layer the features of the quality distances.

```python
from uturn_lib import load_classifier
classifier = load_classifier("{folder.name}")
```

| | |
|---|---|
| data | {data.source}; the {len(data)} training images |
| licence of the data | {data.licence} |
| recipe | {training["epochs"]} epochs, batch {training["batch"]}, AdamW {training["learning_rate"]:g}, one cycle; small rotations, scalings, shifts; seed {training["seed"]} |
| duration | {training["minutes"]} minutes |
| held-out accuracy | {right} of {count}: {accuracy:.1%} +- {(accuracy * (1 - accuracy) / count) ** 0.5:.1%} |

Weights: SHA-256 {sha256(folder / "model.safetensors")}; Apache-2.0, the terms of the data apply.
"""
    _write(folder, text)


def _write(folder: Path, text: str) -> None:
    with atomic_path(folder / "README.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
