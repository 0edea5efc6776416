@echo off
rem Windows
call venv\Scripts\activate.bat
accelerate launch --num_cpu_threads_per_process=8 sdxl_train_network.py ^
  --pretrained_model_name_or_path="D:\models\sd xl base.safetensors" ^
  --train_data_dir=D:\lora\img ^
  --output_dir="D:\lora\out" --output_name=anna ^
  --network_module=networks.lora --network_dim=16 --network_alpha=8 --network_train_unet_only ^
  --cache_text_encoder_outputs --no_half_vae --mixed_precision=bf16 --full_bf16 ^
  --resolution=1024,1024 --max_train_steps=2000 --learning_rate=1e-4
