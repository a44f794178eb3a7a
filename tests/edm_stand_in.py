"""Writes pickles as the EDM code does: classes that carry their source, real torch containers,
tensors as bare storages. For tests."""

import pickle
import sys
import types
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn

SOURCE = '''"""An architecture."""
import numpy as np
import torch
from torch_utils import persistence
from torch.nn.functional import silu

@persistence.persistent_class
class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = np.sqrt(0.5)
'''

TINY_SONG = {
    "img_resolution": 16, "img_channels": 3, "label_dim": 0, "augment_dim": 9,
    "model_type": "SongUNet", "embedding_type": "positional",
    "encoder_type": "standard", "decoder_type": "standard",
    "channel_mult_noise": 1, "resample_filter": [1, 1], "model_channels": 8,
    "channel_mult": [2, 2], "num_blocks": 1, "attn_resolutions": [8],
    "dropout": 0.1, "use_fp16": False,
}  # fmt: skip
TINY_NCSN = TINY_SONG | {
    "embedding_type": "fourier", "encoder_type": "residual", "channel_mult_noise": 2,
    "resample_filter": [1, 3, 3, 1], "label_dim": 4,
}  # fmt: skip
TINY_ADM = {
    "img_resolution": 16, "img_channels": 3, "label_dim": 5, "model_type": "DhariwalUNet",
    "model_channels": 32, "channel_mult": [1, 2],
    "num_blocks": 1, "attn_resolutions": [8], "use_fp16": True,
}  # fmt: skip


def _reconstruct_persistent_obj(meta):
    raise AssertionError("the reader must not call this")


_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"


class EasyDict(dict):
    """As in the EDM code: a dictionary of its own class."""


EasyDict.__module__ = "dnnlib.util"


class Persistent(nn.Module):
    """A module that is pickled with the name and source of its class."""

    def __init__(self, class_name, source=SOURCE):
        super().__init__()
        self.__dict__["_hidden"] = (class_name, source)

    def __reduce__(self):
        class_name, source = self.__dict__["_hidden"]
        state = {key: value for key, value in self.__dict__.items() if key != "_hidden"}
        meta = {
            "type": "class",
            "version": 6,
            "module_src": source,
            "class_name": class_name,
            "state": state,
        }
        return _reconstruct_persistent_obj, (meta,)


@contextmanager
def edm_modules():
    """The modules of the EDM code by name, for as long as something is pickled."""
    made = {
        name: types.ModuleType(name)
        for name in ("torch_utils", "torch_utils.persistence", "dnnlib", "dnnlib.util")
    }
    made["torch_utils.persistence"]._reconstruct_persistent_obj = _reconstruct_persistent_obj
    made["dnnlib.util"].EasyDict = EasyDict
    kept = {name: sys.modules.get(name) for name in made}
    sys.modules.update(made)
    try:
        yield
    finally:
        for name, module in kept.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module


def persistent(module, source=SOURCE):
    """``module`` as a tree of :class:`Persistent` with the same tensors; containers stay what they
    are."""
    if isinstance(module, nn.ModuleDict):
        return nn.ModuleDict({name: persistent(child, source) for name, child in module.items()})
    made = Persistent(type(module).__name__, source)
    made.skip_scale = np.sqrt(0.5)  # a numpy scalar, as in the real files
    made._init_args, made._init_kwargs = (
        (),
        {"init": EasyDict(init_mode="xavier_uniform", init_weight=np.float64(0.2))},
    )
    for name, value in module._parameters.items():
        made.register_parameter(name, value)
    for name, value in module._buffers.items():
        made.register_buffer(name, value)
    for name, child in module._modules.items():
        made.add_module(name, None if child is None else persistent(child, source))
    return made


def write_edm_pickle(path, denoiser, source=SOURCE, class_name=None, protocol=4, **extra):
    """Write the U-Net of ``denoiser`` (``edm.Preconditioned``) as the EDM code would; ``extra``
    entries go beside the network."""
    outer = Persistent(class_name or f"{denoiser.kind}Precond", source)
    outer._init_args, outer._init_kwargs = (), dict(denoiser.arguments)
    outer.sigma_data, outer.use_fp16 = 0.5, False
    outer.add_module("model", persistent(denoiser.unet, source))
    loss = Persistent("EDMLoss", source)
    loss.P_mean = -1.2
    content = {
        "ema": outer,
        "loss_fn": loss,
        "augment_pipe": None,
        "dataset_kwargs": EasyDict(path="x.zip", xflip=False),
    }
    with edm_modules():
        Path(path).write_bytes(pickle.dumps(content | extra, protocol=protocol))
    return Path(path)


def random_network(kind, arguments, seed=0):
    """A network of ``edm`` with random weights of a size that keeps its output finite and every
    part of it visible."""
    from uturn_lib.networks.edm.architectures import Preconditioned

    torch.manual_seed(seed)
    denoiser = Preconditioned(kind, arguments)
    for name, value in denoiser.unet.named_buffers():
        if name.endswith("freqs"):
            value.normal_()
    return denoiser.eval().requires_grad_(False)
