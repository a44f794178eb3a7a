"""The samplers against closed forms, against their stated orders, and against another
implementation."""

import csv
import math

import numpy as np
import pytest
import torch

from uturn_lib import GaussianDenoiser, artificial_start, karras_sigmas, reverse, sampling, u_turn
from uturn_lib.measures import correlation
from uturn_lib.measures.exchangeability import exchangeability_p_value
from uturn_lib.methods import Churn, correction_weight
from uturn_lib.noise import reverse_sde_sigmas, turn_sigmas
from uturn_lib.sampling import final
from uturn_lib.seeding import NoiseStream
from uturn_lib.support.places import ROOT

LEVELS = [0.05, 0.4, 1.0, 3.0, 40.0]  # from sigma_u << sqrt(lambda) to sigma_u >> sqrt(lambda)


def standard_error_of_ratio(numerator, denominator):
    """Delta method for sum(numerator) / sum(denominator)."""
    ratio = numerator.sum() / denominator.sum()
    return float(
        (numerator - ratio * denominator).std() / (denominator.mean() * math.sqrt(len(numerator)))
    )


@pytest.mark.parametrize("method", ["sde", "ode"])
@pytest.mark.parametrize("sigma_u", LEVELS)
@pytest.mark.parametrize("centred", [True, False])
def test_uturn_correlation_of_gaussian_data_is_the_closed_form(gaussian, method, sigma_u, centred):
    x0 = gaussian.sample(range(10_000))
    turned = u_turn(gaussian, x0, sigma_u, steps=48, method=method, batch_size=10_000)
    mean = gaussian.mean if centred else None
    measured = correlation.uturn_correlation(x0, turned.y0, mean)
    norm2 = 0.0 if centred else float(gaussian.mean.square().sum())
    expected = correlation.gaussian_correlation(gaussian.eigenvalues, sigma_u, norm2, method)
    error = standard_error_of_ratio(*correlation.correlation_terms(x0, turned.y0, mean))
    assert abs(measured - expected) < 3 * error
    assert error < 0.02  # so that 3 of them mean something


@pytest.mark.parametrize("method, power", [("sde", 1.0), ("ode", 0.5)])
@pytest.mark.parametrize("sigma_u", [0.5, 2.0, 10.0])
def test_artificial_starts_have_the_predicted_mean_and_covariance(gaussian, method, power, sigma_u):
    count = 20_000
    result = artificial_start(gaussian, count, sigma_u, steps=96, method=method, batch_size=count)
    modes = result.y0.double() @ gaussian.eigenvectors
    kept = (gaussian.eigenvalues / (gaussian.eigenvalues + sigma_u**2)) ** power
    mean = (gaussian.mean @ gaussian.eigenvectors) * (1 - kept)
    variance = gaussian.eigenvalues * (1 - kept**2)
    assert ((modes.mean(0) - mean).abs() < 4 * (variance / count).sqrt() + 2e-3).all()
    covariance = torch.cov(modes.T)
    error = (torch.outer(variance, variance) / count).sqrt() * (1 + torch.eye(6)).sqrt()
    # 4 standard errors for 21 entries, and 0.5 % for the discretisation at 96 steps
    assert ((covariance - torch.diag(variance)).abs() < 4 * error + 0.005 * variance).all()


@pytest.mark.parametrize("sigma_u", LEVELS)
def test_ode_output_of_gaussian_data_is_the_affine_map(gaussian, sigma_u):
    x0 = gaussian.sample(range(20))
    turned = u_turn(gaussian, x0, sigma_u, steps=400, method="ode")
    root = (gaussian.eigenvalues / (gaussian.eigenvalues + sigma_u**2)).sqrt()
    modes = (turned.x_u - gaussian.mean) @ gaussian.eigenvectors
    expected = gaussian.mean + (modes * root) @ gaussian.eigenvectors.T
    torch.testing.assert_close(turned.y0, expected, atol=3e-4, rtol=0)


def slopes(steps, errors):
    return -np.diff(np.log(errors)) / np.diff(np.log(steps))


def test_heun_converges_at_order_two(mixture):
    start = 3.0 * torch.tensor([[0.7, -0.2], [-1.0, 0.4], [0.1, 1.2]], dtype=torch.float64)
    grids = [karras_sigmas(n, 3.0, sigma_min=1e-4, rho=3.0) for n in (1600, 25, 50, 100, 200)]
    exact, *results = [final(reverse(mixture, start, grid, "ode")) for grid in grids]
    errors = [float((result - exact).norm()) for result in results]
    np.testing.assert_allclose(slopes([25, 50, 100, 200], errors), 2.0, atol=0.35)


