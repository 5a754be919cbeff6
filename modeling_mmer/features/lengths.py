"""How long inputs are to the encoders, near enough to sort rows by and to reckon sizes."""

from ..model.processing_mmer import MMERProcessor

FRAMES_PER_SECOND = 50  # of Whisper, HuBERT, WavLM and wav2vec2
CHARACTERS_PER_TOKEN = 4


def rough_length(modality: str, seconds_or_text: float | str) -> int:
    """Frames of a recording that lasts so long, or tokens of a text, near enough to sort and to reckon sizes by."""
    if modality == "audio":
        return round(seconds_or_text * FRAMES_PER_SECOND) + 1
    return len(seconds_or_text) // CHARACTERS_PER_TOKEN + 2


def longest_inputs(processor: MMERProcessor) -> dict[str, float]:
    """By modality, the frames and tokens at which inputs are cut."""
    return {
        "audio": processor.window_seconds * FRAMES_PER_SECOND + 1,
        "text": processor.tokenizer.model_max_length,
    }
