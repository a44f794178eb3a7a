import inspect
import types

import numpy as np
import pytest
import torch

from uturn_lib import noise


@pytest.mark.parametrize("steps", [1, 2, 17, 256])
@pytest.mark.parametrize("sigma_max", [0.013, 0.37, 80.0])
def test_grid_has_the_promised_ends_and_decreases(steps, sigma_max):
    sigmas = noise.karras_sigmas(steps, sigma_max)
    assert sigmas.dtype == torch.float64 and len(sigmas) == steps + 1
    assert sigmas[0].item() == sigma_max and sigmas[-1].item() == 0.0  # exactly, not to a tolerance
    assert (sigmas.diff() < 0).all()


def test_grid_is_uniform_in_the_power_and_reaches_sigma_min():
    sigmas = noise.karras_sigmas(40, 80.0, sigma_min=0.002, rho=7.0)
    roots = sigmas[:-1] ** (1 / 7)
    np.testing.assert_allclose(roots.diff(), roots.diff().mean(), rtol=1e-10)
    assert sigmas[-2].item() == pytest.approx(0.002, rel=1e-10)


def test_an_edited_constant_changes_the_grids():
    """The module's source with another rho: every default follows from the one line."""
    source = inspect.getsource(noise)
    assert source.count("\nRHO = 7.0\n") == 1
    edited = types.ModuleType("uturn_lib.edited_noise")
    edited.__package__ = "uturn_lib"
    exec(source.replace("\nRHO = 7.0\n", "\nRHO = 5.0\n"), vars(edited))
    np.testing.assert_allclose(edited.karras_sigmas(20, 8.0), noise.karras_sigmas(20, 8.0, rho=5.0))
    np.testing.assert_allclose(edited.turn_sigmas(20, 8.0), noise.turn_sigmas(20, 8.0, rho=5.0))
    assert edited.proportional_steps(1.0, 100) == noise.proportional_steps(1.0, 100, rho=5.0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(steps=0, sigma_max=1.0), "steps"),
        (dict(steps=2.5, sigma_max=1.0), "steps"),
        (dict(steps=4, sigma_max=0.001), "sigma_min"),
        (dict(steps=4, sigma_max=float("nan")), "sigma_max"),
        (dict(steps=4, sigma_max=1.0, rho=0), "rho"),
    ],
)
def test_bad_grids_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        noise.karras_sigmas(**arguments)


@pytest.mark.parametrize("make", [noise.turn_sigmas, noise.reverse_sde_sigmas])
@pytest.mark.parametrize("sigma_u", [1e-4, 0.002, 0.0021, 1.0, 80.0, 1000.0])
def test_a_turn_lies_exactly_on_the_grid(sigma_u, make):
    for steps in (1, 2, 12):
        sigmas = make(steps, sigma_u)
        assert len(sigmas) == steps + 1 or sigma_u <= noise.SIGMA_MIN
        assert sigmas[0].item() == sigma_u and sigmas[-1].item() == 0 and (sigmas.diff() < 0).all()
    assert sigmas[0].item() == sigma_u and sigmas[-1].item() == 0 and (sigmas.diff() < 0).all()


def test_with_many_steps_the_grid_of_the_sde_ends_where_the_karras_grid_does():
    assert noise.reverse_sde_sigmas(200, 4.0)[-2].item() == pytest.approx(noise.SIGMA_MIN, rel=1e-9)
    few = noise.reverse_sde_sigmas(8, 4.0)
    assert few[-2].item() == pytest.approx(0.04)
    # far below sigma_drowned its spacing is that of a Karras grid with the same ends
    np.testing.assert_allclose(
        few[:-1], noise.karras_sigmas(8, 4.0, sigma_min=0.04)[:-1], rtol=0.06
    )
    for bad in (0, -1, 2.5):
        with pytest.raises((ValueError, TypeError), match="steps"):
            noise.reverse_sde_sigmas(bad, 1.0)


def test_proportional_steps_are_as_dense_as_the_full_grid():
    full = noise.karras_sigmas(100, 80.0)
    for sigma_u in (0.5, 2.0, 20.0):
        below = int((full <= sigma_u).sum()) - 1  # steps of the full grid that lie below the turn
        assert abs(noise.proportional_steps(sigma_u, 100) - below) <= 1
    assert noise.proportional_steps(80.0, 100) == 100
    assert noise.proportional_steps(0.0, 100) == 6


def test_ddpm_steps_meet_the_table_of_the_linear_schedule():
    # DDPM (Ho et al. 2020): beta from 1e-4 to 0.02 over 1000 steps; sigma = sqrt((1 - abar) /
    # abar), rounded to three digits.
    steps = [100, 150, 250, 400, 500, 600, 700, 800, 1000]
    sigmas = [0.339, 0.518, 0.953, 2.03, 3.42, 6.14, 11.9, 25.5, 157]
    np.testing.assert_allclose(noise.ddpm_step_to_sigma(steps), sigmas, rtol=5e-3)
    np.testing.assert_allclose(
        noise.sigma_to_ddpm_step(noise.ddpm_step_to_sigma(steps)), steps, rtol=1e-9
    )


def test_vp_time_is_the_time_of_its_definition():
    time = np.array([0.01, 0.5, 3.0])
    sigma = noise.vp_time_to_sigma(time)
    # x = e^-t x_0 + sqrt(1 - e^-2t) eps divided by e^-t has this noise level
    np.testing.assert_allclose(sigma, np.sqrt(1 - np.exp(-2 * time)) / np.exp(-time), rtol=1e-12)
    np.testing.assert_allclose(noise.sigma_to_vp_time(sigma), time, rtol=1e-12)
