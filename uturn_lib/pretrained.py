"""Networks that others have trained, behind our denoiser interface: the EDM files of NVIDIA, and diffusers folders or hub repositories.

``load_denoiser`` finds its way here by itself. ``python -m uturn_lib.pretrained convert FILE.pkl FOLDER`` writes an EDM file as safetensors and JSON, which
opens faster and can hold no code; ``fetch NAME`` only downloads.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from .cache import remember
from .data.downloads import fetch, offline_file
from .edm import KINDS, TRAINING_ONLY, Preconditioned, check_arguments, separable_filter
from .networks import WEIGHTS, checkpoint_fingerprint, freeze, load_weights, read_checkpoint
from .pickles import DAMAGED, UnsafePickle, constructor_arguments, network_of, read_pickle, state_of
from .support.files import atomic_path, read_json, sha256, write_json

EDM_HOME = "https://nvlabs-fi-cdn.nvidia.com/edm/pretrained/"
EDM_LICENCE = "CC BY-NC-SA 4.0"
POSITIONAL = ("img_resolution", "img_channels", "label_dim")  # what the EDM code could pass without a name


@dataclass(frozen=True)
class Published:
    """A published checkpoint: what it is, the number of its parameters (millions, counted from the architecture; 55.7 and 296 are published) and its size on disk."""

    what: str
    millions: float
    folder: str = ""

    @property
    def megabytes(self) -> float:
        """Size of the weights in float32, as they are stored."""
        return 4 * self.millions


PUBLISHED = {
    "edm-cifar10-32x32-uncond-vp.pkl": Published("CIFAR-10, DDPM++, unconditional", 55.7),
    "edm-cifar10-32x32-cond-vp.pkl": Published("CIFAR-10, DDPM++, class-conditional", 55.7),
    "edm-cifar10-32x32-uncond-ve.pkl": Published("CIFAR-10, NCSN++, unconditional", 56.4),
    "edm-cifar10-32x32-cond-ve.pkl": Published("CIFAR-10, NCSN++, class-conditional", 56.4),
    "edm-ffhq-64x64-uncond-vp.pkl": Published("FFHQ-64, DDPM++", 61.8),
    "edm-ffhq-64x64-uncond-ve.pkl": Published("FFHQ-64, NCSN++", 62.8),
    "edm-afhqv2-64x64-uncond-vp.pkl": Published("AFHQv2-64, DDPM++", 61.8),
    "edm-afhqv2-64x64-uncond-ve.pkl": Published("AFHQv2-64, NCSN++", 62.8),
    "edm-imagenet-64x64-cond-adm.pkl": Published("ImageNet-64, ADM, class-conditional", 295.9),
    "baseline-cifar10-32x32-uncond-vp.pkl": Published("CIFAR-10, Song et al.'s VP network, unconditional", 61.8, "baseline/"),
    "baseline-cifar10-32x32-uncond-ve.pkl": Published("CIFAR-10, Song et al.'s VE network, unconditional", 62.8, "baseline/"),
}  # fmt: skip


def find_edm_file(name_or_path: str | Path, download: bool = True) -> Path:
    """The EDM file at a path, under ``$UTURN_DATA/edm/``, or downloaded from NVIDIA's server by its published name.

    NVIDIA publishes no hashes: the SHA-256 of the first download is recorded, later ones are compared with it (``downloads.fetch``).
    Raises ``FileNotFoundError`` for a name that is not known, ``RuntimeError`` saying where to put the file when it cannot be fetched.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    known = PUBLISHED.get(str(name_or_path))
    if known is None:
        raise FileNotFoundError(
            f"no checkpoint {str(name_or_path)!r}: there is no such file, and the published ones are {', '.join(PUBLISHED)}"
        )
    here = offline_file("edm", path.name)
    if here is not None:
        return here
    if not download:
        raise FileNotFoundError(f"{path.name} is neither in $UTURN_DATA/edm/ nor downloaded")
    url = f"{EDM_HOME}{known.folder}{path.name}"
    remedy = (
        f"Offline: get {path.name} ({known.megabytes:.0f} MB, {EDM_LICENCE}) from there by other means and put it into "
        "$UTURN_DATA/edm/, or give its path"
    )
    return fetch(url, remedy=remedy)


def open_edm(path: Path) -> tuple[Preconditioned, dict[str, Any]]:
    """The network in an EDM pickle, on the CPU, and its configuration (JSON types). Nothing in the file is run (``pickles``).

    The module is built without memory of its own and takes over the tensors of the file. Raises ``ValueError`` for a class we do not know.
    """
    content = read_pickle(path)
    with _sound(path):
        record = network_of(content)
        kind = record.class_name.removesuffix("Precond")
        if not record.class_name.endswith("Precond") or kind not in KINDS:
            known = ", ".join(f"{name}Precond" for name in KINDS)
            raise ValueError(f"it holds a {record.class_name[:80]}; known are {known}")
        section = {
            "architecture": "Preconditioned",
            "kind": kind,
            "arguments": check_arguments(constructor_arguments(record, POSITIONAL)),
        }
        state = {name.removeprefix("model."): value for name, value in state_of(record).items()}
        return _assemble(section, state, path), section | {"source": {"file": path.name, "sha256": sha256(path)}}


