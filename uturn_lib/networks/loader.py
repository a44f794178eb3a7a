"""Finds out what kind of network a name stands for, and loads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..support import checks
from ..support.files import read_json
from .base import NetworkDenoiser
from .checkpoints import checkpoint_fingerprint, find_checkpoint
from .diffusers_format import diffusers_fingerprint, is_diffusers, load_diffusers
from .unet import load_trained


def load_denoiser(
    name_or_path: str | Path, device: str | torch.device | None = None
) -> NetworkDenoiser:
    """Load a denoiser: a shipped checkpoint by name ("mnist"), a local folder, a hub id
    ("owner/name"), or an EDM file by path or published name ("edm-cifar10-32x32-uncond-vp.pkl").

    A folder or hub repository is one of ours, one that ``edm.pretrained.convert`` has written, or a
    diffusers ``UNet2DModel`` with its DDPM-type scheduler. Opening any of them runs no code from
    it. Returns the network in evaluation mode on ``device`` (default: cuda when present, else cpu).
    Raises ``FileNotFoundError`` when there is no such checkpoint or a file is missing,
    ``ValueError`` when the weights are truncated, do not match their recorded SHA-256 or do not fit
    the configuration, ``RuntimeError`` when a download fails.
    """
    device = checks.pick_device(device)
    load, place = loader_of(name_or_path)
    return load(place, device)


def loader_of(
    name_or_path: str | Path,
) -> tuple[Callable[[Any, torch.device], NetworkDenoiser], str | Path]:
    """The function that loads this kind of checkpoint, and what to give to it: its folder, or the
    name or path of an EDM file."""
    if is_edm_file(name_or_path):
        from .edm.pretrained import load_edm

        return load_edm, name_or_path
    folder = find_checkpoint(name_or_path)
    if is_diffusers(folder):
        return load_diffusers, folder
    if describes_edm(folder):
        from .edm.pretrained import load_converted

        return load_converted, folder
    return load_trained, folder


def is_edm_file(name_or_path: str | Path) -> bool:
    """Whether it names a pickled EDM network rather than a folder."""
    return str(name_or_path).endswith(".pkl") and not Path(name_or_path).is_dir()


def describes_edm(folder: Path) -> bool:
    """Whether ``folder`` holds an EDM network that was converted to safetensors."""
    return _section(folder).get("architecture") == "Preconditioned"


def _section(folder: Path) -> dict[str, Any]:
    config = read_json(folder / "config.json")
    section = config.get("uturn") if isinstance(config, dict) else None
    if not isinstance(section, dict):
        raise ValueError(f"{folder}/config.json describes no model of ours and no diffusers U-Net")
    return section


def shipped_fingerprint(name_or_path: str | Path) -> str:
    """The fingerprint of a checkpoint from its configuration (of files from elsewhere: their
    SHA-256): the network is not built."""
    if is_edm_file(name_or_path):
        from .edm.pretrained import edm_fingerprint, find_edm_file

        return edm_fingerprint(find_edm_file(name_or_path))
    folder = find_checkpoint(name_or_path)
    if is_diffusers(folder):
        return diffusers_fingerprint(folder)
    if describes_edm(folder):
        # compared with the content when it is loaded
        return str(_section(folder).get("fingerprint"))
    return checkpoint_fingerprint(read_json(folder / "config.json"))
