# PowerShell
Set-Location .\sd-scripts
accelerate launch --mixed_precision fp16 .\train_network.py `
  --pretrained_model_name_or_path 'D:\models\base v1.safetensors' `
  --train_data_dir "D:\lora\it`"s img" `
  --output_dir D:\out --network_module networks.lora `
  --network_dim 8 --max_train_steps 800 --unet_lr 2e-4 --text_encoder_lr 0
