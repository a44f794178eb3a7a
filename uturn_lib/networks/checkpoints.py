"""Checkpoints that run no code: a folder with ``config.json`` (of diffusers, with our section
``uturn``), safetensors weights and a model card.

Here such folders are found, downloaded and verified; what is built from them is the matter of each
kind of network. Only JSON and tensors are ever read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..data.downloads import fetch, kept_folder
from ..support import checks
from ..support.files import DAMAGED, read_json, sha256
from ..support.places import CHECKPOINTS

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

WEIGHTS = "diffusion_pytorch_model.safetensors"
MOST_BLOCKS = 1000  # of a network; the published ones have less than 100
Module = TypeVar("Module", bound=nn.Module)

# What is fetched of a hub repository: no code, and no other parts of a pipeline.
HUB_FILES = (
    "README.md",
    "config.json",
    "model_index.json",
    "scheduler_config.json",
    "unet/config.json",
    "scheduler/scheduler_config.json",
)
HUB_WEIGHTS = ("diffusion_pytorch_model", "model", "unet/diffusion_pytorch_model")


def find_checkpoint(name_or_path: str | Path) -> Path:
    """The folder of a checkpoint; a hub id is downloaded (JSON, weights, card) or found in the
    cache."""
    text = str(name_or_path)
    for folder in (CHECKPOINTS / text, Path(text)):
        if any(
            (folder / name).is_file()
            for name in ("config.json", "model_index.json", "unet/config.json")
        ):
            return folder
    shipped = sorted(path.parent.name for path in CHECKPOINTS.glob("*/config.json"))
    allowed = (
        f"a shipped checkpoint ({', '.join(shipped) or 'none yet'}), a folder with config.json, a "
        "hub id owner/name, or an EDM file *.pkl"
    )
    if text.count("/") != 1 or text.startswith((".", "/")) or Path(text).exists():
        raise FileNotFoundError(f"no checkpoint {text!r}: allowed is {allowed}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(
            snapshot_download(
                text, allow_patterns=[*HUB_FILES, *(f"{name}.safetensors" for name in HUB_WEIGHTS)]
            )
        )
        if not any(folder.rglob("*.safetensors")):  # older repositories; opened as bare weights
            folder = Path(
                snapshot_download(
                    text, allow_patterns=[*HUB_FILES, *(f"{name}.bin" for name in HUB_WEIGHTS)]
                )
            )
        return folder
    # the hub raises a dozen kinds; each means that nothing could be fetched
    except Exception as error:
        offline = isinstance(error, LocalEntryNotFoundError)
        remedy = (
            f"; offline: get the files of {text} by other means into a folder and give its path"
            if offline
            else ""
        )
        raise FileNotFoundError(
            f"no checkpoint {text!r}: allowed is {allowed}; the hub answered: "
            f"{type(error).__name__}{remedy}"
        ) from error


def shipped_weights(name: str, weights: str, expected: str) -> Path:
    """Weights too large for the wheel, fetched once and checked against config.json's SHA-256.

    ``$UTURN_CHECKPOINTS_URL`` is the address of the repository's checkpoints/, or a folder. Raises
    ``FileNotFoundError`` without it, and as ``downloads.fetch``.
    """
    source = os.environ.get("UTURN_CHECKPOINTS_URL")
    remedy = (
        "Set UTURN_CHECKPOINTS_URL to the address of the repository's folder checkpoints/, or to "
        f"a folder that holds {name}/{weights}, "
        "or give the path of a whole checkpoint"
    )
    if not source:
        raise FileNotFoundError(
            f"the weights of {name!r} are too large for the installed package. {remedy}"
        )
    if Path(source).is_dir():
        return Path(source) / name / weights
    url = f"{source.rstrip('/')}/{name}/{weights}"
    return fetch(url, f"sha256:{expected}", kept_folder() / "checkpoints" / name, remedy)


def read_checkpoint(
    folder: Path, weights: str, architecture: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read config.json and the safetensors file of ``folder`` and verify them against each
    other."""
    config = read_json(folder / "config.json")
    section = config.get("uturn") if isinstance(config, dict) else None
    found = section.get("architecture") if isinstance(section, dict) else None
    if section is None or found != architecture:
        raise ValueError(
            f"{folder}/config.json describes {found or 'no model of ours'}, not the "
            f"{architecture} asked for"
        )
    path, expected = folder / weights, str(section.get("weights_sha256"))
    if not path.is_file() and folder.parent == CHECKPOINTS:
        path = shipped_weights(folder.name, weights, expected)
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {folder} lacks {weights}")
    actual = sha256(path)
    if actual != expected:
        raise ValueError(
            f"{path} is truncated or altered: its SHA-256 is {actual[:16]}..., config.json "
            f"records {expected[:16]}..."
        )
    try:
        return config, load_file(str(path))
    except Exception as error:  # SafetensorError, and what torch makes of a lying header
        raise ValueError(f"{path} is not a complete safetensors file: {error}") from error


def built(make: Callable[[], Module], blocks: int, weights: int) -> Module:
    """``make()``, the network of a configuration; errors as :func:`check_outline`."""
    check_outline(make, blocks, weights)
    return make()


def check_outline(make: Callable[[], Module], blocks: int, weights: int) -> None:
    """``ValueError`` for a configuration of absurdly many ``blocks``, or of more weights than their
    file can hold (``weights``): an outline without memory tells."""
    if checks.positive_int("number of blocks", blocks) > MOST_BLOCKS:
        raise ValueError(f"it asks for {blocks} blocks; at most {MOST_BLOCKS} are allowed")
    with torch.device("meta"):
        needed = sum(value.numel() for value in make().state_dict().values())
    if needed > weights:
        raise ValueError(
            f"the weights do not fit its config.json: {needed:,} are needed, at most {weights:,} "
            "are there"
        )


def weights_in(state: dict[str, Tensor]) -> int:
    """How many numbers ``state`` holds."""
    return sum(value.numel() for value in state.values())


def image_shape(section: dict[str, Any]) -> tuple[int, ...]:
    """(C, H, W) of our section of config.json; ``ValueError`` for anything else."""
    shape = section["sample_shape"]
    if not isinstance(shape, list) or len(shape) != 3:
        raise ValueError(f"sample_shape = {shape!r} must be three whole numbers")
    return tuple(checks.positive_int("sample_shape", size) for size in shape)


def load_weights(
    module: nn.Module, state: dict[str, Tensor], folder: Path, assign: bool = False
) -> None:
    """Copy ``state`` into ``module``, or with ``assign`` use its tensors; names and shapes must
    match."""
    try:
        module.load_state_dict(state, strict=True, assign=assign)
    except RuntimeError as error:
        raise ValueError(f"the weights in {folder} do not fit its config.json: {error}") from error


def checkpoint_fingerprint(config: dict[str, Any]) -> str:
    """SHA-256 of weights (by their own SHA-256), U-Net configuration and our section."""
    decisive = {
        key: value for key, value in config.items() if key not in ("uturn", "_diffusers_version")
    }
    decisive["uturn"] = {key: value for key, value in config["uturn"].items() if key != "training"}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


class UnsafeFile(ValueError):
    """The file asks for something that a network's weights do not need."""


@contextmanager
def sound(path: Path) -> Iterator[None]:
    """Turn any error from an unsound file into a ``ValueError`` that names it."""
    try:
        yield
    except UnsafeFile as error:
        raise UnsafeFile(f"{path.name} is refused: {error}") from error
    except DAMAGED as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ValueError(
            f"{path.name} describes no network that can be used here: {kind}{error}"
        ) from error
