"""What users take for a base and is none is called by its name, from a few bytes of it."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from impasto.errors import ModelFileError
from impasto.families import detect, strangers
from impasto.families.config import Model
from tests.families import sparse
from tests.weights.listings import FOLDER, listing

Shapes = dict[str, tuple[int, ...]]
W = (64, 64)


def of(*names: str) -> Shapes:
    return dict.fromkeys(names, W)


FLUX = ("double_blocks.0.img_attn.qkv.weight", "single_blocks.0.linear1.weight", "img_in.weight")
OTHER_BASES: dict[str, tuple[Shapes, str]] = {
    "Chroma": (of(*FLUX, "distilled_guidance_layer.layers.0.in_layer.weight"), "is Chroma"),
    "Chroma, prefixed": (
        of(*(f"model.diffusion_model.{each}" for each in (*FLUX, "distilled_guidance_layer.norms.0.scale"))),
        "is Chroma",
    ),
    "FLUX.2": (of(*FLUX, "double_stream_modulation_img.lin.weight"), r"is FLUX\.2"),
    "HunyuanVideo": (of(*FLUX, "txt_in.individual_token_refiner.blocks.0.norm1.weight"), "is HunyuanVideo"),
    "HunyuanDiT": (of("text_embedding_padding", "blocks.0.attn1.Wqkv.weight"), "is HunyuanDiT"),
    "Wan": (of("patch_embedding.weight", "head.modulation", "blocks.0.self_attn.q.weight"), "is Wan"),
    "Wan, diffusers": (
        of("patch_embedding.weight", "condition_embedder.time_proj.weight", "blocks.0.attn1.to_q.weight"), "is Wan",
    ),
    "Qwen-Image": (
        of("transformer_blocks.0.img_mod.1.weight", "txt_norm.weight", "transformer_blocks.0.attn.add_q_proj.weight"),
        "is Qwen-Image",
    ),
    "Z-Image": (of("cap_pad_token", "noise_refiner.0.attention.qkv.weight", "cap_embedder.1.weight"), "is Z-Image"),
    "Lumina": (of("cap_embedder.1.weight", "context_refiner.0.attention.qkv.weight"), "is Lumina"),
    "PixArt": (of("y_embedder.y_embedding", "blocks.0.cross_attn.q_linear.weight"), "is PixArt"),
    "PixArt, diffusers": (
        of("adaln_single.linear.weight", "caption_projection.linear_1.weight", "pos_embed.proj.weight"), "is PixArt",
    ),
    "Sana": (of("caption_norm.weight", "transformer_blocks.0.ff.conv_inverted.weight"), "is Sana"),
    "LTX": (of("patchify_proj.weight", "adaln_single.linear.weight"), "is LTX-Video"),
    "AuraFlow": (of("cond_seq_linear.weight", "double_layers.0.attn.w1q.weight"), "is AuraFlow"),
    "AuraFlow, diffusers": (of("pos_embed.register_tokens", "joint_transformer_blocks.0.attn.to_q.weight"), "is Aura"),
    "HiDream": (of("double_stream_blocks.0.block.attn1.to_q.weight",), "is HiDream"),
    "Mochi": (of("t5_y_embedder.to_kv.weight", "blocks.0.attn.qkv_x.weight"), "is Mochi"),
    "CogVideoX": (of("patch_embed.text_proj.weight", "transformer_blocks.0.attn1.to_q.weight"), "is CogVideoX"),
    "Cascade, stage C": (of("clip_txt_pooled_mapper.weight", "down_blocks.0.0.channelwise.0.weight"), "Stable Cascade"),
    "Cascade, stage B": (of("effnet_mapper.0.weight", "down_blocks.0.0.channelwise.0.weight"), "Stable Cascade"),
    "SVD": (
        of("model.diffusion_model.input_blocks.1.1.time_stack.0.attn1.to_q.weight",
           "model.diffusion_model.input_blocks.1.1.time_mixer.mix_factor"), "is Stable Video Diffusion",
    ),
    "Kolors": (of("encoder_hid_proj.weight", "add_embedding.linear_1.weight"), "is Kolors"),
    "Kolors, one file": (
        {**listing("sdxl-base.original"), "model.diffusion_model.label_emb.0.0.weight": (1280, 5632)}, "is Kolors",
    ),
    "Playground": ({**listing("sdxl-base.original"), "edm_mean": (4,), "edm_std": (4,)}, r"is Playground 2\.5"),
}  # fmt: skip
HELPERS: dict[str, tuple[Shapes, str]] = {
    "ControlNet": (of("control_model.input_blocks.0.0.weight", "control_model.zero_convs.0.0.weight"), "a ControlNet"),
    "ControlNet, diffusers": (of("controlnet_cond_embedding.conv_in.weight", "down_blocks.0.x"), "is a ControlNet"),
    "ControlNet, FLUX": (of("controlnet_x_embedder.weight", "controlnet_blocks.0.weight"), "is a ControlNet"),
    "IP-Adapter": (of("image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight"), "is an IP-Adapter"),
    "AnimateDiff": (
        of("down_blocks.0.motion_modules.0.temporal_transformer.norm.weight"), "is a motion module",
    ),
    "T2I-Adapter": (of("adapter.body.0.resnets.0.block1.weight",), "is a T2I-Adapter"),
    "CLIP vision": (of("vision_model.encoder.layers.0.mlp.fc1.weight",), "is an image encoder"),
    "ESRGAN": (of("conv_first.weight", "body.0.rdb1.conv1.weight"), "is an upscaler"),
    "ESRGAN, older": (of("model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight"), "is an upscaler"),
    "SwinIR": (of("conv_first.weight", "layers.0.residual_group.blocks.0.attn.qkv.weight"), "is an upscaler"),
    "Cascade, stage A": (of("vquantizer.codebook.weight", "in_block.1.weight"), "is the decoder of Stable Cascade"),
    "VAE of Wan": (of("decoder.upsamples.0.residual.2.weight",), "is a VAE of videos"),
    "language model": (of("model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight"), "a language model"),
    "embedding": ({"emb_params": (8, 768)}, "is a textual inversion"),
    "embedding of two": ({"clip_l": (4, 768), "clip_g": (4, 1280)}, "is a textual inversion"),
    "embedding, diffusers": ({"<my-cat>": (1, 768)}, "is a textual inversion"),
    "hypernetwork": (of("768.0.linear.0.weight", "768.0.linear.0.bias"), "is a hypernetwork"),
}  # fmt: skip


def refused(path: Path) -> str:
    with pytest.raises(ModelFileError) as caught:
        detect.look(Model(path=str(path)))
    (line,) = str(caught.value).splitlines()
    assert "Fix: " in line
    return line


@pytest.mark.parametrize("name", [*OTHER_BASES, *HELPERS])
def test_a_file_is_called_what_it_is(name: str, tmp_path: Path) -> None:
    shapes, expected = {**OTHER_BASES, **HELPERS}[name]
    line = refused(sparse.write(tmp_path / "model.safetensors", shapes))
    assert re.search(expected, line), line
    assert line.startswith("E-MOD-103" if name in OTHER_BASES else "E-MOD-113")


@pytest.mark.parametrize("title", sorted(set(strangers.PIPELINES)))
def test_a_folder_is_called_what_it_is(title: str, tmp_path: Path) -> None:
    index = {"_class_name": title if title.endswith("Pipeline") else f"{title}Pipeline", "_diffusers_version": "0.36.0"}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    line = refused(tmp_path)
    assert line.startswith("E-MOD-103")
    assert strangers.PIPELINES[title] in line


def test_no_published_file_of_a_base_that_is_trained_is_a_stranger() -> None:
    names = [path.name.removesuffix(".json.gz") for path in FOLDER.glob("*.json.gz")]
    assert len(names) > 30
    assert [name for name in names if strangers.in_file(listing(name))] == []


def test_a_folder_that_is_no_model_is_answered_with_what_was_meant(tmp_path: Path, tiny_base: Path) -> None:
    shutil.copytree(tiny_base, base := tmp_path / "models" / "base")
    assert f"name the folder above, {base}" in refused(base / "unet")
    assert f"name the folder in it, {base}" in refused(tmp_path / "models")
    (files := tmp_path / "files").mkdir()
    (files / "a.safetensors").write_bytes(b"")
    assert f"name the file in it, {files / 'a.safetensors'}" in refused(files)
    (files / "b.safetensors").write_bytes(b"")
    assert "name one of the files in it" in refused(files)


def test_a_gguf_file_is_answered_with_what_to_get(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF\x03\0\0\0" + bytes(100))
    line = refused(tmp_path / "model.gguf")
    assert line.startswith("E-MOD-003")
    assert "model.quantize" in line


@pytest.mark.skipif(sys.platform != "linux", reason="what was read is told by /proc")
@pytest.mark.parametrize("name", ["Chroma", "Wan", "embedding", "Playground", "Kolors, one file"])
def test_of_ten_gigabytes_the_head_is_read(name: str, tmp_path: Path) -> None:
    shapes = {**{**OTHER_BASES, **HELPERS}[name][0]}
    if name != "embedding":
        shapes["zz.weight"] = (5 * 10**9,)  # 10 GB in 16 bits, of which the disk holds none
    path = sparse.write(tmp_path / "model.safetensors", shapes)
    with path.open("rb") as file:
        head = 8 + int.from_bytes(file.read(8), "little")
    before = _read()
    refused(path)
    assert _read() - before < 2 * head + 65_536


def _read() -> int:
    """Bytes that this process has read so far."""
    told = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(told["rchar"])
