"""Profiles: data, network and scale of a run, by name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .support import checks


@dataclass(frozen=True)
class Profile:
    """Data, network and scale; see the comments of the fields."""

    name: str
    dataset: str
    checkpoint: str
    classifier: str
    sigmas: tuple[float, ...]  # of the sweeps
    quality_sigmas: tuple[float, ...]  # a subset: sets without ground truths are generated as well
    repeat_sigmas: tuple[float, ...]  # of the repeated U-Turns
    ground_truths: int  # held-out images in a sweep
    steps: int  # reverse steps from sigma_max; shorter legs take proportionally fewer
    # Of the deterministic sampler, which makes two network calls per step.
    ode_steps: int = 24
    ode_ground_truths: int = 100
    # Statistics of single ground truths: so many of them, so many U-Turns of each.
    repeated: int = 20
    repeats: int = 16
    # U-Turns with the local score, which reads all training images at every step (Figure 13): of so
    # many training and as many held-out images, at a subset of `repeat_sigmas`.
    local_ground_truths: int = 20
    local_sigmas: tuple[float, ...] = (0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
    # Images for the affine regressions.
    affinity_fit: int = 2000
    affinity_held_out: int = 500
    # Gaussianity tests: images per test (the authors' 256), independent sets, steps.
    ks_samples: int = 256
    ks_sets: int = 4
    ks_steps: int = 32
    sigma_max: float = 80.0
    # Companions: Euler steps of a deterministic generation (20: Chen et al.), generations per
    # skipped part of the U-Net, and generations for shapes of trajectories and solver errors.
    flow_steps: int = 20
    ablated: int = 24
    paths: int = 64
    chunk: int = 80  # samples per cached result
    batch_size: int = 80
    shown: int = 10  # rows of an image grid
    # Features of the quality distances: "classifier" or a name of features.imagenet_extractor;
    # number of training images in the reference set and of leading components (None: all).
    # A few hundred images in a thousand dimensions give nothing but bias.
    features: str = "classifier"
    feature_reference: int | None = None
    feature_components: int | None = None
    noun: str = "image"  # name of an image in captions
    # Figure 16: its data set, and a network for it.
    second: str = "digits"
    second_ground_truths: int = 200
    second_steps: int = 64
    second_checkpoint: str | None = None
    # How the network can be called: with and without labels ("both"), only with them ("always":
    # no null label in training), or only without ("never": no classes). See `why_not`.
    labels: str = "both"
    noise_classifier: str | None = None  # checkpoint for p(class | x, sigma); None: there is none
    description: str = ""
    on_cpu: Mapping[str, Any] = field(default_factory=dict)  # replaced where there is no GPU

    def on(self, device: str) -> Profile:
        """The profile at the scale of ``device``, "cuda" or "cpu"; the figures of a CPU run say so.

        ``$UTURN_SCALE`` = "smoke" shrinks it to the minimum, to check files, networks and machine
        in minutes. The numbers of such a run mean nothing.
        """
        scale = os.environ.get("UTURN_SCALE") or "full"
        checks.one_of("UTURN_SCALE", scale, ("full", "smoke"))
        chosen = replace(self, **self.on_cpu, on_cpu={}) if device == "cpu" else self
        return replace(chosen, **SMOKE) if scale == "smoke" else chosen

    @property
    def turns(self) -> str:
        """How captions call the U-Turns that T_m and T_s are read from."""
        return (
            "with labels (this network knows no others)"
            if self.labels == "always"
            else "without labels (Figure 9)"
        )

    def shows(self, figure: str) -> bool:
        """Whether ``figure`` ("fig08", "p3a") can be made: :meth:`why_not` has no answer."""
        return self.why_not(figure) is None

    def why_not(self, figure: str) -> str | None:
        """What the profile's network lacks for ``figure``, in words; None if nothing.

        Class-conditional figures need classes, those of the single score and the companions a score
        without labels, p2 a diffusers ``UNet2DModel``, b3 the digits (``training.memory``).
        """
        if self.labels == "never" and figure in CLASS_CONDITIONAL:
            return "no classes"
        if self.labels == "always" and (figure in SINGLE_SCORE or not figure.startswith("fig")):
            return "no score without labels"
        if figure == "b3" and self.dataset != "mnist":
            return "no siblings trained on parts of its images"
        if figure.startswith("p2") and self.checkpoint.endswith(".pkl"):
            return "no parts that could be switched off one by one (not a UNet2DModel)"
        return None

    def scale(self) -> str:
        """The scale in words, to be printed with a run."""
        return (
            f"{self.ground_truths:,} ground truths at {len(self.sigmas)} levels, {self.steps} "
            f"reverse steps; {self.repeated} x {self.repeats} repeats at "
            f"{len(self.repeat_sigmas)} levels; {self.ks_sets} x {self.ks_samples} generations of "
            f"{self.ks_steps} steps; "
            f"{self.ode_ground_truths:,} by the ODE, {self.ode_steps} steps; quality against "
            f"{'all' if self.feature_reference is None else f'{self.feature_reference:,}'} "
            "training images; "
            f"companions: {self.flow_steps} Euler steps, {self.ablated} images for each part "
            f"switched off, {self.paths} trajectories"
        )


CLASS_CONDITIONAL = ("fig02", "fig03", "fig05", "fig06", "fig07", "fig08", "b7")
SINGLE_SCORE = ("fig09", "fig10", "fig11", "fig12", "fig13", "fig14", "fig15")

# Factors of about 1.4 where the transitions are, wider outside; the same for all data, so that
# curves can be laid over each other.
LEVELS = (0.1, 0.2, 0.4, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0, 14.0, 30.0, 80.0)
QUALITY_LEVELS = (1.0, 2.0, 4.0, 8.0, 14.0, 30.0, 80.0)
FEW_QUALITY_LEVELS = (1.0, 2.0, 4.0, 8.0, 80.0)  # on a CPU
REPEAT_LEVELS = (0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0, 14.0)

PROFILES = {
    "laptop": Profile(
        name="laptop",
        dataset="mnist",
        checkpoint="mnist",
        classifier="mnist-classifier",
        noise_classifier="mnist-noise-classifier",
        sigmas=LEVELS,
        quality_sigmas=FEW_QUALITY_LEVELS,
        repeat_sigmas=REPEAT_LEVELS,
        ground_truths=200,
        steps=16,
        ode_steps=16,
        ode_ground_truths=60,
        affinity_fit=800,
        affinity_held_out=250,
        ks_steps=12,
        ablated=10,
        paths=48,
        noun="digit",
        second="faces",
        second_ground_truths=100,
        description="5,000 MNIST digits, a network of 2 million parameters: "
        "minutes on a laptop's CPU",
    ),
    "cifar10": Profile(
        name="cifar10",
        dataset="cifar10",
        checkpoint="cifar10",
        classifier="cifar10-classifier",
        noise_classifier="cifar10-noise-classifier",
        sigmas=LEVELS,
        quality_sigmas=QUALITY_LEVELS,
        repeat_sigmas=(0.2, 0.4, *REPEAT_LEVELS),
        ground_truths=5000,
        steps=128,
        ode_steps=64,
        ode_ground_truths=1000,
        repeated=100,
        repeats=64,
        local_ground_truths=200,
        affinity_fit=20_000,
        affinity_held_out=2000,
        ks_sets=8,
        ks_steps=256,
        ablated=100,
        paths=1000,
        chunk=1000,
        batch_size=1000,
        features="imagenet",
        second="cifar10",
        second_ground_truths=400,
        description=(
            "CIFAR-10 as in the paper; thousands of samples per point on a GPU, a smaller scale "
            "on a CPU"
        ),
        on_cpu={
            "quality_sigmas": FEW_QUALITY_LEVELS,
            "ground_truths": 160,
            "steps": 16,
            "ode_steps": 16,
            "ode_ground_truths": 60,
            "repeated": 20,
            "repeats": 16,
            "local_ground_truths": 16,
            "affinity_fit": 1500,
            "affinity_held_out": 300,
            "ks_sets": 3,
            "ks_steps": 16,
            "ablated": 10,
            "paths": 48,
            "chunk": 80,
            "batch_size": 80,
            "feature_reference": 5000,
            "feature_components": 64,
            "second_ground_truths": 40,
            "second_steps": 24,
        },
    ),
}

# Figures 1 to 8 of the paper have a class-conditional network, 9 to 15 a single score of all
# classes.
PROFILES["imagenet64"] = replace(
    PROFILES["cifar10"],
    name="imagenet64",
    dataset="imagenet64",
    checkpoint="edm-imagenet-64x64-cond-adm.pkl",
    classifier="efficientnet-lite0",
    noise_classifier=None,
    labels="always",
    repeat_sigmas=REPEAT_LEVELS,
    ground_truths=2000,
    ode_steps=128,
    chunk=500,
    batch_size=250,
    second="ffhq64",
    second_checkpoint="edm-ffhq-64x64-uncond-vp.pkl",
    description="ImageNet at 64 x 64, NVIDIA's class-conditional EDM network: a GPU's work",
    on_cpu={**PROFILES["cifar10"].on_cpu, "batch_size": 20, "chunk": 20},
)
PROFILES["cifar10-edm"] = replace(
    PROFILES["cifar10"],
    name="cifar10-edm",
    checkpoint="edm-cifar10-32x32-uncond-vp.pkl",
    labels="never",
    description="CIFAR-10, NVIDIA's unconditional EDM network: a GPU's work",
    on_cpu={**PROFILES["cifar10"].on_cpu, "batch_size": 40, "chunk": 40},
    steps=256,
    ode_steps=128,
)

SMOKE: dict[str, Any] = dict(
    ground_truths=40,
    steps=24,
    ode_steps=8,
    ode_ground_truths=10,
    repeated=4,
    repeats=16,
    local_ground_truths=2,
    affinity_fit=120,
    affinity_held_out=40,
    ks_samples=32,
    ks_sets=2,
    ks_steps=8,
    flow_steps=8,
    ablated=8,
    paths=8,
    chunk=20,
    batch_size=20,
    shown=6,
    feature_reference=100,
    feature_components=8,
    second_ground_truths=10,
    second_steps=8,
)


@dataclass(frozen=True)
class Composite:
    """Profiles whose figures share a folder: ``parts`` maps a figure or study to its profile."""

    parts: Mapping[str, str]
    description: str


_PAPER = {
    f"fig{number:02d}": "imagenet64" if number <= 8 or number == 16 else "cifar10-edm"
    for number in range(1, 17)
}
_PAPER |= {study: "cifar10-edm" for study in ("p2", "p3", "p4", *(f"b{n}" for n in range(1, 10)))}
COMPOSITES = {
    "paper": Composite(
        _PAPER,
        "the paper's own networks: ImageNet-64 (EDM, class-conditional) in Figures 1 to 8, "
        "CIFAR-10 (EDM) in 9 to 15 and in the companion studies, FFHQ-64 (EDM) in 16",
    )
}


def load_profile(name: str) -> Profile:
    """The profile ``name``, or a part of a composite ("paper/imagenet64").

    Raises ``ValueError`` with the known names.
    """
    if not isinstance(name, str):
        checks.one_of("profile", name, PROFILES)  # no name is anything else
    group, _, part = name.rpartition("/")
    if group in COMPOSITES and part in COMPOSITES[group].parts.values():
        return replace(PROFILES[part], name=name)
    if name in COMPOSITES:
        known = ", ".join(
            f"{name}/{part}" for part in dict.fromkeys(COMPOSITES[name].parts.values())
        )
        raise ValueError(
            f"profile = {name!r} is made of several; a single notebook needs one of {known}"
        )
    checks.one_of("profile", name, PROFILES)
    return PROFILES[name]


def check_profile(name: str) -> None:
    """Raise ``ValueError`` unless ``name`` is a profile, a composite or a part of one."""
    if name not in COMPOSITES:
        load_profile(name)


def profile_of(name: str, figure: str) -> str:
    """The profile that computes ``figure`` ("fig08") in the profile or composite ``name``."""
    if name in COMPOSITES:
        parts = COMPOSITES[name].parts
        found = parts.get(figure) or parts.get(figure[:2])
        if found is None:
            raise ValueError(
                f"figure = {figure!r} is not known to profile {name}; allowed: {', '.join(parts)}"
            )
        return f"{name}/{found}"
    return load_profile(name).name


def describe(name: str) -> str:
    """Data and scale of a profile, of a composite, or of the composite that it is a part of."""
    group = name.partition("/")[0]
    return COMPOSITES[group].description if group in COMPOSITES else load_profile(name).description
