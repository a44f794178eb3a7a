"""When memory comes: a small run that is interrupted, the score that knows all by heart, and the
curves that are shipped."""

import csv

import numpy as np
import pytest
import torch

from uturn_lib import EmpiricalDenoiser, load_data
from uturn_lib.training import memory, memory_curves, run_memory, train_profile

SMALL = memory.MemoryPlan(
    counts=(100,), times=(256, 512), sigmas=(0.3, 1.0, 3.0), turned=4, free=4, losses=50, steps=6
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits():
    return load_data("mnist", "train"), load_data("mnist", "test")


def test_an_interrupted_run_writes_the_same_curves(tmp_path):
    run_memory(SMALL, tmp_path / "whole", tmp_path / "whole.csv", CPU)
    run_memory(SMALL, tmp_path / "parts", tmp_path / "parts.csv", CPU, minutes=0)
    assert not (tmp_path / "parts.csv").exists()  # stopped before the first network
    first = memory.MemoryPlan(**{**vars(SMALL), "times": (256,)})
    run_memory(first, tmp_path / "parts", tmp_path / "parts.csv", CPU)
    run_memory(SMALL, tmp_path / "parts", tmp_path / "parts.csv", CPU)
    whole, parts = memory_curves(tmp_path / "whole.csv"), memory_curves(tmp_path / "parts.csv")
    assert list(whole) == list(parts) == [100]
    assert set(whole[100]) == set(parts[100]) and len(whole[100]) == 7
    for name in ("training_loss", "held_out_loss"):
        times, values = whole[100][name]
        assert times == [256, 512] and values[1].value < values[0].value  # it learns
        found = [value.value for value in parts[100][name][1]]
        assert found == pytest.approx([value.value for value in values], rel=1e-3)


def test_the_score_that_memorises_is_seen_through(digits):
    """Its free samples are copies, a held-out image never comes back, a training image does."""
    train, test = digits
    few = train.take(50)
    reference = torch.cat([train.images, test.images])
    plan = memory.MemoryPlan(turned=6, free=6, steps=12)
    exact = EmpiricalDenoiser(few.images)
    assert memory.memorised_fraction(exact, few.images, plan).value == 1
    starts, held_out = few.take(6).images, test.take(6).images
    found = memory.memorization_times(exact, starts, held_out, reference, plan)
    assert found["T_m_held_out"].value == 0 and found["T_m_training"].low > 1
    assert found["T_m_log_ratio"].value == np.inf


def test_the_loss_gap_is_one_minus_the_ratio():
    a, b = torch.full((40,), 0.3), torch.linspace(0.5, 1.5, 60)
    found = memory.relative_gap(a, b)
    assert found.value == pytest.approx(0.7) and found.contains(0.7)
    assert abs(memory.relative_gap(b, b).value) < 1e-9


def test_the_shipped_curves_are_whole():
    curves = memory_curves()
    assert set(curves) == set(memory.MemoryPlan().counts)
    for quantities in curves.values():
        lengths = {len(times) for times, _ in quantities.values()}
        assert len(quantities) == 7 and len(lengths) == 1
        for times, values in quantities.values():
            assert (np.diff(times) > 0).all()
            assert all(v.low <= v.value <= v.high for v in values if np.isfinite(v.value))
    with open(memory.CURVES, newline="", encoding="utf-8") as file:
        assert tuple(next(csv.reader(file))) == memory.COLUMNS


def test_only_digits_have_this_part(tmp_path):
    with pytest.raises(ValueError, match="memory"):
        train_profile("cifar10", CPU, tmp_path, part="memory")
