"""Reads the pickled EDM networks as data: tensors and constructor arguments come out, and nothing
in the file is ever run.

A pickle is a program for a small stack machine that may import and call anything. Here that machine
is played step by step (``pickletools`` of the standard library decodes the instructions) with an
allow-list of thirteen names, none of which is imported: each stands for a function of this module
that makes plain data. Whatever else a file asks for is refused. The classes of the EDM files carry
their Python source with them; it is not compiled, and a file whose source does other things than an
architecture needs to do is refused as well, since somebody has altered it.
"""

from __future__ import annotations

import ast
import io
import math
import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...support.files import DAMAGED
from ..checkpoints import UnsafeFile


@dataclass
class Record:
    """An object of a "persistent" class of the EDM code: class name and attributes."""

    class_name: str
    state: dict[str, Any] = field(repr=False)


@dataclass
class Container:
    """A plain torch container, such as a ``ModuleDict``: its attributes."""

    state: dict[str, Any] = field(default_factory=dict, repr=False)


class RawBytes:
    """Bytes that are released when taken: a storage and its tensor are not both kept."""

    def __init__(self, content: bytes):
        self.content: bytes | None = content

    def take(self) -> bytes:
        content, self.content = self.content, None
        if content is None:
            raise UnsafeFile("a block of weights is used twice")
        return content


@dataclass(frozen=True)
class Name:
    """A global of the allow-list, waiting to be called."""

    text: str


# Modules that the source of an architecture, its loss and its augmentation may import, and calls
# that they have no use for.
SOURCE_IMPORTS = set(
    "collections copy dnnlib functools math numpy scipy torch torch_utils typing".split()
)
SOURCE_CALLS = {"__import__", "breakpoint", "compile", "eval", "exec", "input", "open"}


# the real ones have some 30,000 characters; a file holds three or four
SOURCE_LENGTH, SOURCES = 200_000, 10
# how a storage in a pickle begins: torch's format before its zip archives
LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9c"
DEPTH = 50  # of modules within modules
MESSAGE = 80  # characters of a file's text that an error repeats


def suspicious(source: str) -> str | None:
    """What the source of a network class should not contain, or None; parsed, not compiled."""
    if len(source) > SOURCE_LENGTH:
        return f"it has {len(source):,} characters"
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"it is not Python ({type(error).__name__})"
    for node in ast.walk(tree):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or "."]
        strange = [name for name in modules if name.split(".")[0] not in SOURCE_IMPORTS]
        if strange:
            return f"it imports {strange[0]}"
        if isinstance(node, ast.Name) and node.id in SOURCE_CALLS | {"__builtins__"}:
            return f"it uses {node.id}"
    return None