@contextmanager
def _sound(path: Path) -> Iterator[None]:
    """Whatever an unsound file provokes becomes a ``ValueError`` that names it."""
    try:
        yield
    except UnsafePickle as error:
        raise UnsafePickle(f"{path.name} is refused: {error}") from error
    except DAMAGED as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ValueError(f"{path.name} describes no network that can be used here: {kind}{error}") from error


def _assemble(section: dict[str, Any], state: dict[str, Tensor], path: Path) -> Preconditioned:
    with torch.device("meta"):
        denoiser = Preconditioned(section["kind"], section["arguments"])
    _check_filters(state, section["arguments"].get("resample_filter", (1, 1)))
    state = {name: _usable(name, value) for name, value in state.items()}
    load_weights(denoiser.unet, state, path, assign=True)
    denoiser.fingerprint = _content_fingerprint(section, state)
    return denoiser


def _usable(name: str, value: Tensor) -> Tensor:
    if value.dtype not in (torch.float16, torch.float32, torch.float64):
        raise ValueError(f"{name} has dtype {value.dtype}; floating point weights are needed")
    if not torch.isfinite(value).all():
        raise ValueError(f"{name} has values that are not finite")
    return value.float()


def _content_fingerprint(section: dict[str, Any], state: dict[str, Tensor]) -> str:
    """SHA-256 of all that decides the function: kind, arguments and every tensor. The same for a pickle and what was converted from it."""
    decisive = {key: value for key, value in section["arguments"].items() if key not in TRAINING_ONLY}
    digest = hashlib.sha256(json.dumps([section["kind"], decisive], sort_keys=True).encode())
    for name in sorted(state):
        digest.update(f"{name}{tuple(state[name].shape)}".encode())
        digest.update(state[name].contiguous().numpy())
    return f"edm {digest.hexdigest()}"


def _check_filters(state: dict[str, Tensor], taps: Any) -> None:
    """The halving of the box filter is done without looking at its numbers: they must be what they are called."""
    expected = separable_filter(taps)
    for name, value in state.items():
        if not name.endswith("resample_filter"):
            continue
        if value.shape != expected.shape or not torch.allclose(value.float(), expected, atol=1e-6):
            raise ValueError(f"{name} is not the filter {list(taps)} of its constructor")


def load_edm(name_or_path: str | Path, device: torch.device) -> Preconditioned:
    """The denoiser in an EDM file (by published name or path), in evaluation mode on ``device``."""
    denoiser, _ = open_edm(find_edm_file(name_or_path))
    return _settle(denoiser, device)


def _settle(denoiser: Preconditioned, device: torch.device) -> Preconditioned:
    """As ``networks.freeze``, but a CPU keeps the layout of the file: another one is not faster there and costs the memory of the weights again."""
    return freeze(denoiser, device) if device.type == "cuda" else denoiser.eval().requires_grad_(False)


def convert(source: str | Path, folder: str | Path) -> Path:
    """Write the EDM file ``source`` as config.json and safetensors into ``folder``, which ``load_denoiser`` opens; returns the folder.

    Numbers and names stay as they are. The licence of the weights goes with them.
    """
    folder = Path(folder)
    denoiser, section = open_edm(find_edm_file(source))
    with atomic_path(folder / WEIGHTS) as temporary:
        tensors = {name: value.contiguous() for name, value in denoiser.unet.state_dict().items()}
        save_file(tensors, str(temporary), metadata={"format": "pt"})
    section |= {"weights_sha256": sha256(folder / WEIGHTS), "fingerprint": denoiser.fingerprint, "licence": EDM_LICENCE}
    write_json(folder / "config.json", {"uturn": section})
    return folder


def load_converted(folder: Path, device: torch.device) -> Preconditioned:
    """The denoiser in a folder that :func:`convert` has written."""
    config, state = read_checkpoint(folder, WEIGHTS, "Preconditioned")
    with _sound(folder):
        denoiser = _assemble(config["uturn"], state, folder)
        if denoiser.fingerprint != config["uturn"].get("fingerprint"):
            raise ValueError(
                "config.json has been altered: weights and arguments do not have the fingerprint that it records"
            )
    return _settle(denoiser, device)


# ------------------------------------------------------------------------------------------------------- diffusers


def is_diffusers(folder: Path) -> bool:
    """Whether ``folder`` holds a diffusers pipeline or U-Net that is none of ours."""
    if (folder / "model_index.json").is_file() or (folder / "unet" / "config.json").is_file():
        return True
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    return isinstance(config, dict) and config.get("_class_name") == "UNet2DModel" and "uturn" not in config


