"""Outputs of an exported folder for a fixed example, in a process that cannot import the package.

`python verification.py FOLDER` writes the outputs into the folder, and `mmer export` compares them. It runs on its own,
so it imports only what a user of the folder has.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoModelForAudioClassification, AutoProcessor

OUTPUTS = "verification.safetensors"
TEXT = "I did not expect this at all."


class BlockPackage:
    """An import finder that blocks the package, which is usually installed where an export is made."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "modeling_mmer":
            raise ModuleNotFoundError(f"No module named {name!r}: the folder must contain its own code.")


def example_outputs(model, processor) -> dict[str, torch.Tensor]:
    """Outputs for audio, text and both, in float32 on the CPU."""
    seconds = np.arange(2 * processor.feature_extractor.sampling_rate) / processor.feature_extractor.sampling_rate
    audio = (0.1 * np.sin(2 * np.pi * (180 + 40 * seconds) * seconds)).astype(np.float32)
    batch = processor(audio=[audio, None, audio], text=[None, TEXT, TEXT])
    with torch.no_grad():
        output = model(**batch)
    predictions = {name: value for name, value in output.items() if isinstance(value, torch.Tensor)}
    return {name: value.float().contiguous() for name, value in predictions.items() if name != "last_hidden_state"}


if __name__ == "__main__":
    sys.meta_path.insert(0, BlockPackage())
    folder = Path(sys.argv[1])
    loaded = AutoModelForAudioClassification.from_pretrained(folder, trust_remote_code=True, dtype="auto").eval()
    save_file(example_outputs(loaded, AutoProcessor.from_pretrained(folder, trust_remote_code=True)), folder / OUTPUTS)