class ControlledNoise:
    """Noise that hits one sample per step: sample j feels a unit impulse at step j. The sampler is
    linear on Gaussian data, so the impulse responses give the output's variance exactly, without
    any Monte Carlo error."""

    def __init__(self, seeds, sample_shape, device="cpu", dtype=torch.float64):
        self.count, self.step = len(seeds), 0

    def normal(self):
        self.step += 1
        return (torch.arange(self.count) == self.step).double()[:, None]


def output_moments(monkeypatch, eigenvalue, sigma_u, steps, sigma_min=0.002):
    """(response to x_u, variance of the output) of the "sde" sampler for one mode of variance
    ``eigenvalue``."""
    monkeypatch.setattr(sampling, "NoiseStream", ControlledNoise)
    denoiser = GaussianDenoiser(torch.zeros(1), torch.tensor([[eigenvalue]], dtype=torch.float64))
    start = torch.zeros(steps + 1, 1, dtype=torch.float64)
    start[0] = 1.0
    response = final(
        reverse(denoiser, start, karras_sigmas(steps, sigma_u, sigma_min), "sde", range(steps + 1))
    )[:, 0]
    return float(response[0]), float(
        response[0] ** 2 * (eigenvalue + sigma_u**2) + (response[1:] ** 2).sum()
    )


@pytest.mark.parametrize("eigenvalue, sigma_u", [(1.0, 0.5), (1.0, 3.0), (0.05, 3.0), (20.0, 80.0)])
def test_sde_sampler_converges_at_weak_order_two(monkeypatch, eigenvalue, sigma_u):
    steps, errors = [64, 128, 256, 512], []
    for n in steps:
        # a small sigma_min: the noise that the last step leaves out would otherwise hide the order
        response, variance = output_moments(monkeypatch, eigenvalue, sigma_u, n, sigma_min=1e-4)
        # for affine D, E[y_0 | x_u] is exact at any number of steps: D is a martingale along the
        # reverse SDE
        assert response == pytest.approx(eigenvalue / (eigenvalue + sigma_u**2), rel=1e-9)
        errors.append(abs(variance / eigenvalue - 1))
    assert errors[0] < 0.02
    np.testing.assert_allclose(slopes(steps, errors), 2.0, atol=0.35)


def test_sde_sampler_converges_at_weak_order_two_where_the_denoiser_is_not_affine(monkeypatch):
    """Two unequal clouds on a line: the errors of four moments of the output, from many samples and
    seeded vector noise."""
    from uturn_lib import GaussianMixtureDenoiser

    generator = torch.Generator().manual_seed(0)

    class Vector(ControlledNoise):
        def normal(self):
            return torch.randn(self.count, 1, generator=generator, dtype=torch.float64)

    monkeypatch.setattr(sampling, "NoiseStream", Vector)
    pair = GaussianMixtureDenoiser([0.7, 0.3], [[-1.0], [1.5]], [0.3, 0.1])
    count, sigma_u = 400_000, 2.5
    upper = torch.rand(count, generator=generator) < 0.3
    deviation = torch.where(upper, 0.1**0.5, 0.3**0.5) * torch.randn(count, generator=generator)
    x0 = (torch.where(upper, 1.5, -1.0) + deviation).double()[:, None]
    x_u = x0 + sigma_u * torch.randn(count, 1, generator=generator, dtype=torch.float64)
    means, variances, weights = (
        torch.tensor([-1.0, 1.5]),
        torch.tensor([0.3, 0.1]),
        torch.tensor([0.7, 0.3]),
    )
    exact = [
        float((weights * means).sum()),
        float((weights * (means**2 + variances)).sum()),
        float((weights * (means**3 + 3 * means * variances)).sum()),
        float((weights * (means**4 + 6 * means**2 * variances + 3 * variances**2)).sum()),
    ]
    errors = []
    for steps in (8, 16, 32):
        y0 = final(reverse(pair, x_u, karras_sigmas(steps, sigma_u), "sde", range(count)))
        # x_0 has the same law: its moments as a control take away what this set of samples does to
        # both
        errors.append([abs(float((y0**k).mean()) - exact[k - 1]) for k in (1, 2, 3, 4)])
    errors = np.array(errors)
    noise = np.array([float((x0**k).std()) / math.sqrt(count) for k in (1, 2, 3, 4)])
    assert (errors[0, [1, 3]] > 20 * noise[[1, 3]]).all()  # at 8 steps the error is plain
    assert (
        errors[2] < errors[0] / 16 * 2 + 3 * noise
    ).all()  # four times the steps: a sixteenth of it, within a factor 2


