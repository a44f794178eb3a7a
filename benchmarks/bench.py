"""`make bench`: speed as ratios within one run, and error against calls beside the samplers of
other libraries.

Absolute times depend on the machine; each row of speeds compares two ways of doing the same work on
it, interleaved, median of the pairs. Writes benchmarks/results.json and benchmarks/README.md, or
into the folder --output."""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import accuracy
import numpy as np
import peers
import report
import torch
from scipy import stats

from uturn_lib import EmpiricalDenoiser, LocalDenoiser, load_data, load_denoiser, u_turn
from uturn_lib.experiments.study import network_maker
from uturn_lib.measures.gaussianity import ks_statistic
from uturn_lib.networks import EDMDenoiser, accelerate
from uturn_lib.noise import turn_sigmas
from uturn_lib.support import checks
from uturn_lib.support.files import write_json, write_text

SMOKE = os.environ.get("UTURN_SCALE") == "smoke"  # small and short: does it run at all?
BATCH = {"cpu": 64, "cuda": 1000} if not SMOKE else {"cpu": 2, "cuda": 8}
IMAGES = 50_000 if not SMOKE else 200
ROUNDS = (5, 7, 15) if not SMOKE else (1, 1, 1)  # KS, pairs, loops


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call."""
    begun = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def compare(
    first: Callable[[], object],
    second: Callable[[], object],
    device: torch.device,
    rounds: int = ROUNDS[1],
) -> tuple[float, float, float]:
    """Median times of both, interleaved after one warm-up each, and the median of the ratios first
    / second."""
    seconds(first, device), seconds(second, device)
    pairs = [(seconds(first, device), seconds(second, device)) for _ in range(rounds)]
    return (
        *(statistics.median(column) for column in zip(*pairs, strict=True)),
        statistics.median(a / b for a, b in pairs),
    )


def in_turn(
    loops: dict[str, Callable[[], object]],
    bare: Callable[[], object],
    device: torch.device,
    rounds: int = ROUNDS[2],
) -> dict[str, list[float]]:
    """Time of ``bare`` over that of each loop, round by round: all loops share the machine's
    quicker and slower minutes."""
    for work in (bare, *loops.values()):
        seconds(work, device)
    ratios: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        before = seconds(bare, device)
        for name, loop in loops.items():
            inside, after = seconds(loop, device), seconds(bare, device)
            ratios[name].append((before + after) / 2 / inside)
            before = after
    return ratios


def network(device: torch.device, fast: bool = True) -> EDMDenoiser:
    """The shipped network of the device's scale, as the figures use it there: on a GPU in bfloat16
    and, where there is a compiler, compiled, if ``fast``."""
    if device.type != "cuda":
        return load_denoiser("mnist", device)
    return network_maker("cifar10", device)() if fast else load_denoiser("cifar10", device)


def acceleration(device: torch.device) -> dict[str, object]:
    """u_turn with the compiled network in bfloat16, against the same network in eager float32 (on a
    CPU only at smoke scale, to see that it runs; there nothing is compiled)."""
    plain = load_denoiser("cifar10", device)
    on_card = device.type == "cuda"
    fast = (
        network(device) if on_card else accelerate(load_denoiser("cifar10", device), compiled=False)
    )
    batch, steps = BATCH["cuda"], 2 if SMOKE else 16
    generator = torch.Generator().manual_seed(0)
    x0 = (torch.rand(batch, *fast.sample_shape, generator=generator) * 2 - 1).to(device)

    def turns(denoiser: EDMDenoiser) -> Callable[[], object]:
        return lambda: u_turn(denoiser, x0, 2.0, steps=steps, batch_size=batch)

    memory = [peak_of(turns(denoiser), device) for denoiser in (fast, plain)]
    quick, slow, ratio = compare(turns(fast), turns(plain), device)
    return {
        "what": f"u_turn of {batch} CIFAR-10 images: compiled, bfloat16, against eager float32",
        "ratio": 1 / ratio,
        "aim": ">= 3",
        "met": ratio <= 1 / 3,
        "fast_per_second": batch * steps / quick,
        "plain_per_second": batch * steps / slow,
        "fast_peak_MiB": round(memory[0] / 2**20),
        "plain_peak_MiB": round(memory[1] / 2**20),
    }


def peak_of(work: Callable[[], object], device: torch.device) -> int:
    """Largest memory in bytes during one call after another, which may compile."""
    work()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    work()
    return peak_memory(device)


def sampler_overhead(device: torch.device) -> list[dict[str, object]]:
    """Images x calls per second inside u_turn and inside the loops of other libraries, against the
    bare network at the same batch and levels."""
    denoiser, batch, steps = network(device), BATCH[device.type], 8
    x0 = (
        torch.rand(batch, *denoiser.sample_shape, generator=torch.Generator().manual_seed(0)).to(
            device
        )
        * 2
        - 1
    )
    sigmas = [float(s) for s in turn_sigmas(steps, 2.0)[:-1]]
    scaled, labels = (
        torch.randn(batch, *denoiser.sample_shape, device=device),
        torch.full((batch,), denoiser.num_classes, device=device),
    )

    def bare() -> None:
        with torch.no_grad():
            for sigma in sigmas:
                denoiser.raw(scaled, torch.full((batch,), np.log(sigma) / 4, device=device), labels)

    start, grid = x0 + 2.0 * torch.randn_like(x0), turn_sigmas(steps, 2.0)
    loops = {"u_turn": lambda: u_turn(denoiser, x0, 2.0, steps=steps, batch_size=batch)}
    for peer in peers.peers():
        if peer.calls == 1:
            loops[f"the loop of {peer.name}"] = partial(peer.run, denoiser, start, grid)
    with peers.seeded(0), torch.no_grad():
        ratios = in_turn(loops, bare, device)
    rows = [
        {
            "what": f"{name} against the bare network, images x calls per second",
            "ratio": statistics.median(found),
            "quartiles": [float(np.quantile(found, q)) for q in (0.25, 0.75)],
        }
        for name, found in ratios.items()
    ]
    rows[0] |= {"aim": ">= 0.95", "met": rows[0]["ratio"] >= 0.95}
    return rows


def ks_speed(device: torch.device) -> dict[str, object]:
    """12,288 coordinates x 256 samples, against one scipy call per coordinate (timed on 400 of
    them, scaled up)."""
    samples = torch.randn(256, 12_288, generator=torch.Generator().manual_seed(0))
    columns = samples[:, :400].double().T.numpy()

    def one_by_one() -> None:
        for column in columns:
            stats.kstest(column, "norm", args=(column.mean(), column.std()))

    slow, fast, _ = compare(
        one_by_one, lambda: ks_statistic(samples), torch.device("cpu"), rounds=ROUNDS[0]
    )
    slow *= samples.shape[1] / len(columns)
    return {
        "what": "KS over 12,288 coordinates x 256 samples, against scipy one by one",
        "ratio": slow / fast,
        "aim": ">= 100",
        "met": slow / fast >= 100,
        "seconds": fast,
        "scipy_seconds": slow,
    }


def fifty_thousand_images(device: torch.device) -> tuple[str, torch.Tensor]:
    """CIFAR-10 where ``UTURN_DATA`` is set, else random images of the same size, made in place."""
    if os.environ.get("UTURN_DATA") and not SMOKE:
        return "CIFAR-10", load_data("cifar10", "train").images.to(device)
    images = torch.empty(IMAGES, 3, 32, 32).uniform_(
        -1, 1, generator=torch.Generator().manual_seed(0)
    )
    return "random", images.to(device)


def empirical_denoiser(
    device: torch.device, name: str, images: torch.Tensor, sigma: float
) -> dict[str, object]:
    """50,000 x 3,072 images, batch 64, against the two matrix products that any implementation
    needs."""
    noise = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(1)).to(device)
    x = images[:64] + sigma * noise
    before = peak_memory(device)
    denoiser, flat, rows = EmpiricalDenoiser(images), images.flatten(1), x.flatten(1)
    denoiser(x, sigma)
    beyond = peak_memory(device) - before

    def products() -> None:
        (rows @ flat.T) @ flat

    whole, bare, ratio = compare(lambda: denoiser(x, sigma), products, device)
    return {
        "what": f"empirical denoiser, 50,000 x 3,072 ({name}), batch 64, sigma = {sigma:g}, "
        "against its two matrix products",
        "ratio": ratio,
        "aim": "<= 1.5",
        "met": ratio <= 1.5 and beyond <= 2**30,
        "seconds": whole,
        "products_seconds": bare,
        "memory_beyond_data_MiB": round(beyond / 2**20),
    }


def local_denoiser(
    device: torch.device, name: str, images: torch.Tensor, sigma: float
) -> dict[str, object]:
    """50,000 x 3,072 images, one x, against one reading and one writing of the images.

    The denoiser reads the images twice, writes and reads a third as many weights, and computes an
    exponential and two box filters for each."""
    x = images[:1] + sigma * torch.randn(
        1, 3, 32, 32, generator=torch.Generator().manual_seed(1)
    ).to(device)
    before, denoiser = peak_memory(device), LocalDenoiser(images)
    denoiser(x, sigma)
    beyond, target = peak_memory(device) - before, torch.empty_like(images)
    whole, traffic, ratio = compare(
        lambda: denoiser(x, sigma), lambda: target.copy_(images), device
    )
    return {
        "what": f"local denoiser, 50,000 x 3,072 ({name}), one image, sigma = {sigma:g}, against one copy of the images",  # noqa: E501
        "ratio": ratio,
        "seconds": whole,
        "copy_seconds": traffic,
        "memory_beyond_data_MiB": round(beyond / 2**20),
    }


def peak_memory(device: torch.device) -> int:
    """Largest memory used so far, in bytes: of the card, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def _rounded(value: object) -> object:
    """Numbers to three digits, also within lists."""
    if isinstance(value, (list, tuple)):
        return [_rounded(v) for v in value]
    return float(f"{value:.3g}") if isinstance(value, float) else value


