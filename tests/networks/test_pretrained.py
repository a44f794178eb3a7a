"""Checkpoints from elsewhere: pickles are read and never run, converted files are equal to them,
DDPM models are denoisers in sigma."""

import json
import os
import pickle
import subprocess
import sys
import textwrap
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
from edm_stand_in import (
    SOURCE,
    TINY_ADM,
    TINY_NCSN,
    TINY_SONG,
    edm_modules,
    random_network,
    write_edm_pickle,
)
from torch import nn

from uturn_lib import GaussianDenoiser, cli, load_denoiser, u_turn
from uturn_lib.networks import shipped_fingerprint
from uturn_lib.networks.checkpoints import UnsafeFile
from uturn_lib.networks.diffusers_format import DiscreteDenoiser, alphas_cumprod
from uturn_lib.networks.edm import pretrained
from uturn_lib.networks.edm.pickles import CALLS, read_pickle, suspicious
from uturn_lib.noise import ddpm_sigmas
from uturn_lib.support.files import read_json


def ddpm_alphas():
    """abar_t of the linear schedule."""
    return 1 / (1 + ddpm_sigmas() ** 2)


TINY = {"song": ("EDM", TINY_SONG), "ncsn": ("VE", TINY_NCSN), "adm": ("EDM", TINY_ADM)}


def same_answers(one, other):
    x = torch.randn(2, *one.sample_shape, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([1, 2]) if one.num_classes else None
    return all(
        torch.allclose(one(x, sigma, labels), other(x, sigma, labels))
        for sigma in (0.05, 1.0, 30.0)
    )


# ---------------------------------------------------------------------------------------- EDM files


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_a_pickled_network_is_read_without_the_code_that_wrote_it(name, protocol, tmp_path):
    made = random_network(*TINY[name])
    path = write_edm_pickle(tmp_path / "tiny.pkl", made, protocol=protocol)
    assert "torch_utils" not in sys.modules
    found = load_denoiser(path, "cpu")
    assert same_answers(made, found)
    assert (found.kind, found.sample_shape, found.num_classes, found.sigma_range) == (
        made.kind,
        made.sample_shape,
        made.num_classes,
        made.sigma_range,
    )
    assert found.fingerprint == shipped_fingerprint(path)


def test_a_fingerprint_is_kept_by_the_content_of_the_file(tmp_path, monkeypatch):
    first, second = list(TINY)[:2]
    opened, original = [], pretrained.open_edm
    monkeypatch.setattr(pretrained, "open_edm", lambda path: opened.append(path) or original(path))
    one = write_edm_pickle(tmp_path / "one.pkl", random_network(*TINY[first]))
    other = write_edm_pickle(tmp_path / "other.pkl", random_network(*TINY[second]))
    prints = [shipped_fingerprint(path) for path in (one, other)]
    assert len(opened) == 2 and prints[0] != prints[1]
    one.rename(tmp_path / "renamed.pkl")
    other.rename(one)
    assert [shipped_fingerprint(tmp_path / "renamed.pkl"), shipped_fingerprint(one)] == prints
    assert len(opened) == 2  # neither was opened again, though the names have changed hands
    assert load_denoiser(one, "cpu").fingerprint == prints[1]


@pytest.mark.parametrize("name", TINY)
def test_the_converted_file_gives_exactly_the_same(name, tmp_path, capsys):
    path = write_edm_pickle(tmp_path / "tiny.pkl", random_network(*TINY[name]))
    assert cli.main(["convert", str(path), str(tmp_path / "converted")]) == 0
    assert sorted(file.name for file in (tmp_path / "converted").iterdir()) == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
    ]
    direct, converted = load_denoiser(path, "cpu"), load_denoiser(tmp_path / "converted", "cpu")
    assert same_answers(direct, converted)
    assert (
        direct.fingerprint == converted.fingerprint == shipped_fingerprint(tmp_path / "converted")
    )  # so they share cached results
    config = read_json(tmp_path / "converted" / "config.json")["uturn"]
    assert config["licence"] == "CC BY-NC-SA 4.0" and config["source"]["file"] == "tiny.pkl"
    assert "NaN" not in json.dumps(config)
    weights = tmp_path / "converted" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(ValueError, match="truncated or altered"):
        load_denoiser(tmp_path / "converted", "cpu")


