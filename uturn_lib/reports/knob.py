"""A slider over precomputed pictures, as one piece of HTML: no server, no library, no request.

All pictures lie in the page as data URIs; a native ``<input type="range">`` shows one at a time, by
mouse, touch and keyboard. Two short event handlers do the work, because they run wherever HTML is
shown as it is: opened as a file, in a book, in JupyterLab, in an exported or saved notebook. Where
a page forbids them (a notebook that is not trusted) the starting picture and its label remain.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, UnidentifiedImageError

from ..support import checks

LIMIT = 300_000  # bytes of HTML
COLOURS = 32  # of a picture: enough for curves and grey images

# Colours are those of the page around it, light or dark. `data-lm-suppress-shortcuts` keeps the
# arrow keys from JupyterLab, which would select the next cell. The control is hidden until its
# handlers can run: the picture's `onload` shows it. `hidden` has a value, because a notebook that is
# not trusted loses attributes without one.
HTML = """<figure style="margin:0;max-width:{width}px">
{pictures}
<div hidden="hidden"><label style="display:block">{name}
<input type="range" data-lm-suppress-shortcuts="true" min="0" max="{last}" step="1" value="{start}" autocomplete="off"
 aria-label="{name}" aria-valuetext="{label}" oninput="{turn}"
 style="display:block;width:100%;height:44px;margin:0;padding:0;accent-color:#0072B2"></label>
</div>
<output aria-live="off" style="display:block;min-height:3em">{label}</output>
<small>The slider moves once this notebook is trusted, or the cell is run.</small>
</figure>"""
PICTURE = (
    '<img alt="{alt}" data-label="{label}" width="{width}" height="{height}" decoding="sync"'
    ' style="max-width:100%;height:auto" src="data:image/webp;base64,{data}"{shown}>'
)
READY = "const f=this.parentNode;f.querySelector('div').hidden=false;f.querySelector('small').hidden=true"
TURN = (
    "const f=this.closest('figure'),m=f.querySelectorAll('img');"
    "m.forEach((p,k)=>p.hidden=k!=this.value);const t=m[this.value].dataset.label;"
    "f.querySelector('output').value=t;this.setAttribute('aria-valuetext',t)"
)


class TooLarge(ValueError):
    """More HTML than a page should carry."""


class Knob:
    """The slider: ``html`` in a notebook, one line of text where HTML is not shown."""

    def __init__(self, html: str, text: str):
        self.html, self.text = html, text

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


def knob(
    frames: Sequence[bytes | Figure],
    labels: Sequence[str],
    name: str,
    alt: str,
    start: int = 0,
    colours: int = COLOURS,
) -> Knob:
    """A slider over ``frames``: figures, or the bytes of image files, all of the same size.

    Parameters
    ----------
    labels: one line for each frame, shown below the slider and read by screen readers.
    name: what the slider sets, its label.
    alt: what the pictures show, for those who do not see them; each frame's label is added to it.
    start: the frame that is seen first.
    colours: of each picture, 4 to 256.

    The same input is the same HTML. Raises ``ValueError`` for fewer than two frames, frames of
    different sizes, labels that do not match, empty texts, a ``start`` that is no frame, and (as
    :class:`TooLarge`) beyond 300 kB of HTML; ``TypeError`` for a frame of another kind.
    """
    if len(frames) < 2:
        raise ValueError(f"frames: {len(frames)} given; a slider needs at least 2")
    if len(labels) != len(frames):
        raise ValueError(
            f"labels: {len(labels)} given for {len(frames)} frames; one each is needed"
        )
    for argument, text in (("name", name), ("alt", alt), *(("labels", text) for text in labels)):
        if not text.strip():
            raise ValueError(f"{argument} is empty; a screen reader needs words")
    if not 0 <= start < len(frames):
        raise ValueError(f"start = {start} is no frame; allowed is 0 to {len(frames) - 1}")
    if not 4 <= checks.positive_int("colours", colours) <= 256:
        raise ValueError(f"colours = {colours}; 4 to 256 are allowed")
    pictures = [_picture(frame, number) for number, frame in enumerate(frames)]
    sizes = {picture.size for picture in pictures}
    if len(sizes) > 1:
        raise ValueError(f"frames have different sizes, {sorted(sizes)}; one is needed for all")
    (width, height), texts = sizes.pop(), [escape(label) for label in labels]
    shown = "\n".join(
        PICTURE.format(
            alt=f"{escape(alt)} {text}",
            label=text,
            width=width,
            height=height,
            data=_webp(picture, colours),
            shown=f' onload="{escape(READY)}"' if number == start else ' hidden="hidden"',
        )
        for number, (picture, text) in enumerate(zip(pictures, texts, strict=True))
    )
    html = HTML.format(
        pictures=shown,
        name=escape(name),
        last=len(frames) - 1,
        start=start,
        label=texts[start],
        turn=escape(TURN),
        width=width,
    )
    if (size := len(html.encode())) > LIMIT:
        raise TooLarge(
            f"the slider has {size / 1000:.0f} kB, at most {LIMIT // 1000} kB are allowed: reduce "
            f"the frames ({len(frames)}), their size ({width} x {height}) or colours ({colours})"
        )
    text = f"{alt} Slider: {name}, {len(frames)} pictures, from {labels[0]!r} to {labels[-1]!r}"
    return Knob(html, text)


def _picture(frame: bytes | Figure, number: int) -> Image.Image:
    """Frame ``number`` as an opaque picture."""
    if isinstance(frame, Figure):
        buffer = io.BytesIO()
        frame.savefig(buffer, format="png", dpi=frame.dpi)
        frame = buffer.getvalue()
    if not isinstance(frame, bytes):
        raise TypeError(
            f"frames[{number}] is a {type(frame).__name__}; a figure or bytes are needed"
        )
    try:
        return Image.open(io.BytesIO(frame)).convert("RGB")
    except UnidentifiedImageError as error:
        raise ValueError(f"frames[{number}] is not an image file") from error


def _webp(picture: Image.Image, colours: int) -> str:
    """``picture`` with few colours, without further loss, as base64 of WebP.

    Half of them is a ramp of greys, half is chosen from the pixels that have a colour: thin curves
    would lose theirs to the many greys of images and letters.
    """
    pixels = np.asarray(picture).reshape(-1, 3)
    ramp = np.linspace(0, 255, colours // 2).round().astype(np.uint8)[:, None].repeat(3, 1)
    chosen = [ramp]
    coloured = pixels[np.ptp(pixels, axis=1) > 24]
    if len(coloured):
        strip = Image.fromarray(coloured[None])
        found = strip.quantize(colours - len(ramp), Image.Quantize.MEDIANCUT).getpalette() or []
        chosen.append(np.array(found, dtype=np.uint8).reshape(-1, 3)[: colours - len(ramp)])
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.concatenate(chosen).tobytes())
    few = picture.quantize(palette=palette, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    few.convert("RGB").save(buffer, format="WEBP", lossless=True, quality=100, method=4)
    return base64.b64encode(buffer.getvalue()).decode()
