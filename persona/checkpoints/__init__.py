"""External file formats: safetensors files, Hugging Face folders, PEFT adapters."""
