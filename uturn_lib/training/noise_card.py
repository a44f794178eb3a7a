"""The card of a noise classifier: accuracy, calibration and bound at each level."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..data.sets import ImageSet, load_data
from ..measures.class_bound import bound_crossing, noises_per_image, readings
from ..measures.estimate import Estimate, bootstrap_mean
from ..measures.retention import chance_level
from ..networks.noise_classifier import (
    CalibratedClassifier,
    load_noise_classifier,
    noisy_probabilities,
)
from ..profiles import LEVELS
from ..support.files import read_json, sha256
from .card import CHANGES, CLASSIFIER_TASK, header, profile_of, write_card

MEASURED = tuple(sorted({*LEVELS, 0.5}))  # 0.5: accuracies of other classifiers are published there


def measure_noise_classifier(
    classifier: CalibratedClassifier, data: ImageSet, draws: int | None = None
) -> dict[str, Any]:
    """Accuracy, calibration and the bound of class retention on held-out ``data``, by level.

    Every image gets ``draws`` noises, the same at every level; intervals are over images.
    """
    draws = draws or noises_per_image(len(data))
    found = [
        readings(noisy_probabilities(classifier, data.images, sigma, draws), data.labels)
        for sigma in MEASURED
    ]
    rows = [
        {
            "sigma": sigma,
            "accuracy": bootstrap_mean(level["right"]).as_dict(),
            "calibration_error": float(level["calibration_error"][0]),
            "calibration_gap": bootstrap_mean(level["gap"]).as_dict(),
            "bound": bootstrap_mean(level["bound"]).as_dict(),
        }
        for sigma, level in zip(MEASURED, found, strict=True)
    ]
    bounds = np.stack([level["bound"] for level in found])
    crossing = bound_crossing(MEASURED, bounds, chance_level(classifier.num_classes))
    return {"images": len(data), "draws": draws, "levels": rows, "t_s": crossing.as_dict()}


def _estimate(found: dict[str, float], digits: int = 3) -> str:
    """A recorded estimate as it stands in a table."""
    one = Estimate(**found)
    return f"{one.value:.{digits}f} [{one.low:.{digits}f}, {one.high:.{digits}f}]"


OPTIMISERS = {"adam": "AdamW", "muon": "Muon on the inner weights, AdamW on the rest"}


def write_noise_classifier_card(folder: Path, dataset: str) -> None:
    """Write the README.md of a noise classifier's checkpoint from its recorded training."""
    training = read_json(folder / "config.json")["uturn"]["training"]
    recipe, found, data = training["recipe"], training["held_out"], load_data(dataset, "train")
    classifier = load_noise_classifier(folder, "cpu")
    network = classifier.network
    mirror = (
        " and logits averaged over an image and its mirror image" if classifier.mirrored else ""
    )
    parameters = sum(p.numel() for p in network.parameters())
    rows = "\n".join(
        f"| {row['sigma']:g} | {_estimate(row['accuracy'])} | {row['calibration_error']:.3f} "
        f"| {_estimate(row['calibration_gap'])} | {_estimate(row['bound'])} |"
        for row in found["levels"]
    )
    below = recipe.get("augment_below")
    only = "" if below is None else f" (where sigma is below {below:g})"
    clean = found["levels"][0]["accuracy"]["value"]
    text = f"""# A classifier of noisy {dataset} images

p(class | x, sigma) for x = x_0 + sigma eps: a residual network of {parameters / 1e6:.2f} million parameters, told the noise level, with a temperature for each level{mirror}. From it follows a lower bound of the class retention of the ideal U-Turn, without any sampling.

```python
from uturn_lib import load_noise_classifier

classifier = load_noise_classifier("{folder.name}")
probabilities = classifier(x, 1.0)  # (B, {network.num_classes})
```

## How it was made

`make train PROFILE={profile_of(dataset).name} PART=noise-classifier`, recipe in `config.json` under `uturn.training`.

| | |
|---|---|
| data | {data.source}; the {len(data):,} training images (fingerprint {data.fingerprint[:16]}) |
| licence of the data | {data.licence} |
| seed | {recipe["seed"]} |
| images seen | **{training["images_seen"]:,}** in batches of {recipe["batch"]}; {CHANGES[recipe["augmentation"]]}{only} |
| noise levels | {recipe["uniform_share"]:.0%} with ln sigma uniform over 0.05 to 80, the rest ln sigma ~ N({recipe["log_sigma_mean"]:.2f}, {recipe["log_sigma_std"]:g}^2) |
| optimiser | {OPTIMISERS[recipe["optimizer"]]}, rate {recipe["learning_rate"]:g}, linear to zero over the last {training["decay_images"]:,} images; average of the weights with half-life {recipe["halflife"]:,} images, which is what is shipped |
| duration | {training["minutes"]:.0f} minutes on {training["machine"]}, torch {training["torch"]}; wall time, beside other work |

## What was measured

Temperatures were fitted on one half of the held-out images; below is the other half: {found["images"]:,} images with {found["draws"]} noise(s) each, intervals over images.

| sigma | accuracy | calibration error | sum q^2 - q_y | bound of class retention |
|---|---|---|---|---|
{rows}

* The bound is the mean of `2 q_y - sum_k q_k^2`, q the probabilities, y the true class. It is at most the class retention of the ideal U-Turn **whatever q is** (proof: `measures.class_bound.retention_bound`); a better classifier moves it up only.
* It falls through the level of T_s at sigma = {_estimate(found["t_s"], 2)}: T_s of the data is not below that, up to the interval.
* Calibration error: of the most likely class, 15 bins of equal counts; biased upwards by chance. The column after it is 0 for a calibrated classifier; above 0 it is too sure of itself.

## Limits

A low bound may mean a weak classifier: at sigma = {found["levels"][0]["sigma"]:g} it gets {clean:.1%} right, and what it lacks there is lacking in the bound. Nothing is said about the ideal U-Turn from above. Below sigma = 0.05 the network is told 0.05. The bound is of the law of the held-out images; on images of another kind, on outputs of a network for instance, neither bound nor calibration is known. Those images are few: the temperatures carry their chance.

Weights: {(folder / "model.safetensors").stat().st_size / 1e6:.2f} MB, SHA-256 {sha256(folder / "model.safetensors")}; Apache-2.0, the terms of the data apply.
"""  # noqa: E501  rows of tables stay whole
    results = {"accuracy": (f"accuracy at sigma {found['levels'][0]['sigma']:g}", round(clean, 4))}
    title = f"noise classifier, {dataset}"
    write_card(folder, header(dataset, CLASSIFIER_TASK, results, title), text)
