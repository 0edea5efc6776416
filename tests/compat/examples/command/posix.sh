#!/bin/bash
# anna, third try
cd sd-scripts && source venv/bin/activate
accelerate launch --num_cpu_threads_per_process 2 train_network.py \
  --pretrained_model_name_or_path "models/anime v3.safetensors" \
  --train_data_dir='/data/anna pictures' \
  --output_dir out --output_name anna \
  --network_module networks.lora --network_dim 32 --network_alpha 16 \
  --network_args "conv_dim=8" "conv_alpha=4" \
  --resolution 512,512 --enable_bucket --bucket_no_upscale \
  --train_batch_size 2 --max_train_epochs 10 --save_every_n_epochs 2 \
  --learning_rate 1e-4 --text_encoder_lr 5e-5 --lr_scheduler cosine --lr_warmup_steps 100 \
  --optimizer_type AdamW8bit --optimizer_args weight_decay=0.05 betas=0.9,0.95 \
  --mixed_precision bf16 --save_precision bf16 --xformers --cache_latents --seed 7 --clip_skip 2
