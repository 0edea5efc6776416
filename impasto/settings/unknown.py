"""A key that no section has: what was meant by it."""

from __future__ import annotations

from collections.abc import Iterator

from impasto.errors import Problem
from impasto.schema import Section
from impasto.settings import fields
from impasto.settings.fields import Kinds, Listing
from impasto.settings.places import Key
from impasto.settings.source import Source, dotted, shown
from impasto.settings.suggest import nearest

OTHER_WORDS = {
    "lr": "optim.learning_rate",
    "unet_lr": "optim.unet_learning_rate",
    "text_encoder_lr": "optim.text_encoder_learning_rate",
    "optimizer_type": "optim.optimizer.kind",
    "lr_scheduler": "optim.schedule.kind",
    "lr_warmup_steps": "optim.schedule.warmup",
    "max_grad_norm": "optim.clip",
    "gradient_clipping": "optim.clip",
    "network_dim": "adapter.rank",
    "dim": "adapter.rank",
    "network_alpha": "adapter.alpha",
    "conv_dim": "adapter.conv_rank",
    "network_dropout": "adapter.dropout",
    "network_weights": "adapter.start.path",
    "base_weights": "model.merged",
    "scale_weight_norms": "adapter.max_norm",
    "loraplus_lr_ratio": "optim.lora_plus",
    "loraplus_unet_lr_ratio": "optim.unet_lora_plus",
    "loraplus_text_encoder_lr_ratio": "optim.text_encoder_lora_plus",
    "down_lr_weight": "adapter.blocks.down_rates",
    "mid_lr_weight": "adapter.blocks.mid_rates",
    "up_lr_weight": "adapter.blocks.up_rates",
    "block_lr_zero_threshold": "adapter.blocks.zero_threshold",
    "block_dims": "adapter.blocks.ranks",
    "block_alphas": "adapter.blocks.alphas",
    "stop_text_encoder_training": "train.text_encoder_until",
    "max_train_steps": "train.steps",
    "max_train_epochs": "train.epochs",
    "num_epochs": "train.epochs",
    "gradient_accumulation_steps": "train.accumulate",
    "train_batch_size": "data.batch_size",
    "num_repeats": "data.sets.*.repeats",
    "image_dir": "data.sets.*.path",
    "train_data_dir": "data.sets.*.path",
    "shuffle_caption": "data.captions.shuffle",
    "caption_extension": "data.captions.extensions",
    "caption_dropout_rate": "data.captions.dropout",
    "caption_tag_dropout_rate": "data.captions.tag_dropout",
    "flip_aug": "data.augment.flip",
    "color_aug": "data.augment.color",
    "enable_bucket": "data.buckets.enabled",
    "min_bucket_reso": "data.buckets.smallest",
    "max_bucket_reso": "data.buckets.largest",
    "bucket_reso_steps": "data.buckets.step",
    "pretrained_model_name_or_path": "model.path",
    "base_model": "model.path",
    "mixed_precision": "model.precision",
    "prior_loss_weight": "objective.prior_weight",
    "output_dir": "output.folder",
    "output_name": "name",
    "save_every_n_steps": "save.every_steps",
    "save_every_n_epochs": "save.every_epochs",
    "sample_every_n_steps": "preview.every_steps",
    "sample_prompts": "preview.prompts",
}
"""What settings are called in other trainers."""

A_ROTATION = "a rotation keeps the length of every weight, so nothing grows; constraint limits how far it turns"
WHY_NOT = {("oft", "max_norm"): A_ROTATION, ("boft", "max_norm"): A_ROTATION}
"""Settings that a kind has not for a reason."""

RUNS_CODE = {
    "trust_remote_code",
    "import",
    "exec",
    "eval",
    "hook",
    "hooks",
    "callback",
    "callable",
    "_target_",
    "python",
}


