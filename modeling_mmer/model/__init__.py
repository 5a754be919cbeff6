"""What travels with a checkpoint: `save_pretrained` and `mmer export` copy these files into every folder they write.

So they lie flat, import each other as `from .x import Y`, and need only torch, transformers, NumPy and huggingface_hub.
"""
