"""A forecast as text: all of it, or the few lines that stand before every run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from impasto.preflight.report import Forecast, Range

BUCKETS, REASONS = 12, 8


def brief(made: Forecast) -> str:
    """In one line."""
    steps, pictures = made.steps, made.pictures
    refused, held = sum(each.count for each in pictures.refused), len(pictures.held_out)
    apart = [f"{count} {what}" for count, what in ((refused, "left out"), (held, "held out")) if count]
    parts = [
        f"{pictures.used} pictures" + (f" ({', '.join(apart)})" if apart else ""),
        f"{len(pictures.buckets)} buckets",
        f"{steps.total} steps in {steps.epochs:.3g} epochs of {steps.per_epoch}",
        f"{len(steps.saves)} saves",
    ]
    if made.cache.pictures and made.cache.cached is not None:
        parts.append(f"{made.cache.pictures - made.cache.cached} of {made.cache.pictures} pictures to encode")
    return "plan: " + ", ".join(parts)


def lines(made: Forecast) -> Iterator[str]:
    """All of it."""
    yield f"{made.name}: on {made.base} ({made.resolution} pixels)"
    if made.to_fetch:
        yield f"to fetch from the hub first: {_bytes(made.to_fetch)}"
    yield from _pictures(made)
    yield from _steps(made)
    yield from _words(made)
    yield from _costs(made)
    yield ""
    yield f"advice: {len(made.advice)}" if made.advice else "advice: none"
    yield from (f"  {each}" for each in made.advice)


def _pictures(made: Forecast) -> Iterator[str]:
    found = made.pictures
    yield ""
    yield f"pictures: {found.used} used of {found.looked_at} looked at"
    for reason in found.refused[:REASONS]:
        yield f"  left out: {reason.count} {reason.code}, first {reason.first}"
    if found.notes:
        yield "  remarks: " + ", ".join(f"{count} {code}" for code, count in found.notes.items())
    for each in found.sets:
        yield f"  {each.role}: {each.pictures} pictures, {each.visits} looks an epoch, {each.path}"
    yield f"  enlarged by more than 5 %: {found.upscaled} (at most {found.largest_upscale:.2f} times)"
    yield f"  losing more than a tenth: {found.cropped} (at most {found.largest_crop:.0%})"
    if found.held_out:
        names = ", ".join(os.path.basename(each) for each in found.held_out[:4])
        more = f" and {len(found.held_out) - 4} more" if len(found.held_out) > 4 else ""
        yield f"  held out, never learnt (validation.share = 0.0 learns them too): {names}{more}"
    if any(found.measured):
        yield f"  measured while training: {found.measured[0]} held out, {found.measured[1]} of those learnt"
    if found.copies:
        yield f"  looking the same: {sum(map(len, found.copies))} in {len(found.copies)} groups"
        yield from (f"    {', '.join(group[:4])}" for group in found.copies[:3])
    yield f"buckets: {len(found.buckets)}"
    most = sorted(found.buckets, key=lambda each: -each.pictures)
    for bucket in most[:BUCKETS]:
        yield f"  {bucket.width}x{bucket.height}: {bucket.pictures} pictures, {bucket.batches} micro-batches"
    if len(most) > BUCKETS:
        yield f"  and {len(most) - BUCKETS} more"


def _steps(made: Forecast) -> Iterator[str]:
    steps = made.steps
    yield ""
    yield f"steps: {steps.total} in all, {steps.per_epoch} an epoch, {steps.epochs:.4g} epochs"
    yield f"  micro-batches: {steps.micro_batches} an epoch, {steps.partial} not full"
    yield f"  looks at a picture: {steps.per_picture:.4g}"
    if steps.warmup:
        yield f"  warm-up: {steps.warmup} steps"
    if steps.text_encoder_until is not None:
        rests = steps.text_encoder_until < steps.total
        yield "  text encoder: " + (f"rests from step {steps.text_encoder_until} on" if rests else "trained to the end")
    for name, at in (("saves", steps.saves), ("previews", steps.previews), ("validations", steps.validations)):
        if at:
            yield f"  {name}: {len(at)}, after steps {_some(at)}"
    for rate in made.rates:
        acts = f"times alpha / rank {rate.scale:.3g} acts like {rate.effective:.3g}"
        yield f"  rate of {rate.part}: {rate.rate:.3g}, {acts}"


def _words(made: Forecast) -> Iterator[str]:
    words = made.words
    yield ""
    yield f"captions: {words.captions}, {words.different} different, {words.empty} empty"
    yield f"  tokens: {words.mean:.3g} on average, {words.longest} at most, {words.limit} are read"
    if words.t5:
        more = words.t5
        yield f"  tokens of T5: {more.mean:.3g} on average, {more.longest} at most, {more.limit} are read"
    cut = words.t5.cut if words.t5 else words.cut
    if words.t5 and words.cut:
        yield f"  longer than CLIP reads: {len(words.cut)}, of which T5 reads on"
    if cut:
        yield f"  cut off: {len(cut)}"
        yield from (f"    {each.picture}: {each.tokens} tokens, lost {each.lost[:80]!r}" for each in cut[:3])
    if words.letters:
        yield f"  read like a letter: {len(words.letters)}, first {words.letters[0]}"
    if words.common and words.captions > 1:
        yield f"  words in all captions: {', '.join(words.common[:12])}"
    if words.tags:
        yield f"  tags: {words.different_tags} different, {words.rare} of them once; most often " + ", ".join(
            f"{tag[:40]} ({count})" for tag, count in words.tags[:6]
        )


def _costs(made: Forecast) -> Iterator[str]:
    disk, cache = made.disk, made.cache
    yield ""
    if disk.adapter_file is not None and disk.checkpoint is not None and disk.total is not None:
        yield (
            f"disk: about {_bytes(disk.total)} ({disk.adapter_files} files of {_bytes(disk.adapter_file)}, "
            f"{disk.checkpoints} checkpoints of {_bytes(disk.checkpoint)}), {disk.previews} previews"
        )
    if cache.pictures:
        there = "not known yet" if cache.cached is None else f"{cache.cached} there already"
        yield f"cache: {cache.pictures} encoded pictures, {there}, {_bytes(cache.size)} in all"
    if made.memory:
        yield f"memory: {_bytes(made.memory.low)} to {_bytes(made.memory.high)}{_basis(made.memory)}"
    if made.seconds:
        yield f"time: {_time(made.seconds.low)} to {_time(made.seconds.high)}{_basis(made.seconds)}"


def _basis(found: Range) -> str:
    return {
        "uncalibrated": " (a rough estimate, not measured on this machine: --probe measures)",
        "calibrated": " (estimated)",
        "measured": " (measured by --probe)",
        "earlier": " (as earlier runs of this kind took on this machine)",
    }[found.basis]


def _some(steps: Sequence[int]) -> str:
    shown = [str(each) for each in steps]
    return ", ".join(shown if len(shown) <= 6 else [*shown[:3], "...", *shown[-2:]])


def _bytes(size: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
