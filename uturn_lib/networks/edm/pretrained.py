"""The networks that NVIDIA publishes as pickles (Karras et al. 2022): find, fetch, open, convert.

``load_denoiser`` opens them. ``uturn fetch NAME`` only downloads. ``uturn convert FILE.pkl FOLDER``
writes safetensors and JSON, which open faster and can hold no code.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ...data.downloads import fetch, offline_file
from ...support.files import atomic_path, sha256, write_json, write_text
from ...support.places import cache_folder
from ..base import freeze
from ..checkpoints import WEIGHTS, load_weights, read_checkpoint, sound
from .architectures import KINDS, TRAINING_ONLY, Preconditioned, check_arguments, separable_filter
from .pickles import constructor_arguments, network_of, read_pickle, state_of

EDM_HOME = "https://nvlabs-fi-cdn.nvidia.com/edm/pretrained/"
EDM_LICENCE = "CC BY-NC-SA 4.0"
# positional in the EDM code
POSITIONAL = ("img_resolution", "img_channels", "label_dim")


@dataclass(frozen=True)
class Published:
    """A published checkpoint: description, millions of parameters, file size.

    Parameters are counted from the architecture; 55.7 and 296 are published.
    """

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
    "baseline-cifar10-32x32-uncond-vp.pkl": Published(
        "CIFAR-10, Song et al.'s VP network, unconditional", 61.8, "baseline/"
    ),
    "baseline-cifar10-32x32-uncond-ve.pkl": Published(
        "CIFAR-10, Song et al.'s VE network, unconditional", 62.8, "baseline/"
    ),
}


def find_edm_file(name_or_path: str | Path, download: bool = True) -> Path:
    """The EDM file at a path, under ``$UTURN_DATA/edm/``, or downloaded from NVIDIA's server by its
    published name.

    NVIDIA publishes no hashes: the SHA-256 of the first download is recorded, later ones are
    compared with it (``downloads.fetch``). Raises ``FileNotFoundError`` for a name that is not
    known, ``RuntimeError`` saying where to put the file when it cannot be fetched.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    known = PUBLISHED.get(str(name_or_path))
    if known is None:
        raise FileNotFoundError(
            f"no checkpoint {str(name_or_path)!r}: there is no such file, and the published ones "
            f"are {', '.join(PUBLISHED)}"
        )
    here = offline_file("edm", path.name)
    if here is not None:
        return here
    if not download:
        raise FileNotFoundError(f"{path.name} is neither in $UTURN_DATA/edm/ nor downloaded")
    url = f"{EDM_HOME}{known.folder}{path.name}"
    remedy = (
        f"Offline: get {path.name} ({known.megabytes:.0f} MB, {EDM_LICENCE}) from there by other "
        "means and put it into "
        "$UTURN_DATA/edm/, or give its path"
    )
    return fetch(url, remedy=remedy)


def open_edm(path: Path) -> tuple[Preconditioned, dict[str, Any]]:
    """The network in an EDM pickle, on the CPU, and its configuration (JSON types). Nothing in the
    file is run (``pickles``).

    The module is built without memory of its own and takes over the tensors of the file. Raises
    ``ValueError`` for a class we do not know.
    """
    content = read_pickle(path)
    with sound(path):
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
        return _assemble(section, state, path), section | {
            "source": {"file": path.name, "sha256": sha256(path)}
        }


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
    """SHA-256 of kind, arguments and tensors: equal for a pickle and its conversion."""
    decisive = {
        key: value for key, value in section["arguments"].items() if key not in TRAINING_ONLY
    }
    digest = hashlib.sha256(json.dumps([section["kind"], decisive], sort_keys=True).encode())
    for name in sorted(state):
        digest.update(f"{name}{tuple(state[name].shape)}".encode())
        digest.update(state[name].contiguous().numpy().data)
    return f"edm {digest.hexdigest()}"


def _check_filters(state: dict[str, Tensor], taps: Any) -> None:
    """Raise unless the file's filters are those of its constructor: halving does not read them."""
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
    """As ``base.freeze``, but a CPU keeps the file's memory layout: no gain there, twice the
    memory."""
    return (
        freeze(denoiser, device) if device.type == "cuda" else denoiser.eval().requires_grad_(False)
    )


def convert(source: str | Path, folder: str | Path) -> Path:
    """Write the EDM file ``source`` as config.json and safetensors into ``folder``, which
    ``load_denoiser`` opens; returns the folder.

    Numbers and names stay as they are. The licence of the weights goes with them.
    """
    folder = Path(folder)
    denoiser, section = open_edm(find_edm_file(source))
    with atomic_path(folder / WEIGHTS) as temporary:
        tensors = {name: value.contiguous() for name, value in denoiser.unet.state_dict().items()}
        save_file(tensors, str(temporary), metadata={"format": "pt"})
    section |= {
        "weights_sha256": sha256(folder / WEIGHTS),
        "fingerprint": denoiser.fingerprint,
        "licence": EDM_LICENCE,
    }
    write_json(folder / "config.json", {"uturn": section})
    return folder


def load_converted(folder: Path, device: torch.device) -> Preconditioned:
    """The denoiser in a folder that :func:`convert` has written."""
    config, state = read_checkpoint(folder, WEIGHTS, "Preconditioned")
    with sound(folder):
        denoiser = _assemble(config["uturn"], state, folder)
        if denoiser.fingerprint != config["uturn"].get("fingerprint"):
            raise ValueError(
                "config.json has been altered: weights and arguments do not have the fingerprint "
                "that it records"
            )
    return _settle(denoiser, device)


def edm_fingerprint(path: Path) -> str:
    """The fingerprint of an EDM file, cached by the SHA-256 of the file and of this code."""
    code = b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py")))
    kept = (
        cache_folder()
        / "edm_fingerprint"
        / f"{sha256(path)[:32]}-{hashlib.sha256(code).hexdigest()[:16]}.txt"
    )
    if not kept.is_file():
        write_text(kept, str(open_edm(path)[0].fingerprint))
    return kept.read_text(encoding="utf-8")
