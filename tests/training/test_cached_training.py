"""Training from cached states has the losses of training online, and memory does not grow with the corpus."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import REPOSITORY, real_input_config, real_input_processor
from datasets import Dataset
from transformers import BertConfig, BertModel, WhisperConfig, WhisperModel, set_seed

from modeling_mmer import MMERCollator, MMERConfig, MMERForEmotionRecognition, MMERTrainer
from modeling_mmer.corpora import load_corpora
from modeling_mmer.features.cache import FeatureCache
from modeling_mmer.features.extraction import extract
from modeling_mmer.training.arguments import RunArguments

EMOTIONS = ["neutral", "happiness", "sadness", "anger"]
TASKS = MMERConfig(emotion_labels=EMOTIONS).tasks


def trainer_of(model, processor, rows, features, folder, **options) -> MMERTrainer:
    run = RunArguments(
        output_dir=str(folder),
        **{"logging_steps": 1, "eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False},
        **{"report_to": "none", "disable_tqdm": True, "use_cpu": True, "learning_rate": 3e-3, "warmup_steps": 0},
        **options,
    )
    return MMERTrainer(model, run, train_dataset=rows, data_collator=MMERCollator(processor, TASKS, features))


def test_training_from_the_cache_gives_the_losses_of_training_online(tmp_path):
    processor = real_input_processor()
    rows = load_corpora("demo", emotion_labels=EMOTIONS).splits["train"].select(range(48))
    logs = {}
    for kind in ("online", "cached"):
        torch.manual_seed(0)
        model = MMERForEmotionRecognition(real_input_config(dropout=0.2))
        features, located = None, rows
        if kind == "cached":
            features = FeatureCache(tmp_path / "cache", model.model, processor, "float16")
            located = features.locate(rows, processor)
            extract(features, model, processor, [located], 8, show_progress=False)
            model.model.encoders["audio"].encoder = model.model.encoders["text"].encoder = None
        set_seed(1)
        options = {"num_train_epochs": 2, "per_device_train_batch_size": 8}
        trainer = trainer_of(model, processor, located, features, tmp_path / kind, **options)
        trainer.train()
        logs[kind] = [log for log in trainer.state.log_history if "loss_mae" in log]
    assert len(logs["online"]) == 12  # of two epochs of six batches
    for online, cached in zip(logs["online"], logs["cached"], strict=True):
        for name in ("loss", *(name for name in online if name.startswith("loss_"))):
            assert cached[name] == pytest.approx(online[name], rel=1e-3, abs=1e-4), (name, online["step"])
    assert logs["online"][0]["loss"] != pytest.approx(logs["online"][-1]["loss"], rel=1e-2)  # it does learn


# ── memory ──────────────────────────────────────────────────────────────────────────────────────────────────────────

SMALL, LARGE, STEPS = 64, 320, 10  # ten batches of 32: the large corpus once, the small one five times
SMALL_MODEL = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "lambda_mae": 0}
FRAMES, WIDTH, STATES = 175, 384, 5  # as Whisper tiny gives of 3.5 s: 0.67 MB in float16
IN_SHARD = 32  # utterances


def anonymous_mb() -> float:
    """Memory of this process that no file backs, without what was freed but not yet given back."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) / 1024


def train_and_measure(n_rows: int, folder: Path) -> None:
    """Train so many steps on n utterances from a cache and print the peak of anonymous memory, in MB."""
    WhisperModel(WhisperConfig(d_model=WIDTH, encoder_layers=4, decoder_layers=1)).save_pretrained(folder / "audio")
    BertModel(BertConfig(hidden_size=48, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(folder / "text")
    config = MMERConfig.from_audio_text_pretrained(str(folder / "audio"), str(folder / "text"), **SMALL_MODEL)
    model, processor = MMERForEmotionRecognition(config), real_input_processor()
    generator = np.random.default_rng(0)
    paths = [folder / f"{i}.wav" for i in range(n_rows)]
    for path in paths:
        soundfile.write(path, generator.uniform(-1, 1, 160), 16000)
    label = {"emotion": ["anger"], "sentiment": ["neutral"], "valence": [1.0], "arousal": [2.0], "dominance": [3.0]}
    columns = {"utterance_id": [path.stem for path in paths], "audio": [str(path) for path in paths]}
    columns |= {"text": [None] * n_rows} | {name: value * n_rows for name, value in label.items()}
    features = FeatureCache(folder / "cache", model.model, processor)
    rows = features.locate(Dataset.from_dict(columns), processor)
    names = rows["audio_states"]
    for start in range(0, n_rows, IN_SHARD):
        states = torch.randn(IN_SHARD, STATES, FRAMES, WIDTH).half()
        features.shards.write({name: of_name.clone() for name, of_name in zip(names[start:], states, strict=False)})

    peak = 0.0

    class Watched(MMERTrainer):
        def training_step(self, *args, **kwargs):
            nonlocal peak
            loss = super().training_step(*args, **kwargs)
            peak = max(peak, anonymous_mb())
            return loss

    trainer = trainer_of(model, processor, rows, features, folder / "out", max_steps=STEPS)
    trainer.__class__ = Watched
    trainer.train()
    print(f"peak {peak}")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow_with_the_corpus(tmp_path):
    peaks = {}
    for n_rows in (SMALL, LARGE):
        (tmp_path / str(n_rows)).mkdir()
        command = [sys.executable, __file__, str(n_rows), str(tmp_path / str(n_rows))]
        environment = os.environ | {"PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        peaks[n_rows] = float(done.stdout.split()[-1])
    states = (LARGE - SMALL) * STATES * FRAMES * WIDTH * 2 / 2**20  # MB that the larger corpus has more
    assert states > 150
    assert peaks[LARGE] - peaks[SMALL] < 0.2 * states, peaks


if __name__ == "__main__":
    train_and_measure(int(sys.argv[1]), Path(sys.argv[2]))
