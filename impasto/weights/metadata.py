"""What an adapter file tells of its training: the `ss_` keys of sd-scripts, `modelspec`, and our own.

Other programs show and search these keys, so all of them are there, as text, with honest values: "None" where there
is no such thing here.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import PurePath
from typing import Any

from impasto import files
from impasto.families.config import Precision
from impasto.families.detect import Card
from impasto.schema import Section

LYCORIS = {
    "dora": "locon", "loha": "loha", "lokr": "lokr", "glora": "glora", "ia3": "ia3", "full": "full",
    "oft": "diag-oft", "boft": "boft",
}  # fmt: skip
"""What LyCORIS calls a kind."""

ARGUMENTS = {
    "decompose": "dora_wd", "rank_stabilized": "rs_lora", "unit": "unit", "factor": "factor",
    "decompose_both": "decompose_both", "full_matrix": "full_matrix", "constraint": "constraint",
    "rescaled": "rescaled", "train_norm": "train_norm",
}  # fmt: skip
"""What it, or sd-scripts, calls a setting of a kind."""

LEAST = {"ss_v2", "ss_base_model_version", "ss_network_module", "ss_network_dim", "ss_network_alpha", "ss_network_args"}
"""What a file tells at least, beside what its author wants to say."""

TAGS_ROOM = 4 * 2**20
"""Bytes of tags that a file holds at most; rarer ones are left out."""


@dataclass(frozen=True)
class Folder:
    """A folder of pictures."""

    repeats: int
    pictures: int


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the settings do not say: what was found on disk, and how far the training is."""

    version: str
    """Of impasto."""

    session: str
    """Names this training among all others."""

    card: Card
    base_hash: str | None = None
    """SHA-256 of the base, where it was computed."""

    precision: Precision
    """In which the base was held and computed."""

    resolution: tuple[int, int]
    """Width and height."""

    pictures: int
    """Training pictures, times their repeats."""

    regularization: int = 0
    """Regularization pictures, times their repeats."""

    validation: int = 0
    folders: Mapping[str, Folder]
    """By name, without the path to it."""

    regularization_folders: Mapping[str, Folder] = field(default_factory=dict)
    tags: Mapping[str, Mapping[str, int]]
    """How often each tag stands in the captions of each folder."""

    buckets: Sequence[tuple[int, int, int]] = ()
    """Width, height and pictures of each; none without bucketing."""

    bucket_error: float | None = None
    """Mean difference between the shape of a picture and of its bucket, as width / height."""

    batches: int
    """Micro-batches in an epoch."""

    epochs: int
    steps: int
    """Of the whole training."""

    warmup: int = 0
    """Steps of the warm-up."""

    epoch: int
    """Epochs done."""

    step: int
    """Steps done."""

    started: float
    """Seconds since 1970."""

    written: float
    """When this file was."""

    final: bool
    """Whether the training is over."""

    thumbnail: bytes | None = None
    """A small JPEG of what it draws."""


def build(config: Section, facts: Facts) -> dict[str, str]:
    """Every key of the file's metadata. `config` is the RunConfig.

    Paths are told by their last name only: files are shared, and the folders of a home are nobody's business.
    """
    values = config.model_dump(mode="json")
    if values["output"]["metadata"] == "least":
        least = _network(values["adapter"]) | _base(facts) | _spec(values, facts)
        return {key: str(value) for key, value in least.items() if key in LEAST or key.startswith("modelspec.")}
    told: dict[str, object] = {**_training(values, facts), **_settings(values), **_absent(), **_data(values, facts)}
    told |= _objective(values["objective"], facts) | _of_t5(values["model"], facts)
    told |= _base(facts) | _spec(values, facts) | _own(values, facts)
    return {key: value if isinstance(value, str) else str(value) for key, value in told.items()}


def _training(values: Any, facts: Facts) -> dict[str, object]:
    """How long, how far, how many."""
    mixed = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}[facts.precision]
    return {
        "ss_session_id": facts.session,
        "ss_training_started_at": facts.started,
        "ss_training_finished_at": facts.written if facts.final else None,
        "ss_output_name": values["name"],
        "ss_num_train_images": facts.pictures,
        "ss_num_validation_images": facts.validation,
        "ss_num_reg_images": facts.regularization,
        "ss_num_batches_per_epoch": facts.batches,
        "ss_num_epochs": facts.epochs,
        "ss_max_train_steps": facts.steps,
        "ss_steps": facts.step,
        "ss_epoch": facts.epoch,
        "ss_mixed_precision": mixed,
        "ss_lr_warmup_steps": facts.warmup,
    }