def read_pickle(path: str | Path) -> Any:
    """The object in ``path`` as dicts, lists, numbers, tensors, Records and Containers; runs no
    code.

    Raises :class:`UnsafeFile` (a ``ValueError``) naming what was refused, ``ValueError`` for an
    incomplete pickle, ``FileNotFoundError``.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    with path.open("rb") as file:
        try:
            return _Machine().run(file)
        except UnsafeFile as error:
            raise UnsafeFile(f"{path.name} is refused: {error}. Nothing in it was run") from error
        except DAMAGED as error:
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(
                f"{path.name} is not a complete pickle of a network ({reason})"
            ) from error


def _key(value: Any) -> Any:
    """``value`` if it is a plain scalar: hashing a nested tuple may never end."""
    if type(value) not in (str, int, float, bool, type(None)):
        raise UnsafeFile(f"it uses a {type(value).__name__} as a name")
    return value


class _Machine:
    """The stack machine of pickle, without imports and calls."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.looked_at: set[str] = set()

    def run(self, file: io.BufferedReader) -> Any:
        for opcode, argument, _ in pickletools.genops(file):
            name = opcode.name
            if name == "STOP":
                return self.stack.pop()
            if name in CONSTANTS:
                self.stack.append(CONSTANTS[name]())
            elif name in LITERALS:
                self.stack.append(argument)
            elif name in ("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"):
                self.stack.append(RawBytes(bytes(argument or b"")))
            elif name in STEPS:
                STEPS[name](self, argument)
            elif name not in ("PROTO", "FRAME"):
                raise UnsafeFile(f"it uses the instruction {name}")
        raise EOFError("it has no end")

    def above_mark(self) -> list[Any]:
        start = self.marks.pop()
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def take(self, count: int) -> list[Any]:
        taken = self.stack[len(self.stack) - count :]
        if len(taken) < count:
            raise IndexError("the stack is empty")
        del self.stack[len(self.stack) - count :]
        return taken

    def look_up(self, *parts: Any) -> None:
        if not all(isinstance(part, str) for part in parts):
            raise UnsafeFile("it asks for something that has no name")
        name = ".".join(parts)
        if name not in CALLS:
            raise UnsafeFile(f"it asks for {name[:MESSAGE]!r}")
        self.stack.append(Name(name))

    def call(self) -> None:
        function, arguments = self.take(2)
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise UnsafeFile("it calls something that is not a known function")
        if function.text == RECORD:
            self.stack.append(self.record(*arguments))
        else:
            self.stack.append(CALLS[function.text](*arguments))

    def record(self, meta: dict[str, Any]) -> Record:
        source, name = meta["module_src"], meta["class_name"]
        if (
            not isinstance(source, str)
            or not isinstance(name, str)
            or not isinstance(meta["state"], dict)
        ):
            raise UnsafeFile("a class that came with its source is not described by text")
        if source not in self.looked_at:
            found = suspicious(source)
            if len(self.looked_at) >= SOURCES:
                found = "there are too many of them"
            if found:
                raise UnsafeFile(
                    f"the source that came with the class {name[:MESSAGE]} is not that of a "
                    f"network: {found}"
                )
            self.looked_at.add(source)
        return Record(name, meta["state"])

    def build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, _NumpyType):
            target.order = str(state[1])
        elif isinstance(target, Container) and isinstance(state, dict):
            target.state.update(state)
        elif not isinstance(target, dict):  # a dictionary's own attributes are of no interest
            raise UnsafeFile(f"it changes a {type(target).__name__}")

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise UnsafeFile(f"it changes a {type(target).__name__}")
        target.update(zip(map(_key, items[::2]), items[1::2], strict=True))

    def extend(self, items: list[Any], kind: Any) -> None:
        target = self.stack[-1]
        if type(target) is not kind:
            raise UnsafeFile(f"it changes a {type(target).__name__}")
        target.extend(items) if kind is list else target.update(map(_key, items))


# ----------------------------------------------------------------------------- what may be "called"


@dataclass
class _NumpyType:
    kind: str
    order: str = "="


def _numpy_type(text: str, *_: Any) -> _NumpyType:
    if not isinstance(text, str) or text not in (
        "f2",
        "f4",
        "f8",
        "i1",
        "i2",
        "i4",
        "i8",
        "u1",
        "u2",
        "u4",
        "u8",
        "b1",
    ):
        raise UnsafeFile(
            "it asks for numpy values of type "
            f"{str(type(text)) if not isinstance(text, str) else text[:MESSAGE]!r}"
        )
    return _NumpyType(text)


def _numpy_scalar(kind: _NumpyType, content: RawBytes) -> float | int | bool:
    order = kind.order if kind.order in "<>=" else "="
    return np.frombuffer(content.content or b"", dtype=np.dtype(order + kind.kind), count=1)[
        0
    ].item()


def _storage(content: RawBytes) -> Tensor:
    """The values (n,) of a storage, read by torch's ``weights_only`` loader."""
    raw = content.take()
    if not raw.startswith(LEGACY_TORCH):
        raise UnsafeFile("a block of weights is not a bare storage")
    try:
        found = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    # torch raises many kinds; each means that this is not a bare storage
    except Exception as error:
        raise UnsafeFile(
            f"a block of weights is not a bare storage ({type(error).__name__})"
        ) from error
    if not isinstance(found, torch.TypedStorage):
        raise UnsafeFile(f"a block of weights holds a {type(found).__name__}")
    # torch calls its typed storages deprecated, but its files are made of them
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.empty(0, dtype=found.dtype).set_(found.untyped())