def correction_weights(grid):
    """The weight c of "sde" in every step of ``grid``: 0 in the first one."""
    levels = [float(level) for level in grid]
    later = zip(levels, levels[1:], levels[2:], strict=False)
    return [0.0] + [correction_weight(r, s, t, levels[0]) for r, s, t in later]


def gaussian_output_variances(eigenvalues, sigma_u, grid, weights):
    """Variances over ``eigenvalues`` (D,) of x <- r x + (1 - r) D + c (D - D_prev) + u sqrt(1 - r)
    xi, from its response to each xi."""
    values = np.asarray(eigenvalues)[:, None]
    steps, before = len(grid) - 1, 0.0
    x = np.zeros((len(values), steps))
    x[:, 0] = np.sqrt(
        values[:, 0] + sigma_u**2
    )  # column 0: the start; column i: the noise of step i
    for i, (t, u, c) in enumerate(zip(grid[:-1], grid[1:], weights, strict=True)):
        denoised, r = values / (values + t**2) * x, (u / t) ** 2
        x = r * x + (1 - r) * denoised + (c * (denoised - before) if i else 0.0)
        if u > 0:
            x[:, i + 1] += u * math.sqrt(1 - r)
        before = denoised
    return (x**2).sum(1) / values[:, 0]


def multistep_weights(grid):
    """SDE-DPM-Solver++ 2M (Lu et al. 2022; diffusers): (1 - r) h / (2 h_before) with h = log(t /
    u), Euler into 0."""
    h = [math.log(t / u) for t, u in zip(grid[:-2], grid[1:-1], strict=True)]
    return (
        [0.0]
        + [-math.expm1(-2 * new) * new / (2 * old) for old, new in zip(h, h[1:], strict=False)]
        + [0.0]
    )


EIGENVALUES = {
    "about one": np.geomspace(0.02, 20, 25),
    "digits": 20
    * np.arange(1, 400) ** -1.3,  # power laws like those of MNIST and CIFAR-10 in [-1, 1]
    "photographs": 220 * np.arange(1, 3000) ** -1.15,
}


@pytest.mark.parametrize("spectrum", EIGENVALUES)
@pytest.mark.parametrize("sigma_u", [0.5, 1.5, 4.0, 80.0])
def test_with_few_calls_the_covariance_is_better_than_that_of_other_one_call_schemes(
    spectrum, sigma_u
):
    """Against the ancestral step (DDPM) and the two-step solver of Lu et al. on the Karras grid. On
    our grid that solver is at best a little better, where both are good (a spectrum around one,
    turned at 0.5 or 1.5)."""
    values = EIGENVALUES[spectrum]
    for steps in (8, 12, 16, 24, 32, 64):
        karras, ours = (
            turn_sigmas(steps, sigma_u).tolist(),
            reverse_sde_sigmas(steps, sigma_u).tolist(),
        )
        errors = {}
        for name, grid, weights in (
            ("ours", ours, correction_weights(ours)),
            ("ddpm", karras, [0.0] * steps),
            ("ddpm on our grid", ours, [0.0] * steps),
            ("2m", karras, multistep_weights(karras)),
            ("2m on our grid", ours, multistep_weights(ours)),
        ):
            variances = gaussian_output_variances(values, sigma_u, grid, weights)
            errors[name] = np.linalg.norm(values * (variances - 1)) / np.linalg.norm(values)
        assert errors["ours"] < min(errors["ddpm"], errors["2m"]) + 2e-5, (steps, errors)
        assert errors["ours"] < min(errors["ddpm on our grid"], 1.6 * errors["2m on our grid"]), (
            steps,
            errors,
        )