class Writes:
    """Unpickled by Python it would create a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


class Fetches:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("place", ["beside", "alone"])
def test_a_pickle_that_would_create_a_file_is_refused_and_nothing_runs(place, tmp_path):
    trap, path = tmp_path / "trap", tmp_path / "evil.pkl"
    if place == "beside":
        write_edm_pickle(path, random_network("EDM", TINY_SONG), extra=Writes(trap))
    else:
        path.write_bytes(pickle.dumps(Writes(trap)))
    with pytest.raises(UnsafeFile, match="open"):
        load_denoiser(path, "cpu")
    assert not trap.exists()
    pickle.loads(pickle.dumps(Writes(trap)))  # Python itself would have done it
    assert trap.exists()


@pytest.mark.parametrize(
    "evil",
    [
        Fetches(os.system, "true"),
        Fetches(eval, "1"),
        Fetches(getattr, "a", "upper"),
        Fetches(__import__, "os"),
        Fetches(np.frombuffer, b"12345678"),
        Fetches(torch.load, "x"),
        Fetches(torch.hub.load, "x", "y"),
        torch.nn.Linear(2, 2),
        np.zeros(3),
        Path("x"),
    ],
    ids=lambda value: str(getattr(value, "call", [type(value)])[0]).split(" at ")[0],
)
def test_any_other_global_is_refused(evil, tmp_path):
    path = tmp_path / "odd.pkl"
    path.write_bytes(pickle.dumps({"ema": evil}))
    with pytest.raises(UnsafeFile, match="asks for"):
        read_pickle(path)


@pytest.mark.parametrize(
    ("addition", "what"),
    [
        ("import os\nos.system('touch {trap}')", "imports os"),
        ("from subprocess import run", "imports subprocess"),
        ("__import__('os').system('touch {trap}')", "__import__"),
        ("open('{trap}', 'w')", "open"),
        ("exec('1')", "exec"),
        ("f = eval", "eval"),
        ("def broken(:", "not Python"),
    ],
)
def test_a_class_with_a_hostile_source_is_refused_and_nothing_runs(addition, what, tmp_path):
    trap = tmp_path / "trap"
    source = SOURCE + "\n" + addition.format(trap=trap) + "\n"
    path = write_edm_pickle(tmp_path / "evil.pkl", random_network("EDM", TINY_SONG), source=source)
    with pytest.raises(UnsafeFile, match=what):
        load_denoiser(path, "cpu")
    assert not trap.exists() and suspicious(SOURCE) is None


def test_instructions_that_could_reach_beyond_data_are_refused(tmp_path):
    path = tmp_path / "raw.pkl"
    refused = {
        # STACK_GLOBAL
        b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.": "posix.system",
        b"cposix\nsystem\n(S'true'\ntR.": "posix.system",  # GLOBAL
        b"(iposix\nsystem\n.": "INST",
        b"(cposix\nsystem\no.": "posix.system",
        b"\x80\x02\x82\x01.": "EXT1",
        b"\x80\x02K\x01Q.": "BINPERSID",
        b"\x80\x04K\x01)R.": "not a known function",  # calling a number
        b"\x80\x04ccollections\nOrderedDict\n}b.": "changes",  # setting attributes of a function
        b"\x80\x04ccollections\nOrderedDict\n\x81.": "the stack is empty",
    }
    for content, message in refused.items():
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_pickle(path)


def test_damaged_and_foreign_files_are_named(tmp_path):
    whole = write_edm_pickle(tmp_path / "whole.pkl", random_network("EDM", TINY_SONG)).read_bytes()
    for content in (whole[: len(whole) // 2], whole[:-1], b"", b"hello", b"PK\x03\x04"):
        (tmp_path / "part.pkl").write_bytes(content)
        with pytest.raises(ValueError, match="part.pkl"):
            load_denoiser(tmp_path / "part.pkl", "cpu")
    (tmp_path / "other.pkl").write_bytes(pickle.dumps({"weights": 1}))
    with pytest.raises(ValueError, match="holds weights"):
        load_denoiser(tmp_path / "other.pkl", "cpu")
    with pytest.raises(ValueError, match="EDMPrecond, VPPrecond, VEPrecond"):
        load_denoiser(
            write_edm_pickle(
                tmp_path / "iddpm.pkl", random_network("EDM", TINY_ADM), class_name="iDDPMPrecond"
            ),
            "cpu",
        )
    wrong = random_network("EDM", TINY_SONG)
    wrong.arguments["model_channels"] = 16
    with pytest.raises(ValueError, match="do not fit"):
        load_denoiser(write_edm_pickle(tmp_path / "wrong.pkl", wrong), "cpu")
    filtered = random_network("EDM", TINY_SONG)
    filtered.unet.enc["8x8_down"].conv0.resample_filter.mul_(2)
    with pytest.raises(ValueError, match="is not the filter"):
        load_denoiser(write_edm_pickle(tmp_path / "filter.pkl", filtered), "cpu")
    with pytest.raises(FileNotFoundError, match="edm-cifar10-32x32-uncond-vp.pkl"):
        load_denoiser("edm-cifar10.pkl", "cpu")


def pickled(*parts):
    return b"\x80\x04" + b"".join(parts) + b"."


EXHAUSTING = {
    "a deeply nested key": pickled(b"}", b")", b"\x85" * 10**6, b"K\x01s"),
    "a key made of itself": pickled(
        b"}",
        b")",
        b"\x94",
        b"h\x00h\x00\x86\x94" + b"".join(b"h%ch%c\x86\x94" % (k, k) for k in range(1, 60)),
        b"K\x01s",
    ),
    "a member made of itself": pickled(
        b"\x8f(", b")", b"\x94", b"".join(b"h%ch%c\x86\x94" % (k, k) for k in range(60)), b"\x90"
    ),
    "a name made of lists": pickled(
        b"]\x94", b"".join(b"](h%ch%ce\x94" % (k, k) for k in range(40)), b"h\x28\x93"
    ),
    "more bytes than there are": pickled(b"\x8e" + (2**50).to_bytes(8, "little")),
    "more text than there is": pickled(b"\x8d" + (2**63 - 1).to_bytes(8, "little")),
    "an endless name": pickled(b"c" + b"x" * 10**6 + b"\ny\n"),
}


@pytest.mark.parametrize("name", EXHAUSTING)
def test_files_that_would_exhaust_the_reader_end_at_once(name, tmp_path):
    path = tmp_path / "huge.pkl"
    path.write_bytes(EXHAUSTING[name])
    with pytest.raises(ValueError, match="huge.pkl") as found:
        read_pickle(path)
    assert len(str(found.value)) < 400


class Part:
    """A record of the EDM format made by hand."""

    def __init__(self, class_name="EDMPrecond", source=SOURCE, **state):
        self.made = class_name, source, state

    def __reduce__(self):
        from edm_stand_in import _reconstruct_persistent_obj

        name, source, state = self.made
        return _reconstruct_persistent_obj, (
            {"module_src": source, "class_name": name, "state": state},
        )


def dump(path, value):
    with edm_modules():
        path.write_bytes(pickle.dumps(value))
    return path


def unsound():
    arguments = {"_init_args": (), "_init_kwargs": dict(TINY_SONG)}
    leaf = deep = Part(**arguments)
    for _ in range(60):
        leaf = Part(_modules={"a": leaf})
    shared = Part()
    numbers = {
        name: {"x": torch.zeros(3, dtype=dtype)}
        for name, dtype in (("whole", torch.int64), ("complex", torch.complex64))
    }
    return {
        "no arguments": Part(),
        "arguments that are a list": Part(_init_args=(), _init_kwargs=[1]),
        "arguments without names": Part(_init_args=(), _init_kwargs={1: 2}),
        "parameters that are a list": Part(**arguments, _parameters=[1, 2]),
        "parameters that are a tensor": Part(**arguments, _parameters=torch.zeros(3)),
        "a parameter that is a text": Part(**arguments, _parameters={"x": "text"}),
        "a buffer without name": Part(**arguments, _buffers={3: torch.zeros(1)}),
        "modules that are a text": Part(**arguments, _modules="text"),
        "a module that is a number": Part(**arguments, _modules={"a": 3}),
        "modules within modules": leaf,
        "a module met twice": Part(**arguments, _modules={"a": shared, "b": shared}),
        "whole numbers": Part(**arguments, _parameters=numbers["whole"]),
        "complex numbers": Part(**arguments, _parameters=numbers["complex"]),
        "not finite": Part(**arguments, _parameters={"x": torch.tensor([float("nan")])}),
        "a filter of another shape": Part(
            **arguments, _buffers={"resample_filter": torch.zeros(3, 3)}
        ),
        "a long source": Part(source='f"' + "{x}" * 100_000 + '"', **arguments),
        "weights that are missing": deep,
    }


@pytest.mark.parametrize("name", unsound())
def test_unsound_networks_are_a_value_error_that_names_the_file(name, tmp_path):
    path = dump(tmp_path / "unsound.pkl", {"ema": unsound()[name]})
    with pytest.raises(ValueError, match="unsound.pkl"):
        load_denoiser(path, "cpu")
    assert cli.main(["convert", str(path), str(tmp_path / "converted")]) == 2
    assert not (tmp_path / "converted" / "config.json").exists()


def test_a_tensor_cannot_be_larger_than_its_storage(tmp_path):
    class Vast:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (
                torch.zeros(1).storage(),
                0,
                (2**50,),
                (0,),
                False,
                OrderedDict(),
            )

    with pytest.raises(UnsafeFile, match="larger than its storage"):
        read_pickle(dump(tmp_path / "vast.pkl", {"ema": Vast()}))


def test_an_altered_configuration_is_noticed(tmp_path):
    path = write_edm_pickle(tmp_path / "tiny.pkl", random_network("EDM", TINY_SONG))
    folder = pretrained.convert(path, tmp_path / "converted")
    whole = read_json(folder / "config.json")
    changes = [
        {"arguments": whole["uturn"]["arguments"] | {"sigma_data": 0.9}},
        {"arguments": None},
        {"arguments": [1]},
        {"kind": None},
        {"fingerprint": None},
        {"weights_sha256": 7},
        {"architecture": "Classifier"},
    ]
    for change in changes:
        (folder / "config.json").write_text(json.dumps({"uturn": whole["uturn"] | change}))
        with pytest.raises(ValueError):
            load_denoiser(folder, "cpu")
    for text in ("[1]", '{"uturn": null}', '{"uturn": [1]}', "[" * 10**5, "\x00\xff"):
        (folder / "config.json").write_text(text, encoding="latin-1")
        with pytest.raises(ValueError, match="config.json"):
            load_denoiser(folder, "cpu")


def test_tensors_that_reach_beyond_their_storage_are_refused(tmp_path):
    class Reaching:
        def __reduce__(self):
            storage = torch.zeros(4).storage()
            return torch._utils._rebuild_tensor_v2, (
                storage,
                2,
                (4,),
                (1,),
                False,
                OrderedDict(),
            )  # 2 + 4 > 4

    path = tmp_path / "reach.pkl"
    path.write_bytes(pickle.dumps({"ema": Reaching()}))
    with pytest.raises(ValueError, match="reach.pkl"):
        read_pickle(path)


def test_a_block_of_weights_is_opened_as_bare_weights_only(tmp_path):
    """The inner files of torch are pickles too: the one inside must not run anything either."""
    import io

    trap, inner = tmp_path / "trap", io.BytesIO()
    torch.save(Writes(trap), inner, _use_new_zipfile_serialization=False)

    class Hidden:
        def __reduce__(self):
            return torch.storage._load_from_bytes, (inner.getvalue(),)

    path = tmp_path / "hidden.pkl"
    path.write_bytes(pickle.dumps({"ema": Hidden()}))
    with pytest.raises(UnsafeFile, match="bare storage"):
        read_pickle(path)
    assert not trap.exists()


def test_plain_data_come_out_as_python_would_give_them(tmp_path):
    value = {
        "numbers": [1, -2, 300, 70_000, 2**40, 1.5, float("inf"), True, None],
        "numpy": [np.float64(0.25), np.float32(1.5), np.int64(-7), np.bool_(True)],
        "sets": [{1, 2}, set(), (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        "ordered": OrderedDict(a=[1], b={"c": "text " * 100}),
        "tensors": [
            torch.arange(6.0).reshape(2, 3).T,
            torch.ones(2, dtype=torch.float16),
            nn.Parameter(torch.zeros(2)),
        ],
    }
    shared = [1]
    value["shared"] = [shared, shared]
    for protocol in (3, 4, 5):
        (tmp_path / "plain.pkl").write_bytes(pickle.dumps(value, protocol=protocol))
        found = read_pickle(tmp_path / "plain.pkl")
        tensors, expected = found.pop("tensors"), value["tensors"]
        assert found == {key: item for key, item in value.items() if key != "tensors"}
        assert found["shared"][0] is found["shared"][1]
        assert all(
            torch.equal(a, b.detach()) and a.dtype == b.dtype
            for a, b in zip(tensors, expected, strict=True)
        )


def test_the_allow_list_is_short():
    assert len(CALLS) == 13


MEMORY = """
    import re, sys
    import torch
    from uturn_lib import load_denoiser
    import uturn_lib.networks.edm.pretrained, uturn_lib.networks.edm.architectures
    status = lambda: open("/proc/self/status").read()
    peak = lambda: 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", status()).group(1))
    torch.nn.Conv2d(3, 3, 3)(torch.zeros(1, 3, 8, 8))
    before = peak()
    denoiser = load_denoiser(sys.argv[1], "cpu")
    size = sum(value.numel() * value.element_size() for value in denoiser.parameters())
    print((peak() - before) / size)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_loading_takes_at_most_twice_the_memory_of_the_weights(tmp_path):
    from test_edm import CIFAR10

    path = write_edm_pickle(tmp_path / "large.pkl", random_network("EDM", CIFAR10))
    command = [sys.executable, "-c", textwrap.dedent(MEMORY), str(path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    found = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert 1 < float(found.stdout) < 2  # the weights themselves, and little else


# ---------------------------------------------------------------------------------------- diffusers


def small_unet(seed=0, **options):
    torch.manual_seed(seed)
    return UNet2DModel(
        sample_size=8, in_channels=3, out_channels=3, block_out_channels=(8, 8),
        layers_per_block=1, norm_num_groups=4, attention_head_dim=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"), **options,
    ).eval().requires_grad_(False)  # fmt: skip


@pytest.mark.parametrize("layout", ["pipeline", "flat"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_a_diffusers_folder_agrees_with_the_scheduler_of_diffusers(layout, prediction, tmp_path):
    """At every whole step our D is what the DDIM scheduler of diffusers calls
    ``pred_original_sample``."""
    scheduler, unet = DDIMScheduler(prediction_type=prediction, clip_sample=False), small_unet()
    if layout == "pipeline":
        unet.save_pretrained(tmp_path / "unet")
        scheduler.save_pretrained(tmp_path / "scheduler")
        (tmp_path / "model_index.json").write_text('{"_class_name": "DDIMPipeline"}')
    else:
        unet.save_pretrained(tmp_path)
        scheduler.save_pretrained(tmp_path)
    denoiser = load_denoiser(tmp_path, "cpu")
    assert denoiser.fingerprint == shipped_fingerprint(tmp_path)
    sigmas = ddpm_sigmas()  # the same schedule, from noise.py
    assert denoiser.sigma_range == pytest.approx((sigmas[0], sigmas[-1]), rel=1e-4)
    scheduler.set_timesteps(1000)
    z = torch.randn(1, 3, 8, 8)
    for step in (0, 1, 250, 700, 999):
        x = z.double() * (1 + sigmas[step] ** 2) ** 0.5
        expected = scheduler.step(unet(z, step).sample, step, z).pred_original_sample
        found = denoiser(x, float(sigmas[step]))
        scale = float(expected.abs().max())
        assert float((found - expected).abs().max()) < 2e-4 * scale, step


def test_old_checkpoints_with_bare_torch_weights_open_without_running_code(tmp_path):
    small_unet().save_pretrained(tmp_path, safe_serialization=False)
    DDPMScheduler().save_pretrained(tmp_path)
    assert (tmp_path / "diffusion_pytorch_model.bin").is_file()
    before = load_denoiser(tmp_path, "cpu")
    small_unet().save_pretrained(tmp_path)
    assert same_answers(before, load_denoiser(tmp_path, "cpu"))
    (tmp_path / "diffusion_pytorch_model.safetensors").unlink()
    trap = tmp_path / "trap"
    torch.save({"conv_in.weight": Writes(trap)}, tmp_path / "diffusion_pytorch_model.bin")
    with pytest.raises(ValueError, match="cannot be loaded|do not fit"):
        load_denoiser(tmp_path, "cpu")
    assert not trap.exists()


class NoiseOfGaussian(nn.Module):
    """The exact noise prediction of a DDPM for Gaussian data, at whole and at interpolated
    steps."""

    class config:
        in_channels, out_channels, sample_size, num_class_embeds = 1, 1, 4, None

    def __init__(self, gaussian, alphas):
        super().__init__()
        self.gaussian, self.alphas = gaussian, torch.as_tensor(alphas)
        self.weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, z, step, class_labels=None):
        clock = (1 / self.alphas).log()
        low = step.long().clamp(max=len(clock) - 2)
        sigma = (
            (clock[low] + (step - low) * (clock[low + 1] - clock[low]))
            .expm1()
            .sqrt()[:, None, None, None]
        )
        x = z * (1 + sigma**2).sqrt()

        class Output:
            sample = (x - self.gaussian(x, sigma.flatten())) / sigma

        return Output


def test_the_exact_ddpm_of_gaussian_data_is_the_exact_denoiser():
    """Closed form: wrapped, the exact discrete model gives mu + Sigma (Sigma + sigma^2)^-1 (x -
    mu), and its U-Turn has the exact correlation."""
    rng = np.random.default_rng(0)
    root = rng.standard_normal((16, 16)) / 4
    gaussian = GaussianDenoiser(
        torch.tensor(rng.uniform(-0.3, 0.3, (1, 4, 4))), torch.tensor(root @ root.T)
    )
    alphas = ddpm_alphas()
    denoiser = DiscreteDenoiser(NoiseOfGaussian(gaussian, alphas), alphas)
    x = torch.tensor(rng.standard_normal((5, 1, 4, 4)))
    for sigma in (0.02, 0.339, 0.7, 3.0, 41.0):
        torch.testing.assert_close(denoiser(x, sigma), gaussian(x, sigma), rtol=1e-9, atol=1e-9)
    starts = gaussian.sample(range(400)).clamp(-1, 1)
    ours, theirs = (
        u_turn(d, starts, 1.0, steps=64, method="ode", seed=3).y0 for d in (denoiser, gaussian)
    )
    # Same x_u, no noise on the way back; the grids end at .01 and at .002 and their last steps
    # differ.
    assert (
        float((ours - theirs).pow(2).mean().sqrt())
        < 0.01
        < 0.1
        < float((ours - starts).pow(2).mean().sqrt())
    )


def test_steps_are_interpolated_or_rounded_and_the_range_is_enforced():
    alphas = ddpm_alphas()
    sigmas = ddpm_sigmas()
    smooth, rounded = (
        DiscreteDenoiser(small_unet(), alphas, interpolate=value) for value in (True, False)
    )
    whole = torch.tensor([0, 1, 99, 500, 999])
    torch.testing.assert_close(
        smooth.step_of(torch.tensor(sigmas)[whole]), whole.double(), rtol=0, atol=1e-6
    )
    between = torch.tensor((sigmas[400] + sigmas[401]) / 2)
    assert 400 < float(smooth.step_of(between)) < 401 and float(rounded.step_of(between)) in (
        400,
        401,
    )
    assert float(rounded.round_sigma(torch.tensor(3.4))) == pytest.approx(
        sigmas[np.abs(np.log1p(sigmas**2) - np.log1p(3.4**2)).argmin()]
    )
    x = torch.zeros(1, 3, 8, 8)
    assert torch.equal(smooth(x, 0.0), x)
    for sigma in (0.002, 158.0):
        with pytest.raises(ValueError, match="leaves the range"):
            smooth(x, sigma)
        with pytest.raises(ValueError, match=r"sigma_u.*0 or \[0.01"):
            u_turn(smooth, x, sigma)
    assert torch.equal(u_turn(smooth, x, 0.0).y0, x)
    for method in ("sde", "ode", "edm"):
        assert torch.isfinite(u_turn(smooth, x, 2.0, steps=5, method=method).y0).all()


def test_a_class_conditional_model_without_null_class_asks_for_labels():
    denoiser = DiscreteDenoiser(small_unet(num_class_embeds=4), ddpm_alphas())
    x = torch.zeros(2, 3, 8, 8)
    with pytest.raises(ValueError, match="labels are missing"):
        denoiser(x, 1.0)
    with pytest.raises(ValueError, match="labels are missing"):
        u_turn(denoiser, x, 1.0, steps=3)
    assert u_turn(denoiser, x, 1.0, steps=3, labels=torch.tensor([0, 3])).y0.shape == x.shape


def test_foreign_schedulers_and_incomplete_folders_are_named(tmp_path):
    with pytest.raises(ValueError, match="ScoreSdeVeScheduler"):
        alphas_cumprod({"_class_name": "ScoreSdeVeScheduler"})
    with pytest.raises(ValueError, match="prediction"):
        DiscreteDenoiser(small_unet(), ddpm_alphas(), "velocity")
    with pytest.raises(ValueError, match="decreasing"):
        DiscreteDenoiser(small_unet(), ddpm_alphas()[::-1].copy())
    small_unet().save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="scheduler_config.json"):
        load_denoiser(tmp_path, "cpu")
    DDPMScheduler().save_pretrained(tmp_path)
    (tmp_path / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="diffusion_pytorch_model"):
        load_denoiser(tmp_path, "cpu")


@pytest.mark.parametrize(
    "change",
    [
        {"beta_schedule": "steep"},
        {"num_train_timesteps": "a"},
        {"num_train_timesteps": -1},
        {"num_train_timesteps": 10**9},
        {"beta_start": None},
        {"trained_betas": "abc"},
    ],
)
def test_a_schedule_that_makes_no_sense_is_a_value_error(change):
    with pytest.raises(ValueError):
        alphas_cumprod({"_class_name": "DDPMScheduler"} | change)


def test_a_u_net_whose_channels_do_not_fit_is_refused():
    unet = UNet2DModel(
        sample_size=8, in_channels=3, out_channels=1, block_out_channels=(8,), norm_num_groups=4,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), layers_per_block=1,
    )  # fmt: skip
    with pytest.raises(ValueError, match="into 1"):
        DiscreteDenoiser(unet, ddpm_alphas())
    with pytest.raises(ValueError, match="decreasing"):
        DiscreteDenoiser(small_unet(), np.array([0.9, -0.5, 0.3]))


def test_weights_in_several_parts_are_refused(tmp_path):
    small_unet().save_pretrained(tmp_path)
    DDPMScheduler().save_pretrained(tmp_path)
    (tmp_path / "diffusion_pytorch_model.safetensors.index.json").write_text("{}")
    with pytest.raises(ValueError, match="several parts"):
        load_denoiser(tmp_path, "cpu")


def test_zero_terminal_signal_ends_the_range_where_sigma_is_finite():
    alphas = torch.tensor(ddpm_alphas())
    alphas[-1] = 0
    assert DiscreteDenoiser(small_unet(), alphas).sigma_range[1] == pytest.approx(ddpm_sigmas()[-2])
    rescaled = alphas_cumprod({"_class_name": "DDPMScheduler", "rescale_betas_zero_snr": True})
    assert np.isfinite(DiscreteDenoiser(small_unet(), rescaled).sigma_range[1])


def test_a_hub_id_that_cannot_be_fetched_says_what_to_do(monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def offline(*_, **__):
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(
        FileNotFoundError, match="google/ddpm-cifar10-32.*into a folder and give its path"
    ):
        load_denoiser("google/ddpm-cifar10-32", "cpu")


def test_a_hub_repository_with_old_weights_is_asked_for_them(monkeypatch, tmp_path):
    small_unet().save_pretrained(tmp_path, safe_serialization=False)
    DDPMScheduler().save_pretrained(tmp_path)
    import huggingface_hub

    asked = []
    monkeypatch.setattr(
        huggingface_hub,
        "snapshot_download",
        lambda _, allow_patterns: asked.append(allow_patterns) or str(tmp_path),
    )
    assert load_denoiser("google/ddpm-cifar10-32", "cpu").sample_shape == (3, 8, 8)
    assert any(name.endswith(".safetensors") for name in asked[0]) and any(
        name.endswith(".bin") for name in asked[1]
    )
    assert not any("*" in name or name.endswith(".py") for names in asked for name in names)


def test_the_stand_in_leaves_no_trace():
    with edm_modules():
        assert "torch_utils" in sys.modules
    assert "torch_utils" not in sys.modules and "dnnlib" not in sys.modules
