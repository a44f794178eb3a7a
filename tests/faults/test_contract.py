"""Every public function gets nonsense in place of each of its arguments: it gives a value or one of
the documented errors, and says so soon."""

import math

import pytest
import torch

from uturn_lib import api
from uturn_lib.measures import correlation, gaussianity, quality, retention
from uturn_lib.noise import karras_sigmas

hypothesis = pytest.importorskip("hypothesis")  # in the extra [dev]
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from scale import LONG  # noqa: E402

DOCUMENTED = (ValueError, TypeError, OSError, FloatingPointError)
DTYPES = [torch.float16, torch.float32, torch.float64, torch.bfloat16]
DTYPES += [torch.int64, torch.uint8, torch.bool, torch.complex64]
SETTINGS = settings(
    max_examples=60 if LONG else 4,
    deadline=None,
    derandomize=not LONG,
    suppress_health_check=list(HealthCheck),
)


@st.composite
def tensors(draw):
    """Any shape of up to four dimensions, any dtype, with values that nobody expects."""
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    dtype = draw(st.sampled_from(DTYPES))
    value = draw(st.sampled_from([0.0, 1.0, -1.0, 0.5, 1e30, math.nan, math.inf, 255.0]))
    made = torch.full(shape, value, dtype=torch.float64)
    return (made + torch.arange(made.numel()).reshape(shape) * draw(st.sampled_from([0, 0.1]))).to(
        dtype
    )


NONSENSE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 5),
    st.sampled_from([-(2**63), 2**63, 10**30, 0.0, -0.5, 0.3, 1e300, 1e-300, math.nan, math.inf]),
    st.sampled_from(["", "cuda", "cuda:7", "mps", "cpu:x", "../..", "a\0b", "é \n", "x" * 5000]),
    st.lists(st.floats(), max_size=4),
    st.just({}),
    st.just(object()),
    tensors(),
)


def digits():
    return torch.rand(6, 5, generator=torch.Generator().manual_seed(0)) * 2 - 1


def gaussian():
    return api.GaussianDenoiser(torch.zeros(5), torch.eye(5))


def cases():
    """name -> (function, good arguments)"""
    x, one = digits(), gaussian()
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    means, many = torch.randn(3, 5), torch.eye(5).expand(3, 5, 5)
    quick = {"steps": 3, "method": "sde", "seed": 0, "labels": None, "batch_size": 4}
    pairs = {"x0": x, "y0": x.flip(0)}
    found = {
        "karras_sigmas": (karras_sigmas, {"steps": 4, "sigma_max": 3.0, "sigma_min": 0.002,
                                          "rho": 7.0}),
        "GaussianDenoiser": (api.GaussianDenoiser, {"mean": means[0], "covariance": many[0]}),
        "GaussianDenoiser()": (one, {"x": x, "sigma": 1.0, "labels": None}),
        "GaussianMixtureDenoiser": (api.GaussianMixtureDenoiser, {
            "weights": torch.ones(3) / 3, "means": means, "covariances": many}),
        "EmpiricalDenoiser": (api.EmpiricalDenoiser, {"images": x}),
        "EmpiricalDenoiser()": (api.EmpiricalDenoiser(x), {"x": x, "sigma": 1.0}),
        "LocalDenoiser": (api.LocalDenoiser, {"images": x.reshape(6, 1, 5, 1).expand(-1, 1, 5, 5)}),
        "score": (api.score, {"denoiser": one, "x": x, "sigma": 1.0}),
        "noise_prediction": (api.noise_prediction, {"denoiser": one, "x": x, "sigma": 1.0}),
        "velocity": (api.velocity, {"denoiser": one, "x": x, "sigma": 1.0}),
        "u_turn": (api.u_turn, {"denoiser": one, "x0": x, "sigma_u": 1.0} | quick),
        "g_turn": (api.g_turn, {"denoiser": one, "gaussian": one, "count": 2, "sigma_u": 1.0,
                                "steps": 3}),
        "artificial_start": (api.artificial_start, {"denoiser": one, "count": 2, "sigma_u": 1.0,
                                                    "steps": 3}),
        "reverse": (lambda **a: list(api.reverse(**a)), {
            "denoiser": one, "x": x, "sigmas": karras_sigmas(3, 2.0), "method": "sde",
            "seeds": list(range(6)), "labels": None}),
        "Sampler": (api.Sampler, {"method": "sde", "steps": 4, "batch_size": 8}),
        "load_data": (api.load_data, {"name": "digits", "split": "test"}),
        "load_profile": (api.load_profile, {"name": "laptop"}),
        "load_denoiser": (api.load_denoiser, {"name_or_path": "mnist", "device": "cpu"}),
        "load_classifier": (api.load_classifier, {"name_or_path": "mnist-classifier",
                                                  "device": "cpu"}),
        "load_noise_classifier": (api.load_noise_classifier, {
            "name_or_path": "mnist-noise-classifier", "device": "cpu"}),
        "uturn_correlation": (correlation.uturn_correlation, pairs),
        "gaussian_correlation": (correlation.gaussian_correlation, {
            "eigenvalues": torch.ones(5), "sigma": 1.0, "method": "sde"}),
        "ks_statistic": (gaussianity.ks_statistic, {"samples": x}),
        "ks_fraction": (gaussianity.ks_fraction, {"samples": x}),
        "frechet_distance": (quality.frechet_distance, {"a": x, "b": x + 1}),
        "kernel_distance": (quality.kernel_distance, {"a": x, "b": x + 1}),
        "nearest_index": (retention.nearest_index, {"samples": x, "reference": x}),
        "identity_retained": (retention.identity_retained, {"y0": x, "reference": x,
                                                            "own_index": labels}),
        "transition": (retention.transition, {"sigmas": [0.1, 1.0, 10.0],
                                              "retained": torch.rand(3, 20) < 0.5, "level": 0.5}),
    }  # fmt: skip
    return found


CASES = cases()


@pytest.mark.parametrize("name", CASES)
def test_nonsense_gives_a_value_or_a_documented_error(name):
    function, good = CASES[name]
    refused = []

    @SETTINGS
    @given(st.data())
    def call(data):
        for argument in good:
            wrong = data.draw(NONSENSE, label=argument)
            try:
                function(**(good | {argument: wrong}))
            except DOCUMENTED as error:
                refused.append(str(error))

    function(**good)
    call()
    assert refused and all(refused)  # every error says something
