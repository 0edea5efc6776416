"""The metadata of adapter files: complete, honest, and without the folders of a home."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from impasto.adapters.config import Adapter, DyLora, Ia3, Lokr, Lora, LoraFa, Oft
from impasto.config import RunConfig, fingerprint
from impasto.data.config import Captions, Data, Dataset
from impasto.engine.config import Output, Train
from impasto.families import detect
from impasto.families.config import Model
from impasto.objectives.config import (
    Debiased,
    MinSnr,
    Noise,
    Objective,
    Offset,
    Perturbation,
    Pyramid,
    SmoothL1,
    Uniform,
)
from impasto.track.config import Track
from impasto.weights import metadata
from impasto.weights.metadata import Facts, Folder

ALWAYS = """
adaptive_noise_scale base_model_version cache_latents caption_dropout_every_n_epochs caption_dropout_rate
caption_tag_dropout_rate clip_skip debiased_estimation epoch face_crop_aug_range fp8_base fp8_base_unet full_fp16
gradient_accumulation_steps gradient_checkpointing huber_c huber_scale huber_schedule ip_noise_gamma
ip_noise_gamma_random_strength learning_rate loss_type lowram lr_scheduler lr_warmup_steps max_grad_norm
max_token_length max_train_steps max_validation_steps min_snr_gamma mixed_precision multires_noise_discount
multires_noise_iterations network_alpha network_dim network_dropout network_module noise_offset
noise_offset_random_strength num_batches_per_epoch num_epochs num_reg_images num_train_images num_validation_images
optimizer output_name prior_loss_weight resize_interpolation scale_weight_norms sd_scripts_commit_hash seed session_id
steps text_encoder_lr training_comment training_finished_at training_started_at unet_lr v2 validate_every_n_epochs
validate_every_n_steps validation_seed validation_split zero_terminal_snr
"""


@pytest.fixture
def facts(tiny_base: Path) -> Facts:
    return Facts(
        version="1.2.3", session="42", card=detect.look(Model(path=str(tiny_base))), precision="bf16",
        resolution=(512, 512), pictures=40, folders={"10_cat": Folder(10, 4)}, tags={"10_cat": {"cat": 4, "hat": 1}},
        buckets=[(512, 512, 3), (448, 576, 1)], bucket_error=0.01, batches=40, epochs=2, steps=80, epoch=1, step=40,
        started=1000.0, written=2000.5, final=False,
    )  # fmt: skip


def test_every_key_that_sd_scripts_always_writes_is_there_as_text(facts: Facts) -> None:
    told = metadata.build(RunConfig(), facts)
    assert {f"ss_{key}" for key in ALWAYS.split()} <= told.keys()
    assert all(isinstance(value, str) for value in told.values())


def test_values_are_those_of_the_run(facts: Facts) -> None:
    config = RunConfig(
        name="tom",
        adapter=Lora(rank=8, alpha=0, conv_rank=4, rank_dropout=0.1),
        train=Train(seed=7, accumulate=2),
        data=Data(batch_size=3, captions=Captions(shuffle=True)),
        output=Output(title="Tom the cat", author="me"),
        objective=Objective(timesteps=Uniform(low=100)),
    )
    told = metadata.build(config, facts)
    assert told["ss_output_name"] == "tom"
    assert (told["ss_network_dim"], told["ss_network_alpha"]) == ("8", "8.0")
    assert json.loads(told["ss_network_args"]) == {"conv_dim": "4", "conv_alpha": "1.0", "rank_dropout": "0.1"}
    assert told["ss_text_encoder_lr"] == "None"
    assert told["ss_total_batch_size"] == "6"
    assert told["ss_resolution"] == "(512, 512)"
    assert told["ss_mixed_precision"] == "bf16"
    assert told["ss_shuffle_caption"] == "True"
    assert json.loads(told["ss_dataset_dirs"]) == {"10_cat": {"n_repeats": 10, "img_count": 4}}
    assert json.loads(told["ss_tag_frequency"]) == {"10_cat": {"cat": 4, "hat": 1}}
    assert json.loads(told["ss_bucket_info"])["buckets"]["1"] == {"resolution": [448, 576], "count": 1}
    assert told["ss_optimizer"] == "impasto.optim.adamw(beta1=0.9,beta2=0.999,eps=1e-08,weight_decay=0.01)"
    assert told["modelspec.title"] == "Tom the cat"
    assert told["modelspec.date"] == "1970-01-01T00:33:20+00:00"
    assert told["modelspec.timestep_range"] == "100,1000"
    assert told["modelspec.prediction_type"] == "epsilon"
    assert told["impasto.seed"] == "7"
    assert told["impasto.fingerprint"] == fingerprint(config)


def test_only_the_last_file_says_when_the_training_ended(facts: Facts) -> None:
    assert metadata.build(RunConfig(), facts)["ss_training_finished_at"] == "None"
    assert metadata.build(RunConfig(), replace(facts, final=True))["ss_training_finished_at"] == "2000.5"


def test_the_folders_of_a_home_are_not_told(facts: Facts) -> None:
    secret = Path("/home/somebody/private")
    config = RunConfig(
        model=Model(path=str(secret / "base")),
        data=Data(sets=(Dataset(path=secret / "10_cat"),), captions=Captions(metadata=secret / "all.jsonl")),
        output=Output(folder=secret / "runs"),
        track=Track(to=("wandb",), folder=secret / "logs", options={"entity": "somebody"}),
    )
    told = metadata.build(config, facts)
    assert not any("somebody" in value or "private" in value for value in told.values())
    assert json.loads(told["impasto.config"])["data"]["sets"][0]["path"] == "10_cat"


def test_what_the_author_says_stands_in_the_words_of_the_metadata_standard(facts: Facts) -> None:
    output = Output(
        description="a grey cat", license="CC BY 4.0", tags=("cat", "pet"), trigger_phrase="tom cat",
        usage_hint="strength 0.8", comment="third try", preprocessor="cropped by hand",
    )  # fmt: skip
    told = metadata.build(RunConfig(output=output), replace(facts, thumbnail=b"picture"))
    said = {key.removeprefix("modelspec."): value for key, value in told.items()}
    assert (said["description"], said["license"], said["tags"]) == ("a grey cat", "CC BY 4.0", "cat, pet")
    assert (said["trigger_phrase"], said["usage_hint"]) == ("tom cat", "strength 0.8")
    assert said["preprocessor"] == "cropped by hand"
    assert said["thumbnail"] == "data:image/jpeg;base64,cGljdHVyZQ=="
    assert told["ss_training_comment"] == "third try"
    plain = metadata.build(RunConfig(output=Output(comment="third try")), facts)
    assert plain["modelspec.description"] == "third try"
    assert not {"modelspec.thumbnail", "modelspec.license", "modelspec.trigger_phrase"} & plain.keys()


def test_the_least_is_what_programs_need_and_what_the_author_says(facts: Facts) -> None:
    output = Output(metadata="least", trigger_phrase="tom cat")
    told = metadata.build(RunConfig(name="tom", adapter=Lora(conv_rank=4), output=output), facts)
    assert {key for key in told if not key.startswith("modelspec.")} == metadata.LEAST
    assert told["modelspec.trigger_phrase"] == "tom cat"
    full = metadata.build(RunConfig(name="tom", adapter=Lora(conv_rank=4)), facts)
    assert all(full[key] == told[key] for key in metadata.LEAST)


def test_a_million_tags_do_not_fill_the_file(facts: Facts) -> None:
    tags = {"many": {f"a tag that is rather long, number {at}": 1 for at in range(200_000)} | {"cat": 9}}
    told = metadata.build(RunConfig(), replace(facts, tags=tags))
    assert len(told["ss_tag_frequency"]) <= metadata.TAGS_ROOM
    assert json.loads(told["ss_tag_frequency"])["many"]["cat"] == 9


def test_what_was_learnt_from_which_noise_is_told_as_sd_scripts_does(facts: Facts) -> None:
    objective = Objective(
        noise=Noise(
            offset=Offset(strength=0.1, adaptive=0.2, random=True),
            pyramid=Pyramid(iterations=8),
            perturbation=Perturbation(),
        ),
        loss=SmoothL1(threshold=0.2, schedule="exponential"),
        weighting=MinSnr(gamma=4.0),
        zero_terminal_snr=True,
    )
    told = metadata.build(RunConfig(objective=objective), facts)
    assert {key: told[f"ss_{key}"] for key in TOLD} == TOLD
    assert (
        metadata.build(RunConfig(objective=Objective(weighting=Debiased())), facts)["ss_debiased_estimation"] == "True"
    )


TOLD = {
    "loss_type": "smooth_l1", "huber_schedule": "exponential", "huber_c": "0.2", "huber_scale": "1.0",
    "min_snr_gamma": "4.0", "debiased_estimation": "False", "zero_terminal_snr": "True", "noise_offset": "0.1",
    "noise_offset_random_strength": "True", "adaptive_noise_scale": "0.2", "multires_noise_iterations": "8",
    "multires_noise_discount": "0.3", "ip_noise_gamma": "0.1", "ip_noise_gamma_random_strength": "False",
}  # fmt: skip


def test_plain_noise_is_told_as_none(facts: Facts) -> None:
    told = metadata.build(RunConfig(), facts)
    assert (told["ss_loss_type"], told["ss_noise_offset"], told["ss_huber_c"]) == ("l2", "None", "None")
    assert told["ss_zero_terminal_snr"] == "False"


KINDS: list[tuple[Adapter, str, str, dict[str, str]]] = [
    (Lora(), "networks.lora", "4", {}),
    (LoraFa(), "networks.lora_fa", "4", {}),
    (DyLora(rank=8, unit=4), "networks.dylora", "8", {"unit": "4"}),
    (Lora(decompose=True), "lycoris.kohya", "4", {"algo": "locon", "dora_wd": "True"}),
    (Lokr(factor=8), "lycoris.kohya", "4", {"algo": "lokr", "factor": "8"}),
    (Ia3(), "lycoris.kohya", "None", {"algo": "ia3"}),
    (Oft(block_size=8), "lycoris.kohya", "8", {"algo": "diag-oft"}),
]


@pytest.mark.parametrize(("adapter", "module", "dim", "args"), KINDS, ids=[module for _, module, _, _ in KINDS])
def test_a_kind_is_told_in_the_words_of_other_programs(
    facts: Facts, adapter: Adapter, module: str, dim: str, args: dict[str, str]
) -> None:
    told = metadata.build(RunConfig(adapter=adapter), facts)
    assert (told["ss_network_module"], told["ss_network_dim"]) == (module, dim)
    assert json.loads(told.get("ss_network_args", "{}")) == args
