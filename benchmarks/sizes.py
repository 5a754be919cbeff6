"""What is measured: models of random weights in real shapes, and clips of the demo corpus. Nothing is downloaded."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
import torch
from transformers import AutoTokenizer, RobertaConfig, WhisperConfig, WhisperFeatureExtractor

from modeling_mmer import MMERConfig, MMERForEmotionRecognition, MMERPipeline, MMERProcessor
from modeling_mmer.corpora.demo import DEMO_FOLDER
from modeling_mmer.model.waveforms import read_recording

RATE = 16_000
TEXT = "I am so glad that we won the game after all, and I can tell you that nobody had thought so."


@dataclass(frozen=True)
class Size:
    """Shapes of the two encoders and of the shared transformer, and how much of everything is measured.

    audio, text: width, layers, heads and width of the feed-forward layers of an encoder.
    seconds: lengths of clips.
    batch: of a training step.
    clips: that the scorer judges.
    files: that it judges while memory is watched.
    """

    name: str
    audio: tuple[int, int, int, int]
    text: tuple[int, int, int, int]
    shared_layers: int
    seconds: tuple[float, ...]
    batch: int
    clips: int
    files: int

    @property
    def shapes(self) -> str:
        audio, text = (f"{layers} layers of width {width}" for width, layers, *_ in (self.audio, self.text))
        return f"audio encoder of {audio}, text encoder of {text}, {self.shared_layers} shared layers"


SIZES = {
    "paper": Size("paper", (1024, 24, 16, 4096), (1024, 24, 16, 4096), 4, (2, 6, 10), 4, 16, 200),
    "base": Size("base", (512, 6, 8, 2048), (384, 6, 12, 1536), 2, (2, 6, 10), 16, 32, 1000),
    "small": Size("small", (64, 2, 4, 128), (64, 2, 4, 128), 2, (1, 2), 4, 8, 8),
}


@cache
def tokenizer():
    return AutoTokenizer.from_pretrained(DEMO_FOLDER / "tokenizer")


def processor() -> MMERProcessor:
    return MMERProcessor(WhisperFeatureExtractor(), tokenizer())


def config(size: Size, context: str = "trimmed", **options) -> MMERConfig:
    width, layers, heads, wide = size.audio
    audio = WhisperConfig(
        d_model=width, encoder_layers=layers, encoder_attention_heads=heads, encoder_ffn_dim=wide, decoder_layers=1
    )
    width, layers, heads, wide = size.text
    text = RobertaConfig(
        vocab_size=50_265,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=wide,
        max_position_embeddings=514,
        pad_token_id=tokenizer().pad_token_id,
    )
    options = {"num_hidden_layers": size.shared_layers, "audio_context": context} | options
    return MMERConfig(audio_config=audio, text_config=text, **options)


def model(size: Size, device: str, context: str = "trimmed", **options) -> MMERForEmotionRecognition:
    torch.manual_seed(0)
    return MMERForEmotionRecognition(config(size, context, **options)).eval().to(device)


def pipeline(built: MMERForEmotionRecognition) -> MMERPipeline:
    return MMERPipeline(model=built, processor=processor(), task="multimodal-emotion-recognition", device=built.device)


@cache
def speech() -> np.ndarray:
    """Speech of the demo corpus, one recording after the other: (n,) at 16 kHz."""
    recordings = sorted((DEMO_FOLDER / "audio").glob("*.opus"))[:40]
    return np.concatenate([read_recording(str(path), RATE, RATE) for path in recordings])


def clip(seconds: float, start: float = 0.0) -> np.ndarray:
    first = int(start * RATE)
    return np.resize(speech()[first:], round(seconds * RATE))


def mixed_lengths(count: int) -> list[float]:
    """Seconds of clips of 2 to 10 seconds in no order, the same for each call."""
    return np.random.default_rng(0).uniform(2, 10, count).round(2).tolist()


def inputs(lengths: list[float], device: str, modalities=("audio", "text")) -> dict[str, torch.Tensor]:
    """Inputs of the model for clips of these lengths; a text has words in proportion to its clip."""
    audio = [clip(seconds, i) for i, seconds in enumerate(lengths)] if "audio" in modalities else None
    words = TEXT.split()
    text = [" ".join(words[: max(2, round(3 * seconds))]) for seconds in lengths] if "text" in modalities else None
    return {name: values.to(device) for name, values in processor()(audio=audio, text=text).items()}


def scored_files(built: MMERForEmotionRecognition, lengths: list[float], folder: Path) -> dict[str, list[str]]:
    """A folder with a model and a recording of each length, and what the scorer is given of them."""
    built.save_pretrained(folder)
    processor().save_pretrained(folder)
    files = [str(folder / f"{i}.wav") for i in range(len(lengths))]
    for i, (file, seconds) in enumerate(zip(files, lengths, strict=True)):
        soundfile.write(file, clip(seconds, i % 60), RATE)
    return {"audio": files, "text": ["I am so glad that we won the game."] * len(files)}


def labels(rows: int, device: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    found = {
        "emotion": torch.randint(0, 4, (rows,), generator=generator),
        "sentiment": torch.randint(0, 3, (rows,), generator=generator),
        **{name: 1 + 6 * torch.rand(rows, generator=generator) for name in ("valence", "arousal", "dominance")},
    }
    return {name: values.to(device) for name, values in found.items()}


def bare(built: MMERForEmotionRecognition, batch: dict[str, torch.Tensor]):
    """A run of nothing but the encoders on inputs without padding, as any program has to run them."""
    encoders, calls = built.model.encoders, []
    if "input_features" in batch:
        audio = encoders["audio"].encoder
        features = batch["input_features"]
        if built.config.audio_context == "full":
            features = torch.nn.functional.pad(features, (0, 3000 - features.shape[-1]))
        calls.append((audio, features.to(audio.dtype)))
    if "input_ids" in batch:
        calls.append((encoders["text"].encoder, batch["input_ids"]))

    @torch.no_grad()
    def run() -> None:
        for encoder, given in calls:
            encoder(given)

    return run