def _tensor(
    storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> Tensor:
    if not isinstance(storage, Tensor):
        raise UnsafeFile("a tensor is made of something that is not a storage")
    if math.prod(size) > storage.numel():
        raise UnsafeFile("a tensor is larger than its storage")
    return storage.as_strided(size, stride, offset)  # raises RuntimeError beyond the storage


def _parameter(value: Tensor, *_: Any) -> Tensor:
    return value


def _container(*_: Any) -> Container:
    return Container()


def _dictionary(items: Any = ()) -> dict:
    return {
        _key(key): value for key, value in (items.items() if isinstance(items, dict) else items)
    }


def _set(items: Any = ()) -> set:
    return set(map(_key, items))


RECORD = "torch_utils.persistence._reconstruct_persistent_obj"
CALLS: dict[str, Callable[..., Any]] = {
    RECORD: Record,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.storage._load_from_bytes": _storage,
    "torch.nn.modules.container.ModuleDict": _container,
    "torch.nn.modules.container.ModuleList": _container,
    "torch.nn.modules.container.Sequential": _container,
    "collections.OrderedDict": _dictionary,
    "dnnlib.util.EasyDict": _dictionary,
    "builtins.set": _set,
    "numpy.dtype": _numpy_type,
    "numpy.core.multiarray.scalar": _numpy_scalar,
    "numpy._core.multiarray.scalar": _numpy_scalar,
}

CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
LITERALS = set(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT "
    "UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8".split()
)


def _memoize(machine: _Machine, number: int | None) -> None:
    machine.memo[len(machine.memo) if number is None else number] = machine.stack[-1]


def _recall(machine: _Machine, number: int) -> None:
    machine.stack.append(machine.memo[number])


STEPS: dict[str, Callable[[_Machine, Any], Any]] = {
    "MARK": lambda m, _: m.marks.append(len(m.stack)),
    "POP": lambda m, _: m.take(1),
    "POP_MARK": lambda m, _: m.above_mark(),
    "MEMOIZE": _memoize,
    "PUT": _memoize,
    "BINPUT": _memoize,
    "LONG_BINPUT": _memoize,
    "GET": _recall,
    "BINGET": _recall,
    "LONG_BINGET": _recall,
    "TUPLE": lambda m, _: m.stack.append(tuple(m.above_mark())),
    "TUPLE1": lambda m, _: m.stack.append(tuple(m.take(1))),
    "TUPLE2": lambda m, _: m.stack.append(tuple(m.take(2))),
    "TUPLE3": lambda m, _: m.stack.append(tuple(m.take(3))),
    "APPEND": lambda m, _: m.extend(m.take(1), list),
    "APPENDS": lambda m, _: m.extend(m.above_mark(), list),
    "ADDITEMS": lambda m, _: m.extend(m.above_mark(), set),
    "SETITEM": lambda m, _: m.set_items(m.take(2)),
    "SETITEMS": lambda m, _: m.set_items(m.above_mark()),
    "GLOBAL": lambda m, text: m.look_up(text.replace(" ", ".", 1)),
    "STACK_GLOBAL": lambda m, _: m.look_up(*m.take(2)),
    "REDUCE": lambda m, _: m.call(),
    "NEWOBJ": lambda m, _: m.call(),
    "BUILD": lambda m, _: m.build(),
}


# ---------------------------------------------------------------------- from an object to a network


def network_of(content: Any, key: str = "ema") -> Record:
    """The network under ``key`` in an EDM file, or its only object; ``ValueError`` if none."""
    found = content.get(key) if isinstance(content, dict) else content
    if not isinstance(found, Record):
        keys = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"the file has no network under {key!r}; it holds {keys[:MESSAGE]}")
    return found


def constructor_arguments(record: Record, order: tuple[str, ...]) -> dict[str, Any]:
    """Constructor arguments of ``record``; ``order`` names the positional ones."""
    given, named = record.state.get("_init_args"), record.state.get("_init_kwargs")
    if (
        not isinstance(named, dict)
        or not isinstance(given, (tuple, list))
        or len(given) > len(order)
    ):
        raise ValueError(f"the {record.class_name} does not say what it was made with")
    return dict(zip(order, given, strict=False)) | named


def state_of(module: Record | Container) -> dict[str, Tensor]:
    """``state_dict`` of a module read from the file: full names to tensors."""
    found: dict[str, Tensor] = {}
    _collect(module, "", found, set())
    return found


def _collect(
    module: Record | Container, prefix: str, found: dict[str, Tensor], met: set[int], depth: int = 0
) -> None:
    where = prefix.rstrip(".")[-MESSAGE:]
    if not isinstance(module, (Record, Container)):
        raise ValueError(f"{where} is a {type(module).__name__}, not a module")
    if id(module) in met or depth > DEPTH:
        raise UnsafeFile(f"{where} is met twice, or lies too deep")
    met.add(id(module))
    for kind in ("_parameters", "_buffers"):
        for name, value in (module.state.get(kind) or {}).items():
            if isinstance(value, Tensor):
                found[prefix + name] = value
            elif value is not None:
                raise ValueError(f"{prefix}{name} is a {type(value).__name__}, not a tensor")
    for name, child in (module.state.get("_modules") or {}).items():
        if child is not None:
            _collect(child, f"{prefix}{name}.", found, met, depth + 1)