def diffusers_parts(folder: Path) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """The folder of the U-Net, its configuration and that of the scheduler; both layouts of the hub are known (with sub-folders, without)."""
    unet = folder / "unet" if (folder / "unet" / "config.json").is_file() else folder
    scheduler = folder / "scheduler" / "scheduler_config.json"
    scheduler = scheduler if scheduler.is_file() else folder / "scheduler_config.json"
    for path in (unet / "config.json", scheduler):
        if not path.is_file():
            raise FileNotFoundError(f"checkpoint {folder} lacks {path.relative_to(folder)}")
        if not isinstance(read_json(path), dict):
            raise ValueError(f"{path} is not a configuration")
    return unet, read_json(unet / "config.json"), read_json(scheduler)


def _weights_file(folder: Path) -> Path:
    parts = sorted(path.name for path in folder.glob("*.index.json"))
    if parts:  # diffusers would prefer them to a single file beside them
        raise ValueError(f"checkpoint {folder} has its weights in several parts ({parts[0]}); one file is needed")
    for name in (WEIGHTS, "diffusion_pytorch_model.bin"):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"checkpoint {folder} lacks {WEIGHTS}")


def diffusers_fingerprint(folder: Path) -> str:
    """SHA-256 of the weights and both configurations: the network itself is not built."""
    unet, model, scheduler = diffusers_parts(folder)
    text = json.dumps([sha256(_weights_file(unet)), model, scheduler], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def load_diffusers(folder: Path, device: torch.device):
    """A ``UNet2DModel`` with a DDPM-type scheduler as a denoiser in sigma (``discrete.DiscreteDenoiser``)."""
    from diffusers import UNet2DModel

    from .discrete import DiscreteDenoiser, alphas_cumprod

    unet_folder, model, scheduler = diffusers_parts(folder)
    if model.get("_class_name", "UNet2DModel") != "UNet2DModel":
        raise ValueError(f"{folder} holds a {model['_class_name']}; a UNet2DModel is needed")
    alphas, prediction = alphas_cumprod(scheduler), scheduler.get("prediction_type", "epsilon")
    weights = _weights_file(unet_folder)
    try:  # diffusers renames the parameters of old files; torch opens .bin files as bare weights only
        unet = UNet2DModel.from_pretrained(
            str(unet_folder),
            use_safetensors=weights.suffix == ".safetensors",
            low_cpu_mem_usage=False,
            local_files_only=True,
        )
    except Exception as error:  # diffusers raises many kinds; each means that the weights are not what config.json says
        raise ValueError(
            f"{weights} cannot be loaded as its config.json describes ({type(error).__name__}: {error})"
        ) from error
    with _sound(folder):
        denoiser = DiscreteDenoiser(unet, alphas, prediction)
    denoiser.fingerprint = diffusers_fingerprint(folder)
    return freeze(denoiser, device)


# -------------------------------------------------------------------------------------------------------- dispatch


def load_foreign(name_or_path: str | Path, folder: Path | None, device: torch.device):
    """The denoiser in an EDM file (``folder`` None) or in ``folder``; None when the checkpoint is one of ours."""
    if folder is None:
        return load_edm(name_or_path, device)
    if is_diffusers(folder):
        return load_diffusers(folder, device)
    section = _section(folder)
    return load_converted(folder, device) if section.get("architecture") == "Preconditioned" else None


def foreign_fingerprint(name_or_path: str | Path, folder: Path | None) -> str:
    """What the fingerprint of :func:`load_foreign`'s denoiser will be, without building it."""
    if folder is None:
        return _edm_fingerprint(find_edm_file(name_or_path))
    if is_diffusers(folder):
        return diffusers_fingerprint(folder)
    section = _section(folder)
    if section.get("architecture") == "Preconditioned":
        return str(section.get("fingerprint"))  # compared with the content when it is loaded
    return checkpoint_fingerprint(read_json(folder / "config.json"))


def _edm_fingerprint(path: Path) -> str:
    """The fingerprint of an EDM file, remembered by the SHA-256 of the file: opening it takes seconds."""

    def compute() -> dict[str, np.ndarray]:
        return {"fingerprint": np.array(open_edm(path)[0].fingerprint)}

    return str(remember("edm_fingerprint", {"file": sha256(path)}, compute)["fingerprint"])


def _section(folder: Path) -> dict[str, Any]:
    config = read_json(folder / "config.json")
    section = config.get("uturn") if isinstance(config, dict) else None
    if not isinstance(section, dict):
        raise ValueError(f"{folder}/config.json describes no model of ours and no diffusers U-Net")
    return section


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m uturn_lib.pretrained", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("fetch", help="download a published EDM file")
    one.add_argument("name", help=", ".join(PUBLISHED))
    two = commands.add_parser("convert", help="write an EDM file as safetensors and JSON")
    two.add_argument("source", help="a path, or a published name")
    two.add_argument("folder")
    options = parser.parse_args(arguments)
    try:
        done = find_edm_file(options.name) if options.command == "fetch" else convert(options.source, options.folder)
        print(done)
    except (ValueError, FileNotFoundError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
