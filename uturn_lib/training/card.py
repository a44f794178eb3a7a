"""Model cards: what a shipped network was made of and what was measured on it.

A card is a README.md with the YAML header of the Hugging Face Hub: licence, data, metrics.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..data.sets import load_data
from ..measures.quality import frechet_distance, kernel_distance
from ..networks.classifier import Classifier, load_classifier
from ..networks.features import NAMING, chosen_extractor, imagenet_extractor
from ..networks.unet import EDMDenoiser, load_trained
from ..profiles import PROFILES, Profile
from ..support.files import atomic_path, read_json, sha256
from ..uturn import artificial_start

SAMPLES = 1000
STEPS = 64
HUB = {"mnist": "ylecun/mnist", "cifar10": "uoft-cs/cifar10"}  # names of the data sets on the Hub
DENOISER_TASK, CLASSIFIER_TASK = "unconditional-image-generation", "image-classification"
TAGS = {
    DENOISER_TASK: ["diffusion", "denoiser", "edm", "u-turn-diffusion"],
    CLASSIFIER_TASK: ["image-classification", "u-turn-diffusion"],
}

AIMS = {
    "mnist": {
        "frechet": " (aim: at most 3 times the floor)",
        "class": " (aim: at least 95 %)",
        "speed": " (aim: at least 500)",
    }
}
CHANGES = {
    "jitter": "small rotations, scalings, shifts",
    "shift_and_mirror": "shifts of up to 3 pixels, mirror images",
}
LIMITS = {
    "mnist": "Trained on 4,500 digits on a CPU, for teaching and for tests of the method. "
    "It is no state-of-the-art generator.",
    "cifar10": "For comparison: the network of Karras et al. (2022) has 55.7 million parameters "
    "and saw 200 million images. How far free samples are from real images is in the table above; "
    "a U-Turn from a small noise level, where most of the image is given, is much better than a "
    "free sample. Statements about large sigma_u inherit the difference.",
}


def header(
    dataset: str, task: str, results: dict[str, tuple[str, float]], model_name: str
) -> ModelCardData:
    """The YAML header of a card; ``results`` maps a metric's type to its (name, value)."""
    hub = HUB.get(dataset, dataset)
    found = [
        EvalResult(task, hub, dataset, kind, value, metric_name=name)
        for kind, (name, value) in results.items()
    ]
    return ModelCardData(
        license="apache-2.0",
        library_name="uturn-lib",
        pipeline_tag=task,
        tags=TAGS[task],
        datasets=[hub],
        metrics=list(results),
        model_name=model_name,
        eval_results=found,
    )


def write_card(folder: Path, data: ModelCardData, text: str) -> None:
    """Write ``text`` under the header ``data`` as ``folder``/README.md, atomically."""
    with atomic_path(folder / "README.md") as temporary:
        ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}").save(temporary)


def calls_per_second(denoiser: EDMDenoiser, batch: int = 64, rounds: int = 9) -> float:
    """Images per second of one network call: the median of ``rounds`` timings."""
    device = next(denoiser.parameters()).device
    x, sigma = (
        torch.randn(batch, *denoiser.sample_shape, device=device),
        torch.ones(batch, device=device),
    )
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
    denoiser: EDMDenoiser,
    classifier: Classifier,
    dataset: str,
    samples: int = SAMPLES,
    steps: int = STEPS,
) -> dict[str, Any]:
    """Class accuracy, feature distances with their floor, speed; and samples for the grid."""
    train, test = load_data(dataset, "train"), load_data(dataset, "test")
    labels = torch.arange(samples) % len(train.class_names)
    sigma_max, device = denoiser.sigma_range[1], next(denoiser.parameters()).device
    conditional = artificial_start(
        denoiser, samples, sigma_max, steps=steps, labels=labels.to(device), seed=1
    ).y0.cpu()
    unconditional = artificial_start(denoiser, samples, sigma_max, steps=steps, seed=2).y0.cpu()
    extractor = chosen_extractor(profile_of(dataset).features)
    extract = (
        classifier.extract
        if extractor == "classifier"
        else imagenet_extractor(extractor, device).extract
    )
    held_out = extract(test.images)
    sets = {
        "unconditional": unconditional,
        "conditional": conditional,
        "floor": train.take(min(samples, len(train))).images,
    }
    found = {name: extract(images) for name, images in sets.items()}
    return {
        "samples": samples,
        "steps": steps,
        "class_accuracy": float((classifier.predict(conditional) == labels).double().mean()),
        "features": NAMING[extractor],
        "frechet": {name: frechet_distance(rows, held_out) for name, rows in found.items()},
        "kernel": {name: kernel_distance(rows, held_out) for name, rows in found.items()},
        "images_per_second": calls_per_second(denoiser),
        "threads": torch.get_num_threads(),
        "grid": torch.cat([conditional[:40], unconditional[:20]]),
    }