def _settings(values: Any) -> dict[str, object]:
    """What was chosen."""
    model, adapter, optim, train = values["model"], values["adapter"], values["optim"], values["train"]
    captions, output, validation = values["data"]["captions"], values["output"], values["validation"]
    return _network(adapter) | {
        "ss_learning_rate": optim["learning_rate"],
        "ss_unet_lr": optim["unet_learning_rate"],
        "ss_text_encoder_lr": optim["text_encoder_learning_rate"],
        "ss_lr_scheduler": optim["schedule"]["kind"],
        "ss_optimizer": _call(optim["optimizer"]),
        "ss_max_grad_norm": optim["clip"],
        "ss_gradient_checkpointing": model["gradient_checkpointing"],
        "ss_gradient_accumulation_steps": train["accumulate"],
        "ss_seed": train["seed"],
        "ss_clip_skip": model["clip_skip"],
        "ss_max_token_length": None if model["max_tokens"] == 75 else model["max_tokens"],
        "ss_cache_latents": values["data"]["cache"],
        "ss_caption_dropout_rate": captions["dropout"],
        "ss_caption_dropout_every_n_epochs": captions["dropout_every_epochs"] or 0,
        "ss_caption_tag_dropout_rate": captions["tag_dropout"],
        "ss_validate_every_n_steps": validation["every_steps"],
        "ss_validate_every_n_epochs": None if validation["every_steps"] else 1,
        "ss_training_comment": output["comment"] or None,
    }


def _network(adapter: Any) -> dict[str, object]:
    """The kind in the words of sd-scripts, or of LyCORIS for those that only it has."""
    rank, kind = adapter.get("rank", adapter.get("block_size")), adapter["kind"]
    lycoris = LYCORIS.get("dora" if kind == "lora" and adapter["decompose"] else kind)
    if adapter["train_norm"] and not lycoris:
        lycoris = "locon"
    told: dict[str, object] = {
        "ss_network_module": "lycoris.kohya" if lycoris else f"networks.{kind.replace('-', '_')}",
        "ss_network_dim": rank,
        "ss_network_alpha": adapter.get("alpha") or (None if rank is None else float(rank)),
        "ss_network_dropout": adapter.get("dropout", 0.0),
        "ss_scale_weight_norms": adapter.get("max_norm"),
    }
    more: dict[str, object] = {"algo": lycoris} if lycoris else {}
    more |= {key: adapter[key] for key in ("dropout", "rank_dropout", "module_dropout") if adapter.get(key)}
    if conv_rank := adapter.get("conv_rank"):
        more |= {"conv_dim": conv_rank, "conv_alpha": adapter["conv_alpha"] or float(conv_rank)}
    more |= {word: adapter[key] for key, word in ARGUMENTS.items() if adapter.get(key)}
    if more:
        told["ss_network_args"] = json.dumps({key: str(value) for key, value in more.items()})
    return told


def _objective(chosen: Any, facts: Facts) -> dict[str, object]:
    """What was learnt from which noise; settings that sd-scripts has no key for stand in `impasto.config` only."""
    loss, weighting = chosen["loss"], chosen["weighting"]
    offset, pyramid, perturbation = (chosen["noise"][each] or {} for each in ("offset", "pyramid", "perturbation"))
    rescaled = chosen["zero_terminal_snr"] or facts.card.scheduler.get("rescale_betas_zero_snr", False)
    return {
        "ss_prior_loss_weight": chosen["prior_weight"],
        "ss_loss_type": {"mse": "l2", "smooth-l1": "smooth_l1"}.get(loss["kind"], loss["kind"]),
        "ss_huber_schedule": loss.get("schedule"),
        "ss_huber_c": loss.get("threshold"),
        "ss_huber_scale": loss.get("scale"),
        "ss_min_snr_gamma": weighting["gamma"] if weighting["kind"] == "min-snr" else None,
        "ss_debiased_estimation": weighting["kind"] == "debiased",
        "ss_zero_terminal_snr": bool(rescaled),
        "ss_noise_offset": offset.get("strength"),
        "ss_noise_offset_random_strength": offset.get("random", False),
        "ss_adaptive_noise_scale": offset.get("adaptive") or None,
        "ss_multires_noise_iterations": pyramid.get("iterations"),
        "ss_multires_noise_discount": pyramid.get("discount"),
        "ss_ip_noise_gamma": perturbation.get("gamma"),
        "ss_ip_noise_gamma_random_strength": perturbation.get("random", False),
    }


def _of_t5(model: Any, facts: Facts) -> dict[str, object]:
    """What a base with T5 was told."""
    if not facts.card.t5_tokens:
        return {}
    told: dict[str, object] = {"ss_apply_t5_attn_mask": model["text_encoder_mask"] in ("t5", "all")}
    if facts.card.guided:
        told |= {"ss_guidance_scale": model["guidance"], "ss_model_prediction_type": "raw"}
    return told


def _absent() -> dict[str, object]:
    """What every file of sd-scripts tells and there is nothing of here."""
    none = "face_crop_aug_range max_validation_steps resize_interpolation sd_scripts_commit_hash validation_seed"
    no = "fp8_base fp8_base_unet full_fp16 lowram"
    told: dict[str, object] = {f"ss_{key}": None for key in none.split()}
    return told | {f"ss_{key}": False for key in no.split()} | {"ss_validation_split": 0.0}


