"""Cost of checking a large corpus: time and memory from the command to the first training steps.

Creates a corpus of N rows (100,000 by default) in a temporary folder. Its recordings are hard links to a few files of 1
to 6 s in several formats, which are decoded for each row but take little space. (They are read from memory, so the time
of a disk is not included.) A hundred rows have faults and are left out. A separate process then runs `mmer train` with
encoders of the demo's size for two steps, once with a tenth of the rows and once with all, to show what grows with N.

    python benchmarks/corpus_checks.py [N]
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

FORMATS = ("wav", "flac", "mp3", "opus")
BROKEN = 100


def make_corpus(folder: Path, rows: int) -> None:
    """Write `metadata.csv` and the recordings; 1 % of the rows have text alone."""
    rng = np.random.default_rng(0)
    sources = []
    for seconds in range(1, 7):
        for suffix in FORMATS:
            samples = np.convolve(rng.normal(size=seconds * 16000), np.ones(8) / 8, "same") * 0.1
            how = {"format": "OGG", "subtype": "OPUS"} if suffix == "opus" else {}
            soundfile.write(folder / f"source_{seconds}.{suffix}", samples, 16000, **how)
            sources.append(folder / f"source_{seconds}.{suffix}")
    (folder / "broken.wav").write_bytes(b"no audio")
    names = []
    for i in range(rows):
        source = folder / "broken.wav" if i % (rows // BROKEN) == 1 else sources[i % len(sources)]
        below = folder / f"{i // 1000:03}"  # a folder for each thousand
        below.mkdir(exist_ok=True)
        name = f"{below.name}/{i:06}{source.suffix}"
        os.link(source, folder / name)
        names.append(name if i % 100 else None)
    emotions = ("neutral", "happiness", "sadness", "anger")
    table = {
        "utterance_id": [f"u{i:06}" for i in range(rows)],
        "audio": names,
        "text": [f"This is sentence number {i} of them." for i in range(rows)],
        "emotion": [emotions[i % 4] for i in range(rows)],
        "valence": rng.uniform(1, 7, rows).round(2),
        "speaker": [f"s{i % 50}" for i in range(rows)],
        "split": ["train" if i % 50 else "validation" for i in range(rows)],
    }
    pd.DataFrame(table).to_csv(folder / "metadata.csv", index=False)


def start_training(corpus: str, encoders: str, output: str) -> None:
    """What `mmer train` does, for two steps; prints seconds and peak memory at each stage as JSON."""
    from modeling_mmer.commands.arguments import parse
    from modeling_mmer.commands.train import ARGUMENTS, prepare

    stages = {"imports": measure()}
    argv = ["--corpus", "folder", "--corpus_dir", corpus, "--output_dir", output, "--on_bad_rows", "skip"]
    argv += ["--audio_encoder", f"{encoders}/whisper", "--text_encoder", f"{encoders}/roberta"]
    argv += ["--audio_context", "trimmed", "--num_hidden_layers", "1", "--max_steps", "2", "--use_cpu", "true"]
    argv += ["--eval_strategy", "no", "--save_strategy", "no", "--load_best_model_at_end", "false"]
    argv += ["--report_to", "none", "--disable_tqdm", "true"]
    trainer, corpus = prepare(argv, *parse(ARGUMENTS, argv, "benchmark"))
    stages["checked"] = measure()
    trainer.train()
    stages["two steps"] = measure()
    left = sum(len(rows) for rows in corpus.splits.values())
    print(json.dumps({"rows left": left, "stages": stages}))


def measure() -> tuple[float, float, float]:
    """Seconds by the clock and of all cores together, and the peak of memory so far in MB."""
    return time.monotonic(), time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        encoders = Path(folder, "encoders")
        script = Path(__file__).parent.parent / "scripts" / "make_demo_encoders.py"
        subprocess.run([sys.executable, str(script), str(encoders)], check=True)
        print(
            "\nrows, rows left | checked after | and of CPU | two steps after | peak memory: imports, checked, trained"
        )
        for n in (rows // 10, rows):
            corpus = Path(folder, str(n))
            corpus.mkdir()
            make_corpus(corpus, n)
            own = [sys.executable, __file__, "--start", str(corpus), str(encoders), str(corpus / "run")]
            done = subprocess.run(own, check=True, stdout=subprocess.PIPE, text=True)
            found = json.loads(done.stdout.splitlines()[-1])
            (t0, c0, m0), (t1, c1, m1), (t2, _, m2) = found["stages"].values()
            times = f"{t1 - t0:.0f} s | {c1 - c0:.0f} s | {t2 - t1:.0f} s"
            print(f"{n:,}, {found['rows left']:,} | {times} | {m0:.0f}, {m1:.0f}, {m2:.0f} MB", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--start"]:
        start_training(*sys.argv[2:])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
