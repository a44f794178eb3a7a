"""A graphics card that is not there: tensors say "cuda:0" and are computed on the CPU.

What fails on a first card for a silly reason fails here too: tensors of two devices in one
operation, ``.numpy()`` on the card, a generator of the wrong side. Not seen: memory, speed, kernels
that round or fail in their own way, the compiler (``torch.compile`` does nothing here).

``python -m pytest -p stand_in_card tests/gpu`` runs on it the tests that need a GPU.
"""

from __future__ import annotations

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

CARD = torch.device("cuda:0")
Tensor = torch.Tensor
# As with CUDA: these move between devices, or take their indices from the host.
MOVES = (Tensor.to, Tensor.copy_, Tensor.__setitem__, torch._has_compatible_shallow_copy_type)
INDEXED = (Tensor.__getitem__, Tensor.index_put_)
TO_HOST = (Tensor.numpy, Tensor.__array__)


class OnCard(Tensor):
    """A tensor on the card; in truth its values lie in the memory of the CPU."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return compute(func, args, kwargs or {})

    def __reduce_ex__(self, protocol):  # a saved state holds plain tensors
        return plain(self).__reduce_ex__(protocol)


def plain(tensor):
    with torch._C.DisableTorchFunctionSubclass():
        return tensor.as_subclass(Tensor)


def is_card(value):
    return isinstance(value, (str, torch.device)) and str(value).startswith("cuda")


def is_host(value):
    return isinstance(value, (str, torch.device)) and str(value) == "cpu"


def compute(func, args, kwargs):
    """``func`` on the CPU; its tensors are on the card if an argument is, or if asked for."""
    if func in (torch.device, torch._C._nn._parse_to):
        return func(*args, **kwargs)
    values = tree_leaves((args, kwargs))
    here = [value for value in values if isinstance(value, OnCard)]
    if func == Tensor.device.__get__:
        return CARD if here else torch.device("cpu")
    if func == Tensor.is_cuda.__get__:
        return bool(here)
    if here and func in TO_HOST:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")
    asked = any(map(is_card, values))
    if asked and any(isinstance(value, torch.Generator) for value in values):
        raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
    refuse_two_devices(func, args, values, here)
    moved = func is Tensor.cpu or any(map(is_host, values))
    there = (asked or bool(here)) and not moved
    if func in (Tensor.copy_, Tensor.__setitem__):
        there = isinstance(args[0], OnCard)
    args, kwargs = tree_map(lambda v: "cpu" if is_card(v) else v, (args, kwargs))
    with torch._C.DisableTorchFunctionSubclass():
        found = func(*args, **kwargs)
        return tree_map(lambda value: placed(value, there, asked or moved, values), found)


def placed(value, there, moves, given):
    """A result on its side. What crosses over is a copy; what was an argument stays itself."""
    if not isinstance(value, Tensor) or isinstance(value, OnCard) == there:
        return value
    value = value.as_subclass(Tensor)
    if moves and any(value.data_ptr() == v.data_ptr() for v in given if isinstance(v, Tensor)):
        value = value.clone()
    return value.as_subclass(OnCard) if there else value


def refuse_two_devices(func, args, values, here):
    """Numbers (tensors without dimensions) may stay on the host."""
    host = [v for v in values if isinstance(v, Tensor) and not isinstance(v, OnCard)]
    with torch._C.DisableTorchFunctionSubclass():
        host = [value for value in host if value.ndim]
    allowed = func in MOVES or (func in INDEXED and isinstance(args[0], OnCard))
    if here and host and not allowed:
        name = getattr(func, "__name__", func)
        raise RuntimeError(f"{name}: expected all tensors to be on the same device, got two")


class Card(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return compute(func, args, kwargs or {})


class Autocast(torch.autocast):
    """bfloat16 of the card is that of the CPU."""

    def __init__(self, device_type, *values, **options):
        super().__init__("cpu", *values, **options)


def insert():
    """From now on this process has the card."""
    torch.cuda.is_available = lambda: True
    torch.cuda.device_count = lambda: 1
    torch.cuda.get_device_name = lambda device=None: "a stand-in, no card"
    torch.cuda.synchronize = lambda device=None: None
    torch.cuda.reset_peak_memory_stats = lambda device=None: None
    torch.cuda.max_memory_allocated = lambda device=None: 0
    torch.compile = lambda function, **options: function
    torch.nn.Module.compile = lambda module, **options: None
    torch.autocast = Autocast
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    Card().__enter__()


def pytest_configure(config):
    insert()