def draw_loss(log: list[dict[str, float]], path: Path) -> None:
    """Loss on held-out and training images, the same noise at every point."""
    from ..reports import plotting

    plotting.use_style()
    figure, axes = plotting.plt.subplots(figsize=(plotting.PAGE * 0.7, 2.8))
    seen = [row["images"] for row in log]
    axes.plot(
        seen,
        [row["held_out_loss"] for row in log],
        color=plotting.COLOURS["class_retention"],
        label="held-out images",
    )
    axes.plot(
        seen,
        [row["train_set_loss"] for row in log],
        color=plotting.COLOURS["u_turn"],
        linestyle="--",
        label="training images",
    )
    axes.set(xlabel="training images seen", ylabel="weighted denoising error")
    axes.legend()
    _save(figure, path)


def draw_samples(
    images: torch.Tensor, class_names: tuple[str, ...], path: Path, columns: int = 10
) -> None:
    """A grid of samples: one column per class, then two rows without labels."""
    from ..reports import plotting

    plotting.use_style()
    grid = images.reshape(-1, columns, *images.shape[1:])
    figure, axes = plotting.plt.subplots(
        figsize=(plotting.PAGE, 0.62 * len(grid) + 0.5), layout="constrained"
    )
    rows = ["label given"] + [""] * (len(grid) - 3) + ["no label", ""]
    plotting.image_grid(axes, grid, rows, list(class_names))
    axes.tick_params(labelsize=7)
    _save(figure, path)


def profile_of(dataset: str) -> Profile:
    """The profile whose network is trained on ``dataset``."""
    return next(profile for profile in PROFILES.values() if profile.dataset == dataset)


def _stage(stage: dict[str, Any]) -> str:
    """A stage of a recipe in words."""
    decay = stage.get("decay", "cosine")
    # Records of before there were several say True or False.
    decay = {True: "cosine", False: "none"}.get(decay, decay)
    length = "open-ended" if decay == "none" else f"{stage['images']:,} images"
    shape = "constant" if decay == "none" else f"{decay} to zero"
    rate = f"learning rate {stage['learning_rate']:g} ({shape})"
    return f"{length}, {rate}, label dropout {stage['label_dropout']:.0%}"


def _optimiser(recipe: dict[str, Any]) -> str:
    """The optimiser of a recipe in words."""
    name = {"adam": "Adam", "muon": "Muon on the inner weights, AdamW on the rest"}[
        recipe.get("optimizer", "adam")
    ]
    lives = recipe["ema_halflife"]
    if isinstance(lives, list):
        several = ", ".join(f"{images:,}" for images in lives)
        return (
            f"{name}, with warm-up; the best of averages of the weights "
            f"with half-lives {several} images"
        )
    return f"{name} with warm-up; average of the weights with half-life {lives:,} images"


def _save(figure: Any, path: Path) -> None:
    from ..reports import plotting

    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    plotting.plt.close(figure)


