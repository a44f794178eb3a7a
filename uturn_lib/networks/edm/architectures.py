"""The U-Nets of the EDM checkpoints and their preconditioning, under the names of those files.

* ``SongUNet``: DDPM++ and NCSN++ of Song et al. (2021), as in Karras et al. (2022, Appendix F and
  Table 7): the CIFAR-10 and FFHQ-64 files.
* ``DhariwalUNet``: ADM of Dhariwal and Nichol (2021): the class-conditional ImageNet-64 file.
* ``Preconditioned``: one of them as a denoiser, "EDM", "VP" or "VE" (Karras et al. 2022, Table 1).

Written from those papers, for inference only.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...support import checks
from ..base import NetworkDenoiser

BOX = (1, 1)  # the filter that halves by averaging and doubles by repeating


def separable_filter(taps: Sequence[float]) -> Tensor:
    """The two-dimensional filter (1, 1, n, n) of ``taps``, of sum 1."""
    line = torch.tensor(taps, dtype=torch.float32)
    return (line.outer(line) / line.sum() ** 2)[None, None]


def halve(x: Tensor, kernel: Tensor, padding: int) -> Tensor:
    """Filter each channel of (B, C, H, W), then downsample by 2."""
    if kernel.shape[-1] == 2 and padding == 0:
        return F.avg_pool2d(x, 2)
    return F.conv2d(
        x, kernel.expand(x.shape[1], 1, -1, -1), stride=2, padding=padding, groups=x.shape[1]
    )


def double(x: Tensor, kernel: Tensor) -> Tensor:
    """Upsample (B, C, H, W) by 2: zero insertion, then a filter that keeps constants."""
    padding = (kernel.shape[-1] - 1) // 2
    if kernel.shape[-1] == 2:
        return F.interpolate(x, scale_factor=2, mode="nearest")
    weight = (4 * kernel).expand(x.shape[1], 1, -1, -1)
    return F.conv_transpose2d(x, weight, stride=2, padding=padding, groups=x.shape[1])


class Conv(nn.Conv2d):
    """A convolution of the same size, after down- or upsampling (``change``).

    ``fused``: convolve, then downsample, with one shared padding.
    """

    resample_filter: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        change: str | None = None,
        taps: Sequence[float] = BOX,
        fused: bool = False,
    ):
        super().__init__(inputs, outputs, kernel, padding=kernel // 2)
        self.change, self.fused = change, fused
        self.register_buffer("resample_filter", separable_filter(taps) if change else None)

    def forward(self, x: Tensor) -> Tensor:
        edge = 0 if self.change is None else (self.resample_filter.shape[-1] - 1) // 2
        if self.fused:  # as in the residual input pyramid of NCSN++
            wide = F.conv2d(x, self.weight, padding=self.weight.shape[-1] // 2 + edge)
            assert self.bias is not None
            return halve(wide, self.resample_filter, 0) + self.bias[:, None, None]
        if self.change == "down":
            x = halve(x, self.resample_filter, edge)
        elif self.change == "up":
            x = double(x, self.resample_filter)
        return super().forward(x)


class Resampling(nn.Module):
    """Down- or upsampling without a convolution."""

    resample_filter: Tensor

    def __init__(self, change: str, taps: Sequence[float] = BOX):
        super().__init__()
        self.change = change
        self.register_buffer("resample_filter", separable_filter(taps))

    def forward(self, x: Tensor) -> Tensor:
        if self.change == "up":
            return double(x, self.resample_filter)
        return halve(x, self.resample_filter, (self.resample_filter.shape[-1] - 1) // 2)


def group_norm(channels: int, eps: float) -> nn.GroupNorm:
    """At most 32 groups of at least four channels."""
    return nn.GroupNorm(min(32, channels // 4), channels, eps)


class Block(nn.Module):
    """Residual block: norm, SiLU, conv; embedding; norm, SiLU, conv; skip; then self-attention.

    ``scaled`` (ADM): the embedding scales and shifts after the second norm; otherwise (DDPM++) it
    is added before. ``damping`` multiplies the sums. ``project``: a resampling block projects its
    skip as well.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        embedding: int,
        change: str | None = None,
        heads: int = 0,
        eps: float = 1e-5,
        damping: float = 1.0,
        scaled: bool = True,
        project: bool = False,
        taps: Sequence[float] = BOX,
    ):
        super().__init__()
        self.in_channels, self.out_channels = inputs, outputs
        self.heads, self.damping, self.scaled = heads, damping, scaled
        self.norm0 = group_norm(inputs, eps)
        self.conv0 = Conv(inputs, outputs, 3, change, taps)
        self.affine = nn.Linear(embedding, 2 * outputs if scaled else outputs)
        self.norm1 = group_norm(outputs, eps)
        self.conv1 = Conv(outputs, outputs, 3)
        self.skip: Conv | Resampling | None = None
        if inputs != outputs or (change and project):
            self.skip = Conv(inputs, outputs, 1, change, taps)
        elif change:
            self.skip = Resampling(change, taps)
        if heads:
            self.norm2 = group_norm(outputs, eps)
            self.qkv = Conv(outputs, 3 * outputs, 1)
            self.proj = Conv(outputs, outputs, 1)

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        inner = self.conv0(F.silu(self.norm0(x)))
        modulation = self.affine(embedded)[:, :, None, None]
        if self.scaled:
            scale, shift = modulation.chunk(2, dim=1)
            inner = F.silu(torch.addcmul(shift, self.norm1(inner), scale + 1))
        else:
            inner = F.silu(self.norm1(inner + modulation))
        x = (self.conv1(inner) + (x if self.skip is None else self.skip(x))) * self.damping
        if self.heads:
            x = (self.proj(self.attention(self.qkv(self.norm2(x)))) + x) * self.damping
        return x

    def attention(self, qkv: Tensor) -> Tensor:
        """Self-attention over pixels; q, k, v of a channel are interleaved in the files."""
        batch, _, height, width = qkv.shape
        each = self.out_channels // self.heads
        parts = qkv.reshape(batch, self.heads, each, 3, height * width).permute(3, 0, 1, 4, 2)
        query, key, value = parts.unbind(0)
        attended = F.scaled_dot_product_attention(
            query, key, value
        )  # of (B, heads, pixels, d) each
        return attended.transpose(2, 3).reshape(batch, self.out_channels, height, width)


