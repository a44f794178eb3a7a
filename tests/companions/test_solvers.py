"""Solvers of the probability flow: two forms of each, orders of convergence, the exact answer for
Gaussian data."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from uturn_lib import karras_sigmas, reverse
from uturn_lib.companions.p3 import solvers
from uturn_lib.sampling import final

METHODS = list(solvers.ORDERS)


def end(denoiser, x, steps, method, form="slopes", **grid):
    return final(solvers.solve(denoiser, x, karras_sigmas(steps, 5.0, **grid), method, form=form))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rho", [1.0, 7.0])
def test_both_forms_are_the_same_numbers(method, rho, mixture):
    x = 5 * torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    grid = karras_sigmas(12, 5.0, 0.05, rho)
    one, other = (
        list(solvers.solve(mixture, x, grid, method, form=form)) for form in solvers.FORMS
    )
    for a, b in zip(one, other, strict=True):
        assert (
            float((a.x - b.x).abs().max()) < 1e-10
            and float((a.denoised - b.denoised).abs().max()) < 1e-10
        )
    if method != "euler":  # and they are not Euler's
        assert float((one[-1].x - end(mixture, x, 12, "euler")).abs().max()) > 1e-3


@pytest.mark.parametrize("method", METHODS)
def test_order_of_convergence_on_gaussian_data(method, gaussian):
    """Closed form: x(sigma) = mu + sqrt((lambda + sigma^2) / (lambda + sigma_0^2)) (x_0 - mu) in
    each mode."""
    x = gaussian.sample(range(200), 5.0)
    stop = 0.05
    scale = ((gaussian.eigenvalues + stop**2) / (gaussian.eigenvalues + 25.0)).sqrt()
    exact = (
        gaussian.mean
        + ((x - gaussian.mean) @ gaussian.eigenvectors * scale) @ gaussian.eigenvectors.T
    )
    errors = []
    for steps in (20, 40, 80):
        states = list(solvers.solve(gaussian, x, karras_sigmas(steps, 5.0, stop), method))
        errors.append(float((states[-2].x - exact).pow(2).mean().sqrt()))  # the state at ``stop``
    orders = [math.log2(a / b) for a, b in zip(errors, errors[1:], strict=False)]
    assert abs(orders[-1] - solvers.ORDERS[method]) < 0.25, (errors, orders)


def test_pndm_needs_steps_that_change_slowly(gaussian):
    """With steps that alternate between long and short ones its fixed weights are wrong by a
    constant factor: order 1; those of DEIS are right."""
    x = gaussian.sample(range(100), 5.0)
    scale = ((gaussian.eigenvalues + 0.25) / (gaussian.eigenvalues + 25.0)).sqrt()
    exact = (
        gaussian.mean
        + ((x - gaussian.mean) @ gaussian.eigenvectors * scale) @ gaussian.eigenvectors.T
    )
    orders = {}
    for method in ("pndm", "deis"):
        errors = []
        for steps in (80, 160):
            lengths = torch.tensor([1.0, 4.0], dtype=torch.float64).repeat(steps // 2)
            levels = 5.0 - 4.5 * torch.cat([torch.zeros(1), lengths.cumsum(0) / lengths.sum()])
            grid = torch.cat([levels, torch.zeros(1)]).double()
            states = list(solvers.solve(gaussian, x, grid, method))
            errors.append(float((states[-2].x - exact).pow(2).mean().sqrt()))
        orders[method] = math.log2(errors[0] / errors[1])
    assert abs(orders["pndm"] - 1) < 0.2 and abs(orders["deis"] - 2) < 0.2, orders


def test_heun_is_the_sampler_of_the_u_turns(mixture):
    x = 5 * torch.randn(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    grid = karras_sigmas(15, 5.0)
    torch.testing.assert_close(
        final(solvers.solve(mixture, x, grid, "heun")), final(reverse(mixture, x, grid, "ode"))
    )


def test_dpmpp_agrees_with_diffusers(mixture):
    """Another implementation: the multistep solver of diffusers, data prediction, second order, on
    the same levels."""
    from diffusers import DPMSolverMultistepScheduler

    class Flow(DPMSolverMultistepScheduler):
        """The variance-exploding case: alpha = 1."""

        def _sigma_to_alpha_sigma_t(self, sigma):
            return torch.ones_like(sigma), sigma

    grid = karras_sigmas(10, 5.0, 0.05)
    scheduler = Flow(
        algorithm_type="dpmsolver++",
        solver_order=2,
        prediction_type="sample",
        lower_order_final=False,
        final_sigmas_type="zero",
    )
    scheduler.set_timesteps(10)
    scheduler.sigmas, scheduler.timesteps = grid.clone(), torch.arange(10).flip(0)
    scheduler._step_index = None
    x = state = 5 * torch.randn(
        30, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )
    states = list(solvers.solve(mixture, x, grid, "dpmpp"))
    for index, step in enumerate(scheduler.timesteps[:-1]):
        torch.testing.assert_close(state, states[index].x, rtol=0, atol=1e-6)
        state = scheduler.step(mixture(state, float(grid[index])), step, state).prev_sample


@pytest.mark.parametrize("method", METHODS)
def test_an_euler_step_is_a_convex_combination_and_the_last_step_is_the_denoiser(method, mixture):
    x = torch.randn(10, 2, dtype=torch.float64)
    *_, last_but_one, last = solvers.solve(mixture, x, karras_sigmas(6, 3.0), method)
    assert torch.equal(last.x, last_but_one.denoised)
    moved = solvers.euler_step(x, mixture(x, 3.0), 3.0, 1.0)
    assert bool(
        ((moved - x) * (moved - mixture(x, 3.0)) <= 1e-12).all()
    )  # between the two, coordinate by coordinate


@pytest.mark.parametrize("method", METHODS)
def test_the_calls_are_those_announced(method, mixture):
    calls = []

    def counted(x: Tensor, sigma: float, labels=None) -> Tensor:
        calls.append(sigma)
        return mixture(x, sigma)

    final(solvers.solve(counted, torch.zeros(1, 2), karras_sigmas(9, 5.0), method))
    assert len(calls) == 9 + 8 * (solvers.CALLS[method] - 1)  # the step into 0 is Euler's


def test_bad_input_is_named(mixture):
    x, grid = torch.zeros(1, 2), karras_sigmas(5, 5.0)
    for arguments, message in (
        ((x, grid, "rk4"), "method"),
        ((x, grid.flip(0)), "sigmas"),
        ((torch.zeros(1, 3), grid), "x has shape"),
    ):
        with pytest.raises(ValueError, match=message):
            next(solvers.solve(mixture, *arguments))
    with pytest.raises(ValueError, match="form"):
        solvers.solve(mixture, x, grid, form="integrals")
    assert np.isfinite(float(end(mixture, x, 1, "deis").sum()))
