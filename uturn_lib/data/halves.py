"""Held-out images in two halves: one to evaluate a classifier, one to calibrate it."""

from __future__ import annotations

from dataclasses import replace

from .sets import ImageSet


def held_out_halves(data: ImageSet) -> tuple[ImageSet, ImageSet]:
    """Two class-balanced halves of held-out images: the first to evaluate, the second to calibrate.

    The first begins as ``data.take`` does: it holds the ground truths of a profile.
    """
    mixed, first = data.take(len(data)), (len(data) + 1) // 2

    def half(part: slice, name: str) -> ImageSet:
        tag = f"{data.fingerprint}:{name}_half"
        images, labels = mixed.images[part], mixed.labels[part]
        return replace(mixed, images=images, labels=labels, fingerprint=tag)

    return half(slice(None, first), "first"), half(slice(first, None), "second")
