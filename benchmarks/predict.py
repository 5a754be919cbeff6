"""Throughput of the scorer, of the pipeline and of the bare encoders on the same recordings, as ratios.

The recordings are speech of 2 to 10 seconds and have a text, in no order: RAVDESS under MMER_TEST_DATA (default:
`shared` beside the repository) if it is there, and the demo corpus otherwise. The bare encoders get them one after the
other, read and prepared: what is left is what any program would have to compute. The variants run in rounds, and each
is compared with the bare encoders of its round, because other processes slow down single rounds; shown are medians.
Where other processes run all the time, compare by processor time.

Without --model, weights are random and sizes are those of Whisper-tiny and MiniLM, and it takes about two minutes of
processor time.

    python benchmarks/predict.py [--model NAME] [--clips 32] [--rounds 5]
"""

import argparse
import csv
import os
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

REPOSITORY = Path(__file__).parents[1]
RATE = 16_000
BARE = "bare encoders, one by one"


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


def speech() -> tuple[np.ndarray, str]:
    """The samples of some minutes of speech (N,), and the name of the corpus."""
    test_data = Path(os.environ.get("MMER_TEST_DATA", REPOSITORY.parent / "shared"))
    recordings, name = sorted(test_data.glob("data/ravdess/audio/*.flac")), "RAVDESS"
    if not recordings:
        recordings, name = sorted((DEMO_FOLDER / "audio").glob("*.opus")), "the demo corpus"
    chosen = recordings[:: max(1, len(recordings) // 100)]
    return np.concatenate([read_recording(str(path), RATE, RATE) for path in chosen]), name


def write_clips(folder: Path, samples: np.ndarray, count: int) -> list[dict]:
    """Recordings of 2 to 10 seconds of speech, with texts of the demo corpus."""
    generator = np.random.default_rng(0)
    with (DEMO_FOLDER / "metadata.csv").open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file) if row["text"]]
    rows = []
    for i in range(count):
        path = folder / f"{i:03}.wav"
        length = round(generator.uniform(2, 10) * RATE)
        start = generator.integers(len(samples) - length)
        soundfile.write(path, samples[start : start + length], RATE)
        rows.append({"audio": str(path), "text": texts[i % len(texts)]})
    return rows


def bare_encoders(pipe: MMERPipeline, rows: list[dict]) -> Callable[[], None]:
    batches = [pipe.processor(audio=[row["audio"]], text=[row["text"]]) for row in rows]

    @torch.no_grad()
    def run() -> None:
        for batch in batches:
            pipe.model.model.encoders(dict(batch))

    return run


def seconds_of(variants: dict[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """What each variant takes in each round (rounds, 2), after one that warms up: seconds by the clock, and of the
    processor."""
    taken: dict[str, list[list[float]]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, run in variants.items():
            start = np.array([time.perf_counter(), time.process_time()])
            run()
            if number:
                taken[name].append(np.array([time.perf_counter(), time.process_time()]) - start)
    return {name: np.stack(of_rounds) for name, of_rounds in taken.items()}


def variants_of(name: str, rows: list[dict]) -> dict[str, Callable[[], object]]:
    model, processor = MMERForEmotionRecognition.from_pretrained(name), MMERProcessor.from_pretrained(name)
    pipe = pipeline("multimodal-emotion-recognition", model=model.eval(), processor=processor)
    scorer, without_detection = Scorer(name), Scorer(name, speech="off")
    columns = {key: [row[key] for row in rows] for key in ("audio", "text")}
    return {
        BARE: bare_encoders(pipe, rows),
        "pipeline, batch 1": lambda: pipe(rows, batch_size=1),
        "pipeline, batch 8": lambda: pipe(rows, batch_size=8),
        "scorer": lambda: scorer(columns),
        "scorer, --speech off": lambda: without_detection(columns),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder or hub name; by default random weights")
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        samples, corpus = speech()
        rows = write_clips(Path(folder), samples, options.clips)
        variants = variants_of(options.model or str(save_model(Path(folder) / "model")), rows)
        taken = seconds_of(variants, options.rounds)
    print(
        f"{options.clips} clips of 2 to 10 s of {corpus} with text, {torch.get_num_threads()} threads; × bare encoders"
    )
    for name, seconds in taken.items():
        clock, processor = np.median(taken[BARE] / seconds, axis=0)
        rate = options.clips / np.median(seconds[:, 0])
        print(f"{name:26} {rate:7.1f} clips a second {clock:7.2f} × by the clock {processor:7.2f} × by processor time")


if __name__ == "__main__":
    main()