def test_the_response_to_single_noises_is_that_of_the_sampler_itself(monkeypatch):
    """So that the comparison above is about our sampler."""
    monkeypatch.setattr(sampling, "NoiseStream", ControlledNoise)
    for sigma_u, steps, eigenvalue in (
        (1.5, 8, 0.3),
        (80.0, 12, 5.0),
        (0.5, 1, 1.0),
        (0.5, 2, 1.0),
    ):
        grid = reverse_sde_sigmas(steps, sigma_u)
        denoiser = GaussianDenoiser(
            torch.zeros(1), torch.tensor([[eigenvalue]], dtype=torch.float64)
        )
        start = torch.zeros(steps + 1, 1, dtype=torch.float64)
        start[0] = math.sqrt(eigenvalue + sigma_u**2)
        response = final(reverse(denoiser, start, grid, "sde", range(steps + 1)))[:, 0]
        weights = correction_weights(grid.tolist())
        expected = gaussian_output_variances([eigenvalue], sigma_u, grid.tolist(), weights)[0]
        assert float(response.square().sum()) / eigenvalue == pytest.approx(expected, rel=1e-12)
        # E[y_0 | x_u] of affine D is exact at any number of steps, one included
        kept = float(response[0] / start[0])
        assert kept == pytest.approx(eigenvalue / (eigenvalue + sigma_u**2), rel=1e-9)


def test_weights_tend_to_what_order_two_demands():
    grid = turn_sigmas(4000, 2.0).tolist()
    e = np.array([1 - (u / t) ** 2 for t, u in zip(grid[:-3], grid[1:-2], strict=True)])
    weights = np.array(correction_weights(grid))
    assert weights[0] == 0 and weights[-1] == 1 and len(weights) == 4000
    np.testing.assert_allclose(weights[1:-1] / (e / 2), 1, atol=e.max())


def test_sde_variance_error_at_the_number_of_steps_that_figures_use(monkeypatch):
    for eigenvalue in (0.01, 0.3, 1.0, 10.0):
        _, variance = output_moments(monkeypatch, eigenvalue, 80.0, 48)
        assert abs(variance / eigenvalue - 1) < 0.025


def test_edm_without_churn_is_the_ode(mixture):
    start = torch.randn(4, 2, dtype=torch.float64) * 3
    sigmas = karras_sigmas(30, 3.0)
    edm = final(reverse(mixture, start, sigmas, "edm", range(4), churn=Churn(s_churn=0)))
    torch.testing.assert_close(edm, final(reverse(mixture, start, sigmas, "ode")))


def correlations_with_first(states):
    """<x_i, x_0> / <x_0, x_0> along a path, summed over samples before dividing."""
    first = states[0].double()
    return np.array(
        [float((state.double() * first).sum() / first.square().sum()) for state in states]
    )


def test_edm_reproduces_the_schedule_correlation_of_its_churn(monkeypatch):
    """Where D is negligible the first state is only rescaled: exact when the fresh noise is
    switched off, and so the whole algorithm's bookkeeping of the churn is tested to rounding."""

    class Silence(ControlledNoise):
        def normal(self):
            return torch.zeros(self.count, 1, dtype=torch.float64)

    monkeypatch.setattr(sampling, "NoiseStream", Silence)
    sigmas, churn = karras_sigmas(256, 80.0), Churn()
    states = [
        step.x
        for step in reverse(
            lambda x, sigma, labels=None: torch.zeros_like(x),
            torch.ones(1, 1),
            sigmas,
            "edm",
            [0],
            churn=churn,
        )
    ]
    measured = correlations_with_first(states)
    np.testing.assert_allclose(
        measured, correlation.schedule_correlation(sigmas, churn.raised(sigmas)), atol=1e-12
    )


def test_edm_path_correlation_in_high_dimension_with_real_noise():
    sigmas, churn = karras_sigmas(64, 80.0), Churn()
    start = 80 * NoiseStream([1], (100_000,)).normal()
    data = GaussianDenoiser(
        torch.zeros(1), torch.ones(1, 1)
    )  # every coordinate N(0, 1): |D| << noise until the very end
    columns = lambda x, sigma, labels=None: data(x.reshape(-1, 1), sigma).reshape(x.shape)  # noqa: E731
    states = [step.x for step in reverse(columns, start, sigmas, "edm", [5], churn=churn)]
    measured = correlations_with_first(states)
    predicted = correlation.schedule_correlation(sigmas, churn.raised(sigmas))
    # 4 standard errors of an inner product of 100,000 coordinates, and |D| <= 1/80 of the state
    assert np.abs(measured - predicted).max() < 4 / math.sqrt(100_000) + 1 / 80