def _data(values: Any, facts: Facts) -> dict[str, object]:
    """The pictures and how they were seen."""
    data = values["data"]
    buckets, augment, captions = data["buckets"], data["augment"], data["captions"]
    return {
        "ss_batch_size_per_device": data["batch_size"],
        "ss_total_batch_size": data["batch_size"] * values["train"]["accumulate"],
        "ss_resolution": facts.resolution,
        "ss_color_aug": augment["color"] > 0,
        "ss_flip_aug": augment["flip"],
        "ss_random_crop": augment["random_crop"],
        "ss_shuffle_caption": captions["shuffle"],
        "ss_keep_tokens": captions["keep_tokens"],
        "ss_enable_bucket": buckets["enabled"],
        "ss_bucket_no_upscale": not buckets["upscale"],
        "ss_min_bucket_reso": buckets["smallest"],
        "ss_max_bucket_reso": buckets["largest"],
        "ss_dataset_dirs": _folders(facts.folders),
        "ss_reg_dataset_dirs": _folders(facts.regularization_folders),
        "ss_tag_frequency": json.dumps(_commonest(facts.tags)),
        "ss_bucket_info": _buckets(facts),
    }


def _folders(folders: Mapping[str, Folder]) -> str:
    return json.dumps({name: {"n_repeats": each.repeats, "img_count": each.pictures} for name, each in folders.items()})


def _commonest(tags: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """The tags by folder, the most frequent first, as many as there is room for."""
    found: dict[str, dict[str, int]] = {folder: {} for folder in tags}
    room = TAGS_ROOM
    counts = Counter({(folder, tag): count for folder, each in tags.items() for tag, count in each.items()})
    for (folder, tag), count in counts.most_common():
        room -= len(json.dumps(tag)) + 16
        if room < 0:
            break
        found[folder][tag] = count
    return found


def _buckets(facts: Facts) -> str:
    if not facts.buckets:
        return "null"
    each = {at: {"resolution": [w, h], "count": count} for at, (w, h, count) in enumerate(facts.buckets)}
    return json.dumps({"buckets": each, "mean_img_ar_error": facts.bucket_error})


def _base(facts: Facts) -> dict[str, object]:
    version = facts.card.called.version
    told: dict[str, object] = {
        "ss_base_model_version": version,
        "ss_v2": version.startswith("sd_v2"),
        "ss_sd_model_name": facts.card.name,
    }
    return told | ({"ss_new_sd_model_hash": facts.base_hash} if facts.base_hash else {})


def _spec(values: Any, facts: Facts) -> dict[str, object]:
    """The keys of the Stability AI model metadata standard, version 1.0.1."""
    output, times, skip = values["output"], values["objective"]["timesteps"], values["model"]["clip_skip"]
    told: dict[str, object] = {
        "sai_model_spec": "1.0.1",
        "architecture": f"{facts.card.called.architecture}/lora",
        "implementation": "diffusers",
        "implementation_version": f"impasto/{facts.version}",
        "title": output["title"] or values["name"],
        "date": datetime.fromtimestamp(facts.written, UTC).isoformat(timespec="seconds"),
        "resolution": "{}x{}".format(*facts.resolution),
        "prediction_type": "" if facts.card.prediction == "flow" else facts.card.prediction,
        "author": output["author"],
        "description": output["description"] or output["comment"],
        "license": output["license"],
        "tags": ", ".join(output["tags"]),
        "trigger_phrase": output["trigger_phrase"],
        "usage_hint": output["usage_hint"],
        "preprocessor": output["preprocessor"],
        "thumbnail": f"data:image/jpeg;base64,{b64encode(facts.thumbnail).decode()}" if facts.thumbnail else "",
        "encoder_layer": skip if skip > 1 else "",
        "timestep_range": _range(times),
    }
    return {f"modelspec.{key}": value for key, value in told.items() if value != ""}


def _range(times: Any) -> str:
    low, high = times.get("low", 0), times.get("high", 1000)
    return "" if (low, high) == (0, 1000) else f"{low},{high}"


def _own(values: Any, facts: Facts) -> dict[str, object]:
    told = {
        name: each for name, each in values.items() if name != "track"
    }  # whose curves they are is nobody's business
    return {
        "impasto.version": facts.version,
        "impasto.fingerprint": sha256(files.canonical(values)).hexdigest(),
        "impasto.config": files.canonical(_without_places(told)).decode(),
        "impasto.seed": values["train"]["seed"],
    }


def _without_places(value: Any, key: str = "") -> Any:
    """The settings with every path cut down to its last name."""
    if isinstance(value, dict):
        return {name: _without_places(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [_without_places(each, key) for each in value]
    place = key in ("metadata", "folder") or key.endswith("path")
    return PurePath(value).name if place and isinstance(value, str) else value


def _call(optimizer: Mapping[str, Any]) -> str:
    """`impasto.optim.adamw(beta1=0.9, ...)`: the name and arguments in one, as sd-scripts tells them."""
    arguments = ",".join(f"{key}={value}" for key, value in optimizer.items() if key != "kind")
    return f"impasto.optim.{optimizer['kind']}({arguments})"