def write_denoiser_card(
    folder: Path,
    classifier_folder: Path,
    dataset: str,
    device: torch.device,
    samples: int | None = None,
) -> dict[str, Any]:
    """Measure the checkpoint in ``folder``; write README.md, loss curve and sample grid."""
    denoiser, data = load_trained(folder, device), load_data(dataset, "train")
    if samples is None:  # photographs on a CPU cost minutes per thousand
        samples = SAMPLES if len(data.images[0]) == 1 or device.type == "cuda" else SAMPLES // 2
    found = measure_denoiser(denoiser, load_classifier(classifier_folder, device), dataset, samples)
    training = read_json(folder / "config.json")["uturn"]["training"]
    recipe, last = training["recipe"], training["loss"][-1]
    draw_loss(training["loss"], folder / "loss.png")
    draw_samples(found["grid"], data.class_names, folder / "samples.png")
    parameters = sum(p.numel() for p in denoiser.parameters())
    error = (found["class_accuracy"] * (1 - found["class_accuracy"]) / found["samples"]) ** 0.5
    stages = "; ".join(map(_stage, recipe["stages"]))
    naming, frechet, kernel = found["features"], found["frechet"], found["kernel"]
    aims = AIMS.get(dataset, {})
    weights = folder / "diffusion_pytorch_model.safetensors"
    text = f"""# A denoiser of {dataset} images

A diffusers `UNet2DModel` ({parameters / 1e6:.2f} million parameters, pixels unshuffled by {denoiser.unshuffle}) under the preconditioning of
Karras et al. (2022), Table 1, with sigma_data = {denoiser.sigma_data}; images {tuple(denoiser.sample_shape)} in [-1, 1], noise levels up to
{denoiser.sigma_range[1]:g}. With labels it is class-conditional ({denoiser.num_classes} classes), without them unconditional (null class, from label
dropout).

```python
from uturn_lib import load_denoiser

denoiser = load_denoiser("{folder.name}")
```

![samples](samples.png)

## How it was made

`make train PROFILE={profile_of(dataset).name}` (`uturn train --profile {profile_of(dataset).name}`), recipe in `config.json` under `uturn.training`.

| | |
|---|---|
| data | {data.source}; the {len(data):,} training images (fingerprint {data.fingerprint[:16]}) |
| licence of the data | {data.licence} |
| seed | {recipe["seed"]} |
| images seen | **{training["images_seen"]:,}** in batches of {recipe["batch"]}{", half of them mirrored" if recipe.get("flips") else ""} |
| noise levels | ln sigma ~ N({recipe["log_sigma_mean"]}, {recipe["log_sigma_std"]}^2) |
| recipe | {stages} |
| optimiser | {_optimiser(recipe)} |
| duration | {training["minutes"]:.0f} minutes on {training["machine"]}, torch {training["torch"]}; wall time, beside other work |
| final loss | held-out images {last["held_out_loss"]:.4f}, training images {last["train_set_loss"]:.4f} (same noise levels and weights) |

![loss](loss.png)

## What was measured

{found["samples"]} samples each, time reversal ("sde"), {found["steps"]} steps from sigma = {denoiser.sigma_range[1]:g}; distances to the {len(load_data(dataset, "test")):,} held-out images in
{naming.phrase}.

| | no label | label given | floor: as many training images |
|---|---|---|---|
| {naming.frechet} | {frechet["unconditional"]:.2f}{aims.get("frechet", "")} | {frechet["conditional"]:.2f} | {frechet["floor"]:.2f} |
| {naming.kernel} | {kernel["unconditional"]:.4f} | {kernel["conditional"]:.4f} | {kernel["floor"]:.4f} |

* The classifier gives the wanted class to {found["class_accuracy"]:.1%} +- {error:.1%} of class-conditional samples{aims.get("class", "")}.
* {found["images_per_second"]:.0f} images per second of one call, batch 64, {found["threads"]} threads{aims.get("speed", "")}.
* The distances are single values without interval; the floor shows the bias of that sample size.

## Limits

{LIMITS.get(dataset, "It is no state-of-the-art generator.")} The gap between held-out and training loss says how far it has begun to memorise.

Weights: {weights.stat().st_size / 1e6:.1f} MB, SHA-256 {sha256(weights)}; Apache-2.0, the terms of the data apply.
"""  # noqa: E501  rows of tables stay whole
    results = {
        "accuracy": (
            "wanted class of class-conditional samples",
            round(found["class_accuracy"], 4),
        ),
        "frechet_distance": (
            f"{naming.frechet}, {naming.phrase}",
            round(frechet["unconditional"], 2),
        ),
        "kernel_distance": (f"{naming.kernel}, {naming.phrase}", round(kernel["unconditional"], 4)),
    }
    write_card(folder, header(dataset, DENOISER_TASK, results, f"U-Turn denoiser, {dataset}"), text)
    return found


def write_classifier_card(folder: Path, dataset: str) -> None:
    """Write the README.md of a classifier's checkpoint from its recorded training."""
    training = read_json(folder / "config.json")["uturn"]["training"]
    data = load_data(dataset, "train")
    right, count = training["held_out_correct"], training["held_out_count"]
    accuracy = right / count
    parameters = sum(p.numel() for p in load_classifier(folder, "cpu").parameters())
    text = f"""# A classifier of {dataset} images

A small convolutional network of {parameters / 1e6:.2f} million parameters: its decision gives class retention; for digits its penultimate layer gives the features of the quality distances.

```python
from uturn_lib import load_classifier

classifier = load_classifier("{folder.name}")
```

| | |
|---|---|
| data | {data.source}; the {len(data)} training images |
| licence of the data | {data.licence} |
| recipe | {training["epochs"]} epochs, batch {training["batch"]}, AdamW {training["learning_rate"]:g}, one cycle; {CHANGES[training.get("augmentation", "jitter")]}; seed {training["seed"]} |
| duration | {training["minutes"]} minutes, beside other work |
| held-out accuracy | {right} of {count}: {accuracy:.1%} +- {(accuracy * (1 - accuracy) / count) ** 0.5:.1%} |

Weights: SHA-256 {sha256(folder / "model.safetensors")}; Apache-2.0, the terms of the data apply.
"""  # noqa: E501  rows of tables stay whole
    results = {"accuracy": ("held-out accuracy", round(accuracy, 4))}
    write_card(folder, header(dataset, CLASSIFIER_TASK, results, f"classifier, {dataset}"), text)
