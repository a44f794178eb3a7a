"""What a graphics card must not change: samples, up to rounding. `make gpu-hour` runs these."""

from dataclasses import replace

import pytest
import torch
from conftest import TINY_UNET

from uturn_lib import (
    EmpiricalDenoiser,
    GaussianDenoiser,
    GaussianMixtureDenoiser,
    LocalDenoiser,
    artificial_start,
    experiments,
    g_turn,
    load_classifier,
    load_data,
    load_denoiser,
    profiles,
    u_turn,
)
from uturn_lib.methods import METHODS
from uturn_lib.networks import accelerate
from uturn_lib.reports import gpu_hour
from uturn_lib.support.files import read_json, write_json
from uturn_lib.support.places import ROOT
from uturn_lib.training import RECIPES, Stage, Trainer

pytestmark = pytest.mark.gpu
# Sums in another order, over eight steps that each multiply an error by about 1.
CLOSE = dict(atol=2e-3, rtol=0)


@pytest.fixture
def card():
    """The first GPU, or the stand-in (``-p stand_in_card``)."""
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device here")
    # Convolutions in full float32: by default they round to ten bits (TF32).
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield torch.device("cuda")


@pytest.fixture(scope="module")
def digits():
    return load_data("mnist", "test").take(6)


def test_a_sample_does_not_depend_on_the_card(card, digits):
    """Same seeds, same outputs; images may lie on either side, labels as well."""
    here, there = load_denoiser("mnist", "cpu"), load_denoiser("mnist", card)
    options = dict(sigma_u=1.0, steps=8, seed=3, labels=digits.labels)
    expected = u_turn(here, digits.images, **options)
    for x0 in (digits.images, digits.images.to(card)):
        found = u_turn(there, x0, **options)
        assert found.y0.device == x0.device and found.y0.dtype == x0.dtype
        torch.testing.assert_close(found.y0.cpu(), expected.y0, **CLOSE)
        torch.testing.assert_close(found.denoised.cpu(), expected.denoised, **CLOSE)


def test_a_sample_does_not_depend_on_its_batch(card, digits):
    there = load_denoiser("mnist", card)
    whole, parts = (u_turn(there, digits.images, 1.0, steps=8, batch_size=n) for n in (6, 4))
    torch.testing.assert_close(whole.y0, parts.y0, **CLOSE)


def test_starts_without_an_image(card, digits):
    gaussian = GaussianDenoiser.fit(digits.images)
    for make in (artificial_start, lambda d, n, s, **o: g_turn(d, gaussian, n, s, **o)):
        pair = [make(load_denoiser("mnist", d), 2, 2.0, steps=6, seed=1).y0 for d in ("cpu", card)]
        torch.testing.assert_close(*pair, **CLOSE)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_reverse_process(card, gaussian, method):
    """Closed-form score in float64: nothing but the order of sums may differ."""
    x0, _ = GaussianMixtureDenoiser.of(torch.ones(1), [gaussian]).sample(range(5))
    here, there = (u_turn(gaussian, x, 1.5, steps=6, method=method) for x in (x0, x0.to(card)))
    assert there.y0.device.type == card.type
    torch.testing.assert_close(there.y0.cpu(), here.y0, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["gaussian", "mixture", "empirical", "local"])
def test_exact_scores(card, kind):
    data = load_data("digits").take(60)
    images = data.images
    scores = {
        "gaussian": lambda x: GaussianDenoiser.fit(images),
        "mixture": lambda x: GaussianMixtureDenoiser.of(
            torch.tensor([0.5, 0.5]), [GaussianDenoiser.fit(part) for part in images.chunk(2)]
        ),
        "empirical": lambda x: EmpiricalDenoiser(images.to(x.device)),
        "local": lambda x: LocalDenoiser(images.to(x.device)),
    }
    x = images[:5] + 0.7 * torch.randn(5, *images.shape[1:], generator=torch.manual_seed(0))
    here, there = (scores[kind](y)(y, 0.7) for y in (x, x.to(card)))
    assert there.device.type == card.type
    torch.testing.assert_close(there.cpu(), here, atol=1e-3, rtol=0)


