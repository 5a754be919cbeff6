"""The precision that the frozen encoders run in. All that is above them is computed in float32."""

import torch

DTYPES = ("auto", "float32", "bfloat16", "float16")


def decide_dtype(dtype: str, device: str | torch.device | None = None) -> tuple[str, str]:
    """The dtype of the encoders that an option names, and a sentence that says what was chosen.

    `auto` is bfloat16 where the device computes with it in hardware, and float32 elsewhere: emulated it is slower.

    Args:
        dtype: `auto`, or the name of a dtype, which is taken as it is.
        device: on which they run; by default an accelerator if there is one.

    Raises:
        ValueError: the name is unknown.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be {', '.join(DTYPES[:-1])} or {DTYPES[-1]}, not {dtype!r}.")
    if dtype != "auto":
        return dtype, f"The encoders run in {dtype}, as asked for."
    kind = default_device() if device is None else torch.device(device).type
    if has_bfloat16(kind):
        return "bfloat16", f"The encoders run in bfloat16, which this {kind} has in hardware; all else in float32."
    return "float32", f"The encoders run in float32: this {kind} does not have bfloat16 in hardware."


def default_device() -> str:
    """The kind of device that a pipeline and a Trainer choose."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return "cpu" if accelerator is None else accelerator.type


def has_bfloat16(kind: str) -> bool:
    """Whether a kind of device multiplies matrices in bfloat16 in hardware."""
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return kind == "cpu" and any(map(torch.cpu.get_capabilities().get, ("amx_bf16", "avx512_bf16", "bf16")))