def published_curves():
    with open(ROOT / "notebooks" / "published" / "imagenet64_authors.csv") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def test_schedule_correlation_is_the_published_curve():
    """The authors' corr_first, read off their plot; it is relative to the state after the first
    step."""
    rows = published_curves()
    sigmas, churn = karras_sigmas(256, 80.0), Churn()
    np.testing.assert_allclose([float(row["sigma"]) for row in rows], sigmas[1:], atol=6e-5)
    curve = correlation.schedule_correlation(sigmas, churn.raised(sigmas))[1:]
    assert np.abs(curve / curve[0] - [float(row["corr_first"]) for row in rows]).max() < 1e-3


def test_churned_gaussian_correlation_is_what_the_edm_sampler_does(monkeypatch):
    """Response of a mode to its start under "edm" with the fresh noise switched off, against the
    product formula."""

    class Silence(ControlledNoise):
        def normal(self):
            return torch.zeros(self.count, 1, dtype=torch.float64)

    monkeypatch.setattr(sampling, "NoiseStream", Silence)
    sigmas, churn = karras_sigmas(2000, 4.0), Churn(s_churn=40.0)
    for eigenvalue in (0.1, 1.0, 9.0):
        denoiser = GaussianDenoiser(
            torch.zeros(1), torch.tensor([[eigenvalue]], dtype=torch.float64)
        )
        response = float(
            final(reverse(denoiser, torch.ones(1, 1), sigmas, "edm", [0], churn=churn))
        )
        formula = correlation.churned_gaussian_correlation(
            [eigenvalue], sigmas, churn.raised(sigmas)
        )
        assert response == pytest.approx(formula, rel=2e-3)
    # without churn it is the closed form of the ODE
    plain = correlation.churned_gaussian_correlation([0.1, 1.0, 9.0], sigmas, sigmas[:-1])
    assert plain == pytest.approx(
        correlation.gaussian_correlation([0.1, 1.0, 9.0], 4.0, method="ode"), rel=1e-6
    )


def pairs_on(mixture, sigma_u, count=20_000, steps=64):
    x0, _ = mixture.sample(range(50_000, 50_000 + count))
    turned = u_turn(mixture, x0, sigma_u, steps=steps, seed=7, batch_size=count)
    return x0, turned.y0


@pytest.mark.parametrize("sigma_u", [0.5, 2.0])
def test_pairs_are_exchangeable_on_a_mixture(mixture, sigma_u):
    assert exchangeability_p_value(*pairs_on(mixture, sigma_u)) > 0.01


@pytest.mark.parametrize("sigma_u", [0.5, 2.0])
def test_the_exchangeability_check_sees_a_planted_error(mixture, sigma_u, monkeypatch):
    """A sampler that injects 20 % too much noise: means are right, correlations too, but it is not
    reversible."""

    class TooLoud(NoiseStream):
        def normal(self):
            return 1.2 * super().normal()

    monkeypatch.setattr(sampling, "NoiseStream", TooLoud)
    assert exchangeability_p_value(*pairs_on(mixture, sigma_u)) < 1e-6


def test_the_exchangeability_check_sees_starts_that_are_not_from_the_data(mixture):
    """The kernel is right, but x_0 has another law than y_0: the pair is not exchangeable."""
    x0, _ = mixture.sample(range(20_000))
    turned = u_turn(mixture, x0 + 0.5, 0.5, steps=40, batch_size=20_000)
    assert exchangeability_p_value(x0 + 0.5, turned.y0) < 1e-6


def test_exchangeability_p_values_are_uniform_on_exchangeable_pairs():
    generator = torch.Generator().manual_seed(0)
    values = []
    for _ in range(200):
        common = torch.randn(500, 2, generator=generator)
        values.append(
            exchangeability_p_value(
                common + torch.randn(500, 2, generator=generator),
                common + torch.randn(500, 2, generator=generator),
            )
        )
    assert 0.01 <= np.mean(np.array(values) < 0.1) <= 0.2
    assert 0.35 < np.median(values) < 0.65