@pytest.mark.parametrize("compiled", [False, True])
def test_bfloat16_rounds_the_network_and_nothing_else(card, digits, compiled):
    """D_fast - D = c_out (F_fast - F): a few per cent of c_out, at every level."""
    plain, fast = load_denoiser("mnist", card), load_denoiser("mnist", card)
    accelerate(fast, compiled=compiled)
    for sigma in (0.05, 0.5, 5.0):
        x = (digits.images + sigma).double().to(card)
        with torch.no_grad():
            apart = (fast(x, sigma) - plain(x, sigma)).square().mean().sqrt()
        c_out = sigma * plain.sigma_data / (sigma**2 + plain.sigma_data**2) ** 0.5
        assert 0 < float(apart) < 0.05 * c_out


def test_the_network_of_the_figures(card):
    """As a study makes it: bfloat16, compiled if there is a compiler, batches of any size."""
    study = experiments.prepare("laptop", "cuda")
    starts = study.test.take(5)
    sweep = experiments.u_turn_sweep(study, starts, (0.4, 4.0), steps=6, chunk=3)
    assert sweep.y0.shape == (2, *starts.images.shape) and sweep.y0.device.type == "cpu"
    plain = u_turn(load_denoiser("mnist", card), starts.images, 0.4, steps=6).y0
    assert float((sweep.y0[0] - plain).square().mean().sqrt()) < 0.05
    assert study.denoiser.precision == torch.bfloat16
    assert "bfloat16" in study.fingerprint


def test_the_classifier_sees_the_same_classes(card):
    images = load_data("mnist", "test").images[:100]
    classes = [load_classifier("mnist-classifier", d).predict(images) for d in ("cpu", card)]
    assert int((classes[0] != classes[1]).sum()) <= 1


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_training_goes_on_where_it_was_stopped(card, tmp_path, optimizer):
    """State and measurements of a run on the card; kernels of its backward pass may add in any
    order."""
    if optimizer == "muon" and not hasattr(torch.optim, "Muon"):
        pytest.skip("needs torch 2.9")
    unet = TINY_UNET | dict(
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
    )
    stages = (Stage(6 * 8, 1e-3, 0.3, warmup_images=16),)
    recipe = replace(
        RECIPES["laptop"], dataset="digits", stages=stages, batch=8, unet=unet, optimizer=optimizer
    )
    whole, first, second = (Trainer(recipe, tmp_path, card) for _ in range(3))
    for step in range(6):
        whole.update()
        if step < 3:
            first.update()
    first.save()
    assert second.resume() and second.step == 3
    for _ in range(3):
        second.update()
    second.save()
    for a, b in zip(whole.average.parameters(), second.average.parameters(), strict=True):
        assert a.device.type == card.type
        torch.testing.assert_close(a.detach().cpu(), b.detach().cpu(), atol=1e-3, rtol=0)
    host = Trainer(recipe, tmp_path, torch.device("cpu"))
    assert host.resume() and host.step == 6  # what was trained on a card opens without one
    few = host.test.take(20)
    found = host.validation(few, draws=1)
    assert found == pytest.approx(second.validation(few, draws=1), rel=0.02)


FEW = dict(
    ground_truths=10,
    steps=6,
    sigmas=(0.4, 1.4, 4.0, 14.0),
    repeat_sigmas=(0.4, 1.4, 4.0),
    local_sigmas=(1.4, 4.0),
    local_ground_truths=1,
)


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The first hour at less than smoke scale, in a folder of its own."""
    monkeypatch.setenv("UTURN_SCALE", "smoke")
    monkeypatch.setattr(profiles, "SMOKE", profiles.SMOKE | FEW)
    monkeypatch.setattr(gpu_hour, "RUNS", tmp_path)
    measure = Trainer.validation
    monkeypatch.setattr(
        Trainer, "validation", lambda t, data, average=None: measure(t, data.take(20), 1, average)
    )


@pytest.mark.parametrize("step", ["train", "fig09", "fig13"])
def test_the_steps_of_the_first_hour(card, small, step):
    hour = gpu_hour.Hour("laptop", "cuda")
    write_json(hour.folder / "about.json", {})
    found = gpu_hour.run_step(step, hour)
    assert found.outcome == "done", found.reason
    assert gpu_hour.read_record(step, hour).rows == [list(row) for row in found.rows]
    if step == "train":
        assert (hour.folder / "training" / "state.pt").is_file()


def test_the_benchmark(card, small, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setattr("sys.argv", f"bench --device cuda --speed-only --output {tmp_path}".split())
    import bench

    assert bench.SMOKE and bench.main() == 0
    rows = read_json(tmp_path / "results.json")["rows"]
    assert any("bfloat16" in row["what"] and row["fast_per_second"] > 0 for row in rows)
    assert all(row["ratio"] > 0 for row in rows)
