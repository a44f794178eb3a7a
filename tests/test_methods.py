"""Every registered reverse process, and the Sampler that names it."""

import json
import math
import pickle
from dataclasses import FrozenInstanceError, replace

import pytest
import torch

from uturn_lib import (
    Churn,
    GaussianDenoiser,
    Sampler,
    artificial_start,
    g_turn,
    karras_sigmas,
    reverse,
    sampling,
    u_turn,
)
from uturn_lib.methods import METHODS, register
from uturn_lib.sampling import final, sampling_grid

ALL = list(METHODS)
DETERMINISTIC = [name for name, method in METHODS.items() if not method.draws_noise]


class Counted:
    """A denoiser that keeps the levels of its calls."""

    def __init__(self, denoiser):
        self.denoiser, self.levels, self.sample_shape = denoiser, [], denoiser.sample_shape

    def __call__(self, x, sigma, labels=None):
        self.levels.append(float(sigma))
        return self.denoiser(x, sigma, labels)


class UnitNoise:
    """Sample j feels a unit impulse at draw j, so responses of the (linear) sampler add up to its
    variance without Monte Carlo error."""

    def __init__(self, seeds, sample_shape, device="cpu"):
        self.count, self.draw = len(seeds), 0

    def normal(self):
        self.draw += 1
        return (torch.arange(self.count) == self.draw).double()[:, None]


@pytest.mark.parametrize("name", ALL)
def test_order_of_convergence(name, monkeypatch):
    """One Gaussian mode of variance 1 from its exact noisy distribution at sigma_u = 3: the error
    of the output's variance, at the state on the level ``stop`` above 0, where it should be 1 +
    stop^2."""
    monkeypatch.setattr(sampling, "NoiseStream", UnitNoise)
    denoiser, sigma_u, stop = GaussianDenoiser(torch.zeros(1), torch.ones(1, 1)), 3.0, 0.1
    churn = Churn(s_churn=5.0, s_noise=1.0) if METHODS[name].perturb else None
    steps, errors = (64, 128, 256), []
    for n in steps:
        x = torch.zeros(n + 1, 1, dtype=torch.float64)
        x[0] = math.sqrt(1 + sigma_u**2)
        *_, last, _ = reverse(
            denoiser, x, karras_sigmas(n, sigma_u, stop), name, range(n + 1), churn=churn
        )
        errors.append(abs(float((last.x**2).sum()) / (1 + stop**2) - 1))
    orders = [math.log2(a / b) for a, b in zip(errors, errors[1:], strict=False)]
    assert orders[-1] == pytest.approx(METHODS[name].order, abs=0.3), (errors, orders)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_calls_are_those_announced(name, steps, mixture):
    counted, sampler = Counted(mixture), Sampler(name, steps)
    grid = sampling_grid(mixture, steps, 5.0, name)
    final(reverse(counted, torch.zeros(1, 2), grid, name, seeds=[0]))
    assert len(counted.levels) == METHODS[name].calls_in(steps) == sampler.calls
    assert sampler.calls == METHODS[name].calls * (steps - 1) + 1  # the step into 0 takes one call


