"""The words of dataset files of sd-scripts."""

from __future__ import annotations

DATASET = ("resolution", "batch_size", "enable_bucket", "min_bucket_reso", "max_bucket_reso", "bucket_reso_steps",
           "bucket_no_upscale", "network_multiplier", "validation_seed", "validation_split",
           "resize_interpolation")  # fmt: skip
INHERITED = ("num_repeats", "shuffle_caption", "caption_separator", "keep_tokens", "keep_tokens_separator",
             "secondary_separator", "enable_wildcard", "caption_prefix", "caption_suffix", "color_aug", "flip_aug",
             "face_crop_aug_range", "random_crop", "token_warmup_min", "token_warmup_step", "caption_dropout_rate",
             "caption_dropout_every_n_epochs", "caption_tag_dropout_rate", "custom_attributes", "caption_extension",
             "cache_info", "class_tokens", "alpha_mask", "resize_interpolation")  # fmt: skip
OWN = ("image_dir", "is_reg", "metadata_file", "conditioning_data_dir")
CALLED = {"batch_size": "train_batch_size", "num_repeats": "dataset_repeats", "metadata_file": "in_json"}
"""What a word of dataset files is called as an argument."""
CAPTIONS = {"shuffle_caption": "shuffle", "keep_tokens": "keep_tokens", "caption_separator": "separator",
            "keep_tokens_separator": "keep_tokens_separator", "secondary_separator": "secondary_separator",
            "caption_dropout_rate": "dropout", "caption_tag_dropout_rate": "tag_dropout",
            "caption_dropout_every_n_epochs": "dropout_every_epochs"}  # fmt: skip