def test_agreement_with_the_edm_scheduler_of_diffusers(tiny_network):
    """Same network, same grid: our preconditioning and Heun steps, against theirs assembled from
    their Euler scheduler."""
    from diffusers import EDMEulerScheduler

    scheduler = EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, sigma_data=0.5, rho=7.0)
    scheduler.set_timesteps(12)
    sigmas = karras_sigmas(12, 80.0)
    np.testing.assert_allclose(scheduler.sigmas, sigmas, rtol=2e-5, atol=1e-7)

    def denoise(x, sigma):
        inputs = scheduler.precondition_inputs(x, sigma)
        output = tiny_network.raw(
            inputs, scheduler.precondition_noise(torch.tensor(sigma)).expand(len(x))
        )
        return scheduler.precondition_outputs(x, output, torch.tensor(sigma))

    start = 80 * NoiseStream(range(3), (1, 8, 8), dtype=torch.float32).normal()
    ours = list(reverse(tiny_network, start, sigmas, "ode"))
    for step, after in zip(ours[:-1], ours[1:], strict=True):
        x, t, u = step.x.float(), step.sigma, after.sigma
        torch.testing.assert_close(denoise(x, t), step.denoised.float(), rtol=1e-4, atol=2e-4)
        slope = (x - denoise(x, t)) / t
        if u > 0:
            predicted = x + (u - t) * slope
            slope = (slope + (predicted - denoise(predicted, u)) / u) / 2
        torch.testing.assert_close(x + (u - t) * slope, after.x.float(), rtol=1e-4, atol=5e-4)


def test_the_euler_part_agrees_with_a_whole_run_of_the_diffusers_scheduler(tiny_network):
    """Their scheduler's own loop (scale, call, step), at many steps, converges to our Heun
    solution."""
    from diffusers import EDMEulerScheduler

    start = 5 * NoiseStream(range(2), (1, 8, 8), dtype=torch.float32).normal()
    exact = final(reverse(tiny_network, start, karras_sigmas(200, 5.0), "ode"))
    errors = []
    for steps in (50, 100, 200):
        scheduler = EDMEulerScheduler(sigma_min=0.002, sigma_max=5.0, sigma_data=0.5, rho=7.0)
        scheduler.set_timesteps(steps)
        x = start.clone()
        for time in scheduler.timesteps:
            output = tiny_network.raw(scheduler.scale_model_input(x, time), time.expand(len(x)))
            x = scheduler.step(output, time, x).prev_sample
        errors.append(float((x - exact).norm() / exact.norm()))
    np.testing.assert_allclose(
        slopes([50, 100, 200], errors), 1.0, atol=0.3
    )  # Euler: order 1, towards our result
    assert errors[-1] < 0.05


def test_steps_report_the_path(mixture):
    sigmas = karras_sigmas(9, 2.0)
    start = torch.randn(5, 2, dtype=torch.float64)
    for method in ("sde", "ode"):
        steps = list(reverse(mixture, start, sigmas, method, range(5)))
        assert [step.index for step in steps] == list(range(10))
        assert [step.sigma for step in steps] == sigmas.tolist()
        torch.testing.assert_close(steps[0].x, start, rtol=0, atol=0)
        for step in steps:
            assert step.x.dtype == torch.float64
            torch.testing.assert_close(step.denoised, mixture(step.x, step.sigma))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(method="dde"), "method"),
        (dict(seeds=None), "seeds"),
        (dict(seeds=[1]), "seeds"),
        (dict(sigmas=torch.tensor([1.0, 2.0, 0.0])), "sigmas"),
        (dict(sigmas=torch.tensor([1.0, 0.5])), "sigmas"),
        (dict(sigmas=torch.tensor([float("nan"), 0.0])), "sigmas"),
        (dict(churn=Churn()), "churn"),
        (dict(x=torch.zeros(2, 3)), "x has shape"),
    ],
)
def test_bad_arguments_are_refused_before_the_first_step(mixture, arguments, message):
    good = dict(x=torch.zeros(2, 2), sigmas=karras_sigmas(4, 2.0), method="sde", seeds=[0, 1])
    with pytest.raises(ValueError, match=message):
        reverse(mixture, **(good | arguments))


def test_a_nan_from_the_denoiser_stops_the_run():
    def broken(x, sigma, labels=None):
        return torch.full_like(x, float("nan")) if sigma < 0.5 else torch.zeros_like(x)

    for method in ("sde", "ode", "edm"):
        with pytest.raises(FloatingPointError, match="NaN or infinity at sigma"):
            final(reverse(broken, torch.zeros(3, 2), karras_sigmas(8, 2.0), method, range(3)))