@pytest.mark.parametrize("name", ALL)
def test_u_turn_runs_with_every_method(name, gaussian):
    """With many steps the U-Turn of Gaussian data has the right mean and variances whatever the
    method."""
    x0 = gaussian.sample(range(4000))
    churn = Churn(s_noise=1.0) if name == "edm" else None
    y0 = u_turn(gaussian, x0, 1.5, Sampler(name, 100, 4000, churn)).y0
    modes = (y0.double() - gaussian.mean) @ gaussian.eigenvectors
    assert (modes.mean(0).abs() < 4 * (gaussian.eigenvalues / 4000).sqrt() + 2e-3).all()
    # 4 standard errors; 4 % for Euler's method at 100 steps
    assert ((modes.var(0) / gaussian.eigenvalues - 1).abs() < 4 * math.sqrt(2 / 4000) + 0.04).all()


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_deterministic_methods_need_no_seeds_and_end_on_the_flow(name, gaussian):
    """Closed form: y_0 = mu + sqrt(lambda / (lambda + sigma^2)) (x_u - mu) in each mode."""
    x, sigma_u = gaussian.sample(range(20), 2.0), 2.0
    y0 = final(reverse(gaussian, x, sampling_grid(gaussian, 200, sigma_u, name), name))
    root = (gaussian.eigenvalues / (gaussian.eigenvalues + sigma_u**2)).sqrt()
    exact = (
        gaussian.mean
        + ((x - gaussian.mean) @ gaussian.eigenvectors * root) @ gaussian.eigenvectors.T
    )
    tolerance = 0.05 if METHODS[name].order == 1 else 2e-3
    torch.testing.assert_close(y0, exact, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", [name for name in ALL if name not in DETERMINISTIC])
def test_methods_that_draw_noise_need_seeds(name, mixture):
    with pytest.raises(ValueError, match=f"seeds: none given for 2 samples; method '{name}'"):
        reverse(mixture, torch.zeros(2, 2), karras_sigmas(4, 2.0), name)


@pytest.mark.parametrize("name", ALL)
def test_a_method_says_what_it_is(name):
    method = METHODS[name]
    assert (
        method.name == name and method.paper and method.order in (1, 2) and method.calls in (1, 2)
    )
    first = method.update.__doc__.strip().splitlines()[0]
    assert first.startswith(("x_t = ", "x_hat = ")), first  # the formula comes first


@pytest.mark.parametrize("name", ALL)
def test_samplers_are_printable_hashable_and_equal_by_value(name):
    sampler = Sampler(name, 8)
    assert eval(repr(sampler)) == sampler and str(name) in str(sampler)
    assert sampler == Sampler(method=name, steps=8.0) and hash(sampler) == hash(Sampler(name, 8))
    assert sampler != Sampler(name, 9) and len({sampler, Sampler(name, 8), Sampler(name, 9)}) == 2
    assert pickle.loads(pickle.dumps(sampler)) == sampler
    with pytest.raises(FrozenInstanceError):
        sampler.steps = 3


@pytest.mark.parametrize("name", ALL)
def test_the_key_holds_what_the_result_depends_on(name):
    sampler = Sampler(name, 8)
    key = json.loads(json.dumps(sampler.key))
    assert Sampler(**key) == sampler
    assert replace(sampler, batch_size=7).key == sampler.key
    assert replace(sampler, steps=9).key != sampler.key


def test_the_key_of_edm_holds_its_churn():
    assert (
        Sampler("edm") == Sampler("edm", churn=Churn()) != Sampler("edm", churn=Churn(s_churn=1.0))
    )
    key = json.loads(json.dumps(Sampler("edm", churn=Churn(s_churn=1.0)).key))
    assert key["churn"]["s_churn"] == 1.0 and Sampler(**key).churn == Churn(s_churn=1.0)


@pytest.mark.parametrize(
    "settings, error, message",
    [
        (dict(method="rk4"), ValueError, "method = 'rk4'.*'sde'.*'dpmpp'"),
        (dict(steps=0), ValueError, "steps = 0"),
        (dict(steps=2.5), ValueError, "steps = 2.5"),
        (dict(batch_size=0), ValueError, "batch_size = 0"),
        (dict(churn=Churn()), ValueError, "churn is for method 'edm' only, not 'sde'"),
        (dict(method="edm", churn=40), TypeError, "churn = 40"),
    ],
)
def test_bad_settings_are_refused_at_once(settings, error, message):
    with pytest.raises(error, match=message):
        Sampler(**settings)


@pytest.mark.parametrize(
    "change", [dict(s_churn=-1.0), dict(s_min=2.0, s_max=1.0), dict(s_noise=math.nan)]
)
def test_bad_churn_is_refused(change):
    with pytest.raises(ValueError, match=f"Churn.*{next(iter(change))}"):
        Churn(**change)


RUNS = {
    "u_turn": lambda gaussian, *sampler, **settings: u_turn(
        gaussian, torch.zeros(3, 6), 1.5, *sampler, **settings
    ),
    "g_turn": lambda gaussian, *sampler, **settings: g_turn(
        gaussian, gaussian, 3, 1.5, *sampler, **settings
    ),
    "artificial_start": lambda gaussian, *sampler, **settings: artificial_start(
        gaussian, 3, 1.5, *sampler, **settings
    ),
}


@pytest.mark.parametrize("run", RUNS.values(), ids=list(RUNS))
def test_a_sampler_and_its_settings_say_the_same(run, gaussian):
    whole = run(gaussian, Sampler("dpmpp", 8, batch_size=2)).y0
    assert torch.equal(whole, run(gaussian, method="dpmpp", steps=8, batch_size=2).y0)
    assert torch.equal(
        run(gaussian).y0, run(gaussian, Sampler()).y0
    )  # the defaults are the Sampler's
    assert not torch.equal(whole, run(gaussian, method="dpmpp", steps=9).y0)


@pytest.mark.parametrize("run", RUNS.values(), ids=list(RUNS))
def test_conflicts_are_refused(run, gaussian):
    for setting in (dict(steps=8), dict(method="sde"), dict(batch_size=3), dict(churn=Churn())):
        with pytest.raises(ValueError, match=f"sampler and {next(iter(setting))} are given"):
            run(gaussian, Sampler(), **setting)
    for wrong in (8, "dpmpp"):
        with pytest.raises(
            TypeError, match=f"sampler = {wrong!r} must be a Sampler.*steps=.*method="
        ):
            run(gaussian, wrong)
    with pytest.raises(TypeError):
        run(gaussian, Sampler(), "sde")  # nothing but the sampler goes by position


def test_a_new_method_is_one_function(gaussian):
    """Registered for the length of this test: known to Sampler, reverse, the grid and u_turn at
    once."""

    @register("jump", order=1, calls=1, paper="a toy: Euler's step, written once more")
    def jump(leg, now, before, t):
        """x_t = (t/s) x + (1 - t/s) D"""
        return (t / now.sigma) * now.x + (1 - t / now.sigma) * now.denoised

    try:
        assert Sampler("jump", 5).calls == 5
        x0 = gaussian.sample(range(10))
        jumped, known = (
            u_turn(gaussian, x0, 1.5, Sampler(name, 12)).y0 for name in ("jump", "euler")
        )
        torch.testing.assert_close(jumped, known, rtol=0, atol=1e-6)
        with pytest.raises(ValueError, match="name = 'jump' is in use"):
            register("jump", order=1, calls=1, paper="another")(jump)
    finally:
        del METHODS["jump"]
    with pytest.raises(ValueError, match="method = 'jump'"):
        Sampler("jump")


def test_noise_without_being_registered_for_it_is_refused(gaussian):
    method = replace(METHODS["sde"], draws_noise=False)
    with pytest.raises(RuntimeError, match="draws_noise=True"):
        final(reverse(gaussian, torch.zeros(1, 6), karras_sigmas(3, 2.0), method))
