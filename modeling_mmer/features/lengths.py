"""Approximate lengths of inputs in encoder frames and tokens, to sort rows and to estimate sizes."""

from ..model.processing_mmer import MMERProcessor

FRAMES_PER_SECOND = 50  # of Whisper, HuBERT, WavLM and wav2vec2
CHARACTERS_PER_TOKEN = 4


def rough_length(modality: str, seconds_or_text: float | str) -> int:
    """The approximate number of frames of a recording (of a duration in seconds) or of tokens of a text."""
    if modality == "audio":
        return round(seconds_or_text * FRAMES_PER_SECOND) + 1
    return len(seconds_or_text) // CHARACTERS_PER_TOKEN + 2


def longest_inputs(processor: MMERProcessor) -> dict[str, float]:
    """The number of frames or tokens at which inputs are cut, by modality."""
    return {"audio": processor.window_seconds * FRAMES_PER_SECOND + 1, "text": processor.tokenizer.model_max_length}
