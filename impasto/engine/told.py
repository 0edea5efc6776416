"""What an adapter file says of how it was made: gathered from the plan and the pictures."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from math import ceil, sqrt

import torch

import impasto
from impasto import files
from impasto.adapters.config import Adapter, Ranked
from impasto.config import RunConfig, fingerprint
from impasto.data.config import Role
from impasto.data.examples import Example
from impasto.data.feed import Feed
from impasto.engine.device import Compute
from impasto.families.detect import Card
from impasto.files import JSON
from impasto.rates import part_rates, text_encoder_until
from impasto.weights.metadata import Facts, Folder


@dataclass(frozen=True)
class Teller:
    """Knows all of a run but how far it is."""

    config: RunConfig
    card: Card
    feed: Feed
    compute: Compute
    base_hash: str
    session: str
    total: int

    def facts(self, step: int, *, started: float, written: float, thumbnail: bytes | None = None) -> Facts:
        """What a file written after `step` steps says."""
        plan = self.feed.plan
        width, height = _sides(self.config, self.card)
        warmup = self.config.optim.schedule.warmup
        return Facts(
            version=impasto.__version__,
            session=self.session,
            card=self.card,
            base_hash=self.base_hash,
            precision=self.compute.precision,
            resolution=(width, height),
            pictures=sum(each.repeats for each in self._role("train")),
            regularization=sum(each.repeats for each in self._role("regularization")),
            validation=len(self._role("validation")),
            folders=self._folders("train"),
            regularization_folders=self._folders("regularization"),
            tags=self._tags(),
            buckets=self._buckets(),
            bucket_error=self._bucket_error(),
            batches=len(plan.epoch(0)),
            epochs=ceil(self.total / plan.steps_per_epoch),
            steps=self.total,
            warmup=warmup if isinstance(warmup, int) else int(warmup * self.total),
            epoch=plan.epoch_of(step - 1) + 1 if step else 0,
            step=step,
            started=started,
            written=written,
            final=step >= self.total,
            thumbnail=thumbnail,
        )

    def record(self) -> dict[str, JSON]:
        """What the run's record adds about this process: what it computes on, with which dice, on what."""
        return {
            "impasto": impasto.__version__,
            "session": self.session,
            "device": str(self.compute.device),
            "precision": self.compute.precision,
            "threads": torch.get_num_threads(),
            "seed": self.config.train.seed,
            "steps": self.total,
            "config": fingerprint(self.config),
            "text_encoder_until": text_encoder_until(self.config, self.total),
            "base": {
                "name": self.card.name,
                "family": self.card.family,
                "sha256": self.base_hash,
                "merged": [{"file": each.path.name, "weight": each.weight} for each in self.config.model.merged],
            },
            "pictures": {
                "train": len(self._role("train")),
                "regularization": len(self._role("regularization")),
                "validation": len(self._role("validation")),
                "sha256": self._fingerprint(),
            },
            "effective_rates": {
                part: rate * _scale(self.config.adapter) for part, rate in part_rates(self.config).items()
            },
        }

    def _fingerprint(self) -> str:
        """Equal for the same pictures with the same captions and repeats, wherever they lie."""
        seen = sorted(
            (each.id, each.caption, each.repeats, each.role, each.weight, each.mask.id if each.mask else "")
            for found in self.feed.scan.examples
            for each in found
        )
        return sha256(files.canonical(seen)).hexdigest()

    def _role(self, role: Role) -> list[Example]:
        return [each for found in self.feed.scan.examples for each in found if each.role == role]

    def _folders(self, role: Role) -> dict[str, Folder]:
        count = Counter((each.path.parent.name, each.repeats) for each in self._role(role))
        return {name: Folder(repeats, pictures) for (name, repeats), pictures in sorted(count.items())}

    def _tags(self) -> dict[str, dict[str, int]]:
        found: dict[str, Counter[str]] = {}
        for each in self._role("train"):
            tags = (tag.strip().lower() for tag in each.caption.replace("\n", ",").split(","))
            found.setdefault(each.path.parent.name, Counter()).update(tag for tag in tags if tag)
        return {name: dict(count) for name, count in found.items()}

    def _buckets(self) -> list[tuple[int, int, int]]:
        count = Counter(
            entry.placement.bucket for pool in self.feed.plan.pools if pool.role == "train" for entry in pool.entries
        )
        return [(bucket.width, bucket.height, pictures) for bucket, pictures in sorted(count.items())]

    def _bucket_error(self) -> float | None:
        errors = [
            abs(example.size[0] / example.size[1] - entry.placement.bucket.width / entry.placement.bucket.height)
            for pool, found in zip(self.feed.plan.pools, self.feed.scan.examples, strict=True)
            for entry, example in zip(pool.entries, found, strict=True)
            if pool.role == "train"
        ]
        return sum(errors) / len(errors) if errors else None


def _scale(adapter: Adapter) -> float:
    """What the adapter's output is multiplied by: with it, rates of different alphas compare."""
    if not isinstance(adapter, Ranked):
        return 1.0
    return (adapter.alpha or adapter.rank) / (sqrt(adapter.rank) if adapter.rank_stabilized else adapter.rank)


def _sides(config: RunConfig, card: Card) -> tuple[int, int]:
    return config.data.resolution_of(config.data.sets[0], (card.resolution, card.resolution))