def unknown(
    key: Key, section: type[Section], value: object, root: type[Section], source: Source
) -> tuple[str | None, Problem]:
    """The problem, and the key of the same section that was meant, if one was."""
    name, place = str(key[-1]), source.place(key)
    if name.casefold() in RUNS_CODE:
        fix = "delete it; extensions are installed as packages"
        return None, Problem("E-CFG-009", "is not allowed: a file of settings never runs code", place, fix)
    meant = nearest(name[:100], fields.settings(section))
    elsewhere = [other for other in _called(name, root) if other != ".".join(map(str, _starred(key)))]
    if meant and (not elsewhere or nearest(name, [meant], farthest=1)):
        what = f"there is no setting {_where(key, section)}. Expected {meant}"
        return meant, Problem("E-CFG-010", what, place, source.assign((*key[:-1], meant), value, instead_of=key))
    if reason := WHY_NOT.get((fields.kind_of(section) or "", name)):
        what = f"there is no setting {_where(key, section)}: {reason}"
        return None, Problem("E-CFG-010", what, place, "delete it")
    if kind := _other_kind(key, name, root):
        what = f"this key belongs to the kind {kind}, not to the kind {fields.kind_of(section)}"
        fix = f"delete it, or {source.assign((*key[:-1], 'kind'), kind, instead_of=key)}"
        return None, Problem("E-CFG-010", what, place, fix)
    if elsewhere:
        what = f"there is no setting {_where(key, section)}; this key belongs in {' or '.join(elsewhere[:3])}"
        return None, Problem("E-CFG-010", what, place, _move(elsewhere[0], value))
    if (other := OTHER_WORDS.get(name)) is None and (near := nearest(name[:100], _names(root), farthest=1)):
        other = ".".join(_called(near, root, whole=True)[:1])
    if other:
        what = f"there is no setting {_where(key, section)}; here it is called {other.replace('*.', '')}"
        return None, Problem("E-CFG-010", what, place, _move(other, value, whole=True))
    what = f"there is no setting {_where(key, section)}. Expected one of {', '.join(fields.settings(section))}"
    return None, Problem("E-CFG-010", what, place, "delete it")


def _where(key: Key, section: type[Section]) -> str:
    name = dotted(key[-1:])
    kind = fields.kind_of(section)
    inside = dotted(tuple(part for part in key[:-1] if isinstance(part, str)))
    return f"{name} in [{inside}]{f' of kind {kind}' if kind else ''}" if inside else f"{name} at the top"


def _called(name: str, root: type[Section], *, whole: bool = False) -> list[str]:
    """The sections that have a setting of this name, or with `whole` its dotted keys; those nearest the top first."""
    paths = [path for path, _ in fields.walk(root) if path[-1] == name and name != "kind"]
    found = sorted(paths, key=len)  # the broader section is the likelier one
    spelt = [".".join(path) if whole else _header(path[:-1], root) for path in found]
    return list(dict.fromkeys(spelt))


def _header(path: tuple[str, ...], root: type[Section]) -> str:
    named = ".".join(part for part in path if part != "*")
    if not named:
        return "the top of the file"
    listed = path[-1] == "*" or ((settings := fields.at(root, path)) and isinstance(settings[0].shape, Listing))
    return f"[[{named}]]" if listed else f"[{named}]"


def _move(to: str, value: object, *, whole: bool = False) -> str:
    if not whole:
        return f"move the line under {to}" if to.startswith("[") else "move the line to the top of the file"
    *path, name = to.split(".")
    header = ".".join(part for part in path if part != "*")
    under = f" under [{'[' * ('*' in path)}{header}{']' * ('*' in path)}]" if header else ""
    return f"{name} = {shown(value)}{under}"


def _other_kind(key: Key, name: str, root: type[Section]) -> str | None:
    for setting in fields.at(root, key[:-1]):
        if isinstance(setting.shape, Kinds):
            kinds = [kind for kind, section in setting.shape.sections if name in fields.settings(section)]
            return kinds[0] if kinds else None
    return None


def _names(root: type[Section]) -> Iterator[str]:
    return (path[-1] for path, _ in fields.walk(root) if path[-1] != "*")


def _starred(key: Key) -> tuple[str, ...]:
    return tuple("*" if isinstance(part, int) else part for part in key)