def _shortened(row: dict[str, object]) -> dict[str, object]:
    return {name: _rounded(value) for name, value in row.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="folder")
    parser.add_argument("--speed-only", action="store_true", help="no error against calls")
    options = parser.parse_args()
    try:
        device = checks.pick_device(options.device)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    # The local denoiser, which needs least, then the empirical one: peak memory of a process never
    # falls.
    # The level that needs most memory comes first, too: at small sigma the most distances are
    # computed again.
    name, images = fifty_thousand_images(device)
    rows = [local_denoiser(device, name, images, 0.6)]
    rows += [empirical_denoiser(device, name, images, sigma) for sigma in (0.5, 1.0, 20.0, 0.002)]
    rows += [*sampler_overhead(device), ks_speed(device)]
    rows += [acceleration(device)] if device.type == "cuda" or SMOKE else []
    for row in rows:
        verdict = {True: "met    ", False: "NOT MET", None: "       "}[row.get("met")]
        aim = f"(aim {row['aim']:>7})" if "aim" in row else " " * 13
        print(f"{verdict} ratio {row['ratio']:8.2f} {aim}: {row['what']}")
    where = {
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    found: dict[str, object] = {"machine": where, "rows": [_shortened(row) for row in rows]}
    if not options.speed_only:
        skipped = None if peers.has_azula() else peers.HOW_TO_INSTALL
        if skipped:
            print(skipped)
        errors = accuracy.table()
        print(report.better(errors))
        found["errors"] = [_shortened(row) for row in errors]
        page = report.markdown(where, rows, errors, skipped)
        write_text(options.output / "README.md", page)
    write_json(options.output / "results.json", found)
    print(f"written to {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
