"""What the world hands us and gets back: safetensors files, Hugging Face folders, PEFT adapters."""
