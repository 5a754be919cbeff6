"""Throughput of the scorer, of the pipeline and of the bare encoders on the same recordings, as ratios.

The recordings last from 2 to 10 seconds and have a text, in no order. The bare encoders get them one after the other,
read and prepared: what is left is what any program would have to compute. The variants run in rounds, and the fastest
round of each counts, because other processes slow down single rounds. Weights are random; sizes are those of
Whisper-tiny and MiniLM.

    python benchmarks/predict.py [--clips 64] [--rounds 5]
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
from transformers import AutoTokenizer, BertConfig, WhisperConfig, WhisperFeatureExtractor, pipeline

from modeling_mmer import MMERConfig, MMERForEmotionRecognition, MMERPipeline, MMERProcessor
from modeling_mmer.commands.allocator import keep_freed_memory
from modeling_mmer.corpora.demo import DEMO_FOLDER
from modeling_mmer.model.waveforms import read_recording
from modeling_mmer.scoring import Scorer

RATE = 16_000
TEXT = "I am so glad that we won the game after all."


def save_model(folder: Path) -> Path:
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(DEMO_FOLDER / "tokenizer")
    config = MMERConfig(
        audio_config=WhisperConfig(d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536),
        text_config=BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=384,
            num_hidden_layers=6,
            intermediate_size=1536,
            pad_token_id=tokenizer.pad_token_id,
        ),
        audio_context="trimmed",
    )
    MMERForEmotionRecognition(config).save_pretrained(folder)
    MMERProcessor(WhisperFeatureExtractor(), tokenizer).save_pretrained(folder)
    return folder


def write_clips(folder: Path, count: int) -> list[dict]:
    """Recordings of 2 to 10 seconds, cut from the demo corpus's."""
    generator = np.random.default_rng(0)
    demo = sorted((DEMO_FOLDER / "audio").glob("*.opus"))[:50]
    speech = np.concatenate([read_recording(str(path), RATE, RATE) for path in demo])
    rows = []
    for i in range(count):
        path = folder / f"{i:03}.wav"
        length = round(generator.uniform(2, 10) * RATE)
        start = generator.integers(len(speech) - length)
        soundfile.write(path, speech[start : start + length], RATE)
        rows.append({"audio": str(path), "text": TEXT})
    return rows


def bare_encoders(pipe: MMERPipeline, rows: list[dict]) -> Callable[[], None]:
    batches = [pipe.processor(audio=[row["audio"]], text=[row["text"]]) for row in rows]

    @torch.no_grad()
    def run() -> None:
        for batch in batches:
            pipe.model.model.encoder_states(dict(batch))

    return run


def clips_per_second(variants: dict[str, Callable[[], object]], clips: int, rounds: int) -> dict[str, float]:
    fastest = dict.fromkeys(variants, float("inf"))
    for _ in range(rounds):
        for name, run in variants.items():
            start = time.perf_counter()
            run()
            fastest[name] = min(fastest[name], time.perf_counter() - start)
    return {name: clips / seconds for name, seconds in fastest.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        name = str(save_model(Path(folder) / "model"))
        rows = write_clips(Path(folder), options.clips)
        model, processor = MMERForEmotionRecognition.from_pretrained(name), MMERProcessor.from_pretrained(name)
        pipe = pipeline("multimodal-emotion-recognition", model=model.eval(), processor=processor)
        scorer = Scorer(name, speech="off")
        with_speech = Scorer(name)
        columns = {key: [row[key] for row in rows] for key in ("audio", "text")}
        found = clips_per_second(
            {
                "bare encoders, one by one": bare_encoders(pipe, rows),
                "pipeline, batch 1": lambda: pipe(rows, batch_size=1),
                "pipeline, batch 8": lambda: pipe(rows, batch_size=8),
                "scorer": lambda: scorer(columns),
                "scorer, with speech detection": lambda: with_speech(columns),
            },
            options.clips,
            options.rounds,
        )
    bare = found["bare encoders, one by one"]
    print(f"{options.clips} clips of 2 to 10 s with text, {torch.get_num_threads()} threads, device {pipe.device}")
    for name, rate in found.items():
        print(f"{name:32} {rate:7.1f} clips a second   {rate / bare:5.2f} × bare encoders")


if __name__ == "__main__":
    main()