class SinusoidalEmbedding(nn.Module):
    """(cos, sin) of the noise input at geometric frequencies from 1 to 1/10000.

    ``closed``: the last frequency is included.
    """

    def __init__(self, channels: int, closed: bool = False):
        super().__init__()
        self.size, self.closed = channels // 2, closed

    def forward(self, noise: Tensor) -> Tensor:
        ramp = torch.arange(self.size, dtype=torch.float32, device=noise.device) / (
            self.size - int(self.closed)
        )
        angles = noise.float().outer(1e-4**ramp)
        return torch.cat([angles.cos(), angles.sin()], dim=1).to(noise.dtype)


class FourierEmbedding(nn.Module):
    """(cos, sin) at random frequencies, which the file stores (NCSN++)."""

    freqs: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("freqs", torch.zeros(channels // 2))

    def forward(self, noise: Tensor) -> Tensor:
        angles = noise.outer((2 * math.pi * self.freqs).to(noise.dtype))
        return torch.cat([angles.cos(), angles.sin()], dim=1)


class SongUNet(nn.Module):
    """DDPM++ (``embedding_type`` "positional", both types "standard", ``resample_filter`` [1, 1])
    and NCSN++ ("fourier", encoder "residual", ``resample_filter`` [1, 3, 3, 1],
    ``channel_mult_noise`` 2).

    ``forward(x, noise, labels=None, augment=None)``: x (B, in_channels, R, R), noise (B,), labels
    one-hot (B, label_dim), augment (B, augment_dim) as in training with non-leaking augmentation,
    none at generation; returns (B, out_channels, R, R).
    """

    def __init__(
        self,
        img_resolution: int,
        in_channels: int,
        out_channels: int,
        label_dim: int = 0,
        augment_dim: int = 0,
        model_channels: int = 128,
        channel_mult: Sequence[int] = (1, 2, 2, 2),
        channel_mult_emb: int = 4,
        num_blocks: int = 4,
        attn_resolutions: Sequence[int] = (16,),
        embedding_type: str = "positional",
        channel_mult_noise: int = 1,
        encoder_type: str = "standard",
        decoder_type: str = "standard",
        resample_filter: Sequence[float] = BOX,
    ):
        super().__init__()
        checks.one_of("embedding_type", embedding_type, ("positional", "fourier"))
        checks.one_of("encoder_type", encoder_type, ("standard", "skip", "residual"))
        checks.one_of("decoder_type", decoder_type, ("standard", "skip"))
        noise, width, taps = (
            model_channels * channel_mult_noise,
            model_channels * channel_mult_emb,
            resample_filter,
        )
        positional = embedding_type == "positional"
        self.map_noise = (
            SinusoidalEmbedding(noise, closed=True) if positional else FourierEmbedding(noise)
        )
        self.map_label = nn.Linear(label_dim, noise) if label_dim else None
        self.map_augment = nn.Linear(augment_dim, noise, bias=False) if augment_dim else None
        self.map_layer0 = nn.Linear(noise, width)
        self.map_layer1 = nn.Linear(width, width)

        def block(
            inputs: int, outputs: int, change: str | None = None, attention: bool = False
        ) -> Block:
            return Block(
                inputs, outputs, width, change, int(attention), 1e-6, 0.5**0.5, False, True, taps
            )

        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        channels, skips, picture = model_channels, [model_channels], in_channels
        for level, factor in enumerate(channel_mult):
            size = img_resolution >> level
            if level == 0:
                self.enc[f"{size}x{size}_conv"] = Conv(in_channels, channels, 3)
            else:
                self.enc[f"{size}x{size}_down"] = block(channels, channels, "down")
                skips.append(channels)
                if encoder_type == "skip":
                    self.enc[f"{size}x{size}_aux_down"] = Resampling("down", taps)
                    self.enc[f"{size}x{size}_aux_skip"] = Conv(picture, channels, 1)
                elif encoder_type == "residual":
                    self.enc[f"{size}x{size}_aux_residual"] = Conv(
                        picture, channels, 3, "down", taps, fused=True
                    )
                    picture = channels
            for number in range(num_blocks):
                before, channels = channels, model_channels * factor
                self.enc[f"{size}x{size}_block{number}"] = block(
                    before, channels, None, size in attn_resolutions
                )
                skips.append(channels)
        for level, factor in reversed(list(enumerate(channel_mult))):
            size, lowest = img_resolution >> level, level == len(channel_mult) - 1
            if lowest:
                self.dec[f"{size}x{size}_in0"] = block(channels, channels, None, True)
                self.dec[f"{size}x{size}_in1"] = block(channels, channels)
            else:
                self.dec[f"{size}x{size}_up"] = block(channels, channels, "up")
            for number in range(num_blocks + 1):
                before, channels = channels + skips.pop(), model_channels * factor
                attention = number == num_blocks and size in attn_resolutions
                self.dec[f"{size}x{size}_block{number}"] = block(before, channels, None, attention)
            if decoder_type == "skip" or level == 0:
                if decoder_type == "skip" and not lowest:
                    self.dec[f"{size}x{size}_aux_up"] = Resampling("up", taps)
                self.dec[f"{size}x{size}_aux_norm"] = group_norm(channels, 1e-6)
                self.dec[f"{size}x{size}_aux_conv"] = Conv(channels, out_channels, 3)

    def forward(
        self, x: Tensor, noise: Tensor, labels: Tensor | None = None, augment: Tensor | None = None
    ) -> Tensor:
        embedded = self.map_noise(noise)
        embedded = torch.cat(embedded.chunk(2, dim=1)[::-1], dim=1)  # (sin, cos) in these networks
        if self.map_label is not None and labels is not None:
            embedded = embedded + self.map_label(labels * labels.shape[1] ** 0.5)
        if self.map_augment is not None and augment is not None:
            embedded = embedded + self.map_augment(augment)
        embedded = F.silu(self.map_layer1(F.silu(self.map_layer0(embedded))))

        skips: list[Tensor] = []
        picture: Tensor | None = x
        for name, module in self.enc.items():
            if "aux_down" in name:
                picture = module(picture)
            elif "aux_skip" in name:
                x = skips[-1] = x + module(picture)
            elif "aux_residual" in name:
                x = skips[-1] = picture = (x + module(picture)) * 0.5**0.5
            else:
                x = module(x, embedded) if isinstance(module, Block) else module(x)
                skips.append(x)
        picture, normed = None, x
        for name, module in self.dec.items():
            if "aux_up" in name:
                picture = module(picture)
            elif "aux_norm" in name:
                normed = module(x)
            elif "aux_conv" in name:
                painted = module(F.silu(normed))
                picture = painted if picture is None else painted + picture
            else:
                if x.shape[1] != module.in_channels:
                    x = torch.cat([x, skips.pop()], dim=1)
                x = module(x, embedded)
        assert picture is not None  # the last level has an aux_conv
        return picture


class DhariwalUNet(nn.Module):
    """ADM: attention at several resolutions, heads of 64 channels, scale-and-shift embedding.

    Arguments and ``forward`` as :class:`SongUNet`.
    """

    def __init__(
        self,
        img_resolution: int,
        in_channels: int,
        out_channels: int,
        label_dim: int = 0,
        augment_dim: int = 0,
        model_channels: int = 192,
        channel_mult: Sequence[int] = (1, 2, 3, 4),
        channel_mult_emb: int = 4,
        num_blocks: int = 3,
        attn_resolutions: Sequence[int] = (32, 16, 8),
    ):
        super().__init__()
        width = model_channels * channel_mult_emb
        self.map_noise = SinusoidalEmbedding(model_channels)
        self.map_augment = (
            nn.Linear(augment_dim, model_channels, bias=False) if augment_dim else None
        )
        self.map_layer0 = nn.Linear(model_channels, width)
        self.map_layer1 = nn.Linear(width, width)
        self.map_label = nn.Linear(label_dim, width, bias=False) if label_dim else None

        def block(
            inputs: int, outputs: int, change: str | None = None, attention: bool = False
        ) -> Block:
            return Block(inputs, outputs, width, change, outputs // 64 if attention else 0)

        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        channels = model_channels * channel_mult[0]
        skips = [channels]
        for level, factor in enumerate(channel_mult):
            size = img_resolution >> level
            if level == 0:
                self.enc[f"{size}x{size}_conv"] = Conv(in_channels, channels, 3)
            else:
                self.enc[f"{size}x{size}_down"] = block(channels, channels, "down")
                skips.append(channels)
            for number in range(num_blocks):
                before, channels = channels, model_channels * factor
                self.enc[f"{size}x{size}_block{number}"] = block(
                    before, channels, None, size in attn_resolutions
                )
                skips.append(channels)
        for level, factor in reversed(list(enumerate(channel_mult))):
            size = img_resolution >> level
            if level == len(channel_mult) - 1:
                self.dec[f"{size}x{size}_in0"] = block(channels, channels, None, True)
                self.dec[f"{size}x{size}_in1"] = block(channels, channels)
            else:
                self.dec[f"{size}x{size}_up"] = block(channels, channels, "up")
            for number in range(num_blocks + 1):
                before, channels = channels + skips.pop(), model_channels * factor
                self.dec[f"{size}x{size}_block{number}"] = block(
                    before, channels, None, size in attn_resolutions
                )
        self.out_norm = group_norm(channels, 1e-5)
        self.out_conv = Conv(channels, out_channels, 3)

    def forward(
        self, x: Tensor, noise: Tensor, labels: Tensor | None = None, augment: Tensor | None = None
    ) -> Tensor:
        embedded = self.map_noise(noise)
        if self.map_augment is not None and augment is not None:
            embedded = embedded + self.map_augment(augment)
        embedded = self.map_layer1(F.silu(self.map_layer0(embedded)))
        if self.map_label is not None and labels is not None:
            embedded = embedded + self.map_label(labels)
        embedded = F.silu(embedded)

        skips = []
        for module in self.enc.values():
            x = module(x, embedded) if isinstance(module, Block) else module(x)
            skips.append(x)
        for module in self.dec.values():
            x = module(
                x if x.shape[1] == module.in_channels else torch.cat([x, skips.pop()], dim=1),
                embedded,
            )
        return self.out_conv(F.silu(self.out_norm(x)))


ARCHITECTURES: dict[str, type[nn.Module]] = {"SongUNet": SongUNet, "DhariwalUNet": DhariwalUNet}
# arguments of the files that decide nothing here
TRAINING_ONLY = ("dropout", "label_dropout", "use_fp16")

# ---------------------------------------------------------------------------------- preconditioning


# Bounds of constructor arguments, several times those of any published network.
WHOLE = {
    "img_resolution": (4, 1024),
    "img_channels": (1, 64),
    "label_dim": (0, 100_000),
    "augment_dim": (0, 1000),
    "model_channels": (4, 4096),
    "channel_mult_emb": (1, 64),
    "channel_mult_noise": (1, 16),
    "num_blocks": (1, 32),
}
# Most entries, largest entry.
LISTS = {"channel_mult": (8, 64), "attn_resolutions": (16, 4096), "resample_filter": (8, 1000)}


def short(value: Any) -> str:
    """A text of at most 80 characters, in no time: lists may hold one another a billion times."""
    return reprlib.repr(value)[:80]


def check_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """A copy of a file's constructor arguments; ``ValueError`` names one out of bounds."""
    if not isinstance(arguments, dict) or not all(isinstance(key, str) for key in arguments):
        raise ValueError("arguments must be a dictionary of named values")
    for key, value in arguments.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if key in WHOLE:
            low, high = WHOLE[key]
            if not number or not low <= value <= high or value != int(value):
                raise ValueError(
                    f"arguments: {key} = {short(value)} must be a whole number from {low} to {high}"
                )
        elif key in LISTS:
            most, largest = LISTS[key]
            listed = isinstance(value, (list, tuple)) and len(value) <= most
            if not listed or not all(
                isinstance(v, (int, float)) and 0 < v <= largest for v in value
            ):
                raise ValueError(
                    f"arguments: {key} = {short(value)} must be at most {most} positive numbers"
                )
        elif not number and not isinstance(value, (str, bool, type(None))):
            raise ValueError(
                f"arguments: {key} is a {type(value).__name__}; a number or a text is needed"
            )
    if "channel_mult" in arguments and not arguments["channel_mult"]:
        raise ValueError("arguments: channel_mult is empty")
    if len(arguments.get("resample_filter", (1, 1))) % 2 or not arguments.get(
        "resample_filter", (1, 1)
    ):
        raise ValueError("arguments: resample_filter must have an even number of taps")
    return dict(arguments)


def vp_sigma(time: float, beta_d: float = 19.9, beta_min: float = 0.1) -> float:
    """sigma(t) of the variance-preserving process, t in [0, 1] (Karras et al. 2022, Table 1)."""
    return math.sqrt(math.expm1(0.5 * beta_d * time**2 + beta_min * time))


def vp_time(sigma: Tensor, beta_d: float = 19.9, beta_min: float = 0.1) -> Tensor:
    """Inverse of :func:`vp_sigma`."""
    return ((beta_min**2 + 2 * beta_d * torch.log1p(sigma**2)).sqrt() - beta_min) / beta_d


class Preconditioned(NetworkDenoiser):
    """A U-Net F of this module behind the denoiser interface, ``D = c_skip x + c_out F(c_in x,
    c_noise)`` (Karras et al. 2022, Table 1):

    * "EDM": c_skip = s_d^2 / (sigma^2 + s_d^2), c_out = sigma s_d / sqrt(sigma^2 + s_d^2),
      c_in = 1 / sqrt(sigma^2 + s_d^2), c_noise = ln(sigma) / 4
    * "VP": c_skip = 1, c_out = -sigma, c_in = 1 / sqrt(sigma^2 + 1), c_noise = (M - 1) t(sigma)
    * "VE": c_skip = 1, c_out = sigma, c_in = 1, c_noise = ln(sigma / 2)

    ``arguments``: the constructor arguments of the file's outermost class. ``labels`` None means
    the null label (zeros) where the network has classes; whether it met that in training depends on
    the file: the ImageNet-64 network did not. Raises ``ValueError`` for arguments that are unknown
    or missing.
    """

    def __init__(self, kind: str, arguments: dict[str, Any]):
        checks.one_of("kind", kind, KINDS)
        known = check_arguments(arguments)
        try:
            resolution, channels = int(known.pop("img_resolution")), int(known.pop("img_channels"))
        except KeyError as error:
            raise ValueError(f"arguments: {error.args[0]!r} is missing") from error
        classes, name = (
            int(known.pop("label_dim", 0) or 0),
            known.pop("model_type", KINDS[kind]["model_type"]),
        )
        checks.one_of("model_type", name, ARCHITECTURES)
        own = {key: float(known.pop(key, value)) for key, value in KINDS[kind]["arguments"].items()}
        for key in TRAINING_ONLY:
            known.pop(key, None)
        try:
            unet = ARCHITECTURES[name](resolution, channels, channels, label_dim=classes, **known)
        except TypeError as error:
            raise ValueError(
                f"arguments: {name} cannot be built from {sorted(known)}: {error}"
            ) from error
        sigma_range = KINDS[kind]["range"](own)
        if not (0 <= sigma_range[0] < sigma_range[1]) or not own.get("sigma_data", 1) > 0:
            raise ValueError(
                f"arguments: noise levels from {sigma_range[0]:g} to {sigma_range[1]:g} and {own} "
                "make no sense"
            )
        super().__init__(unet, (channels, resolution, resolution), classes, sigma_range)
        self.kind, self.arguments, self.constants = kind, dict(arguments), own
        self.coefficients: Callable[..., tuple] = KINDS[kind]["coefficients"]

    def denoise(
        self, x: Tensor, sigma: Tensor, labels: Tensor | None, augment: Tensor | None = None
    ) -> Tensor:
        """The formula itself; ``sigma`` (B, 1, 1, 1) in the dtype of ``x``, ``labels`` (B,),
        ``augment`` (B, augment_dim) or None."""
        c_skip, c_out, c_in, c_noise = self.coefficients(sigma, **self.constants)
        dtype = next(self.unet.parameters()).dtype
        classes = None
        # zeros are not nothing where the embedding of labels has a bias
        if self.num_classes and labels is None:
            classes = torch.zeros(len(x), self.num_classes, dtype=dtype, device=x.device)
        elif labels is not None:
            classes = F.one_hot(labels, self.num_classes).to(dtype)
        scaled = (c_in * x).to(dtype).contiguous(memory_format=torch.channels_last)
        with self.at_precision(x.device):
            output = self.unet(scaled, c_noise.flatten().to(dtype), classes, augment)
        return c_skip * x + c_out * output.to(x.dtype)


def _edm(sigma: Tensor, sigma_data: float, sigma_min: float, sigma_max: float) -> tuple:
    root = (sigma**2 + sigma_data**2).sqrt()
    return (
        (sigma_data / root) ** 2,
        sigma * sigma_data / root,
        1 / root,
        sigma.clamp(min=1e-20).log() / 4,
    )


def _vp(sigma: Tensor, beta_d: float, beta_min: float, M: float, epsilon_t: float) -> tuple:
    return 1.0, -sigma, 1 / (sigma**2 + 1).sqrt(), (M - 1) * vp_time(sigma, beta_d, beta_min)


def _ve(sigma: Tensor, sigma_min: float, sigma_max: float) -> tuple:
    return 1.0, sigma, torch.ones_like(sigma), (0.5 * sigma).clamp(min=1e-20).log()


def _vp_range(own: dict[str, float]) -> tuple[float, float]:
    betas = own["beta_d"], own["beta_min"]
    return vp_sigma(own["epsilon_t"], *betas), vp_sigma(1.0, *betas)


KINDS: dict[str, dict[str, Any]] = {
    "EDM": {
        "model_type": "DhariwalUNet",
        "arguments": {"sigma_min": 0.0, "sigma_max": math.inf, "sigma_data": 0.5},
        "range": lambda own: (own["sigma_min"], own["sigma_max"]),
        "coefficients": _edm,
    },
    "VP": {
        "model_type": "SongUNet",
        "arguments": {"beta_d": 19.9, "beta_min": 0.1, "M": 1000, "epsilon_t": 1e-5},
        "range": _vp_range,
        "coefficients": _vp,
    },
    "VE": {
        "model_type": "SongUNet",
        "arguments": {"sigma_min": 0.02, "sigma_max": 100.0},
        "range": lambda own: (own["sigma_min"], own["sigma_max"]),
        "coefficients": _ve,
    },
}
