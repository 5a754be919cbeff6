"""The checks of the commands: all faults of a corpus are listed before training."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from accelerate import PartialState
from conftest import real_input_processor, tasks
from processes import spawn

from modeling_mmer.commands import main, train
from modeling_mmer.corpora import CorpusError
from modeling_mmer.training import checking
from modeling_mmer.training.arguments import CorpusArguments
from modeling_mmer.training.checking import load_checked, note_cropped, select_split
from modeling_mmer.training.collator import MMERCollator, UtteranceError

LABELS = ("neutral", "happiness", "sadness", "anger")
RATE = 8000


def write_wav(path, seconds: float, seed: int, **spoilt: float) -> None:
    samples = np.random.default_rng(seed).uniform(-0.3, 0.3, round(seconds * RATE))
    samples[-1] = spoilt.get("last", samples[-1])
    soundfile.write(path, samples, RATE, subtype="FLOAT")


@pytest.fixture
def folder(tmp_path):
    """Eight rows for training, two for validation and two for the test, with a fault that only shows in the table, one
    that the header shows, one that shows when the file is decoded; the test split has one of its own."""
    folder = tmp_path / "mine"
    folder.mkdir()
    names = [f"a{i}" for i in range(8)] + ["v0", "v1", "t0", "t1"]
    for i, name in enumerate(names):
        write_wav(folder / f"{name}.wav", 0.3, i)
    write_wav(folder / "a2.wav", 0.3, 2, last=np.nan)
    (folder / "a3.wav").write_text("no audio")
    (folder / "t1.wav").unlink()
    table = pd.DataFrame({"utterance_id": names, "audio": [f"{name}.wav" for name in names], "text": "so it is"})
    table["emotion"] = [LABELS[i % 4] for i in range(12)]
    table["valence"] = [float(1 + i % 7) for i in range(12)]
    table.loc[1, "valence"] = 9
    table["split"] = ["train"] * 8 + ["dev"] * 2 + ["test"] * 2
    table.to_csv(folder / "metadata.csv", index=False)
    return folder


def arguments(folder, **options) -> CorpusArguments:
    return CorpusArguments(corpus=["folder"], corpus_dir=[str(folder)], **options)


def check(folder, output, split=None, **options):
    return load_checked(arguments(folder, **options), list(LABELS), output, split)


def ids(corpus) -> list[str]:
    return [name for rows in corpus.splits.values() for name in rows["utterance_id"]]


# ── before training ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_faults_of_table_header_and_samples_are_told_together(folder, tmp_path):
    with pytest.raises(CorpusError, match=r"bad rows \(4\)") as error:
        check(folder, tmp_path / "out")
    for words in ("row 2 (a1): valence 9", "a2.wav", "row 4 (a3)", "row 12 (t1)", "NaN, infinity"):
        assert words in str(error.value)
    table = pd.read_csv(tmp_path / "out" / "bad_rows.csv")
    found = dict(zip(table["utterance_id"], zip(table["kind"], table["split"], strict=True), strict=True))
    assert found == {
        "a1": ("label", "train"),
        "a2": ("not finite", "train"),
        "a3": ("unreadable", "train"),
        "t1": ("missing", "test"),
    }


def test_skipping_leaves_the_sound_rows_and_says_so(folder, tmp_path):
    corpus = check(folder, tmp_path / "out", on_bad_rows="skip")
    assert ids(corpus) == ["a0", "a4", "a5", "a6", "a7", "v0", "v1", "t0"]
    (notice,) = [notice for notice in corpus.caveats if notice.startswith("4 bad rows are left out")]
    assert all(name in notice for name in ("a1", "a2", "a3", "t1"))
    assert len(pd.read_csv(tmp_path / "out" / "bad_rows.csv")) == 4


def test_the_list_of_an_earlier_run_does_not_outlive_its_faults(folder, tmp_path):
    check(folder, tmp_path, on_bad_rows="skip")
    table = pd.read_csv(folder / "metadata.csv")
    table[table["utterance_id"].isin(["a0", "v0", "t0"])].to_csv(folder / "metadata.csv", index=False)
    check(folder, tmp_path)
    assert not (tmp_path / "bad_rows.csv").exists()


def test_an_evaluation_minds_the_faults_of_its_own_split(folder, tmp_path):
    assert ids(check(folder, tmp_path, split="validation")) == ["v0", "v1"]
    with pytest.raises(CorpusError, match=r"bad rows \(1\)") as error:
        check(folder, tmp_path, split="test")
    assert "t1" in str(error.value) and "a2" not in str(error.value)
    with pytest.raises(ValueError, match="no split 'test2': it has train, validation, test"):
        check(folder, tmp_path, split="test2")


def test_a_split_of_bad_rows_alone_is_not_called_absent(folder, tmp_path):
    table = pd.read_csv(folder / "metadata.csv")
    table.loc[table["split"] == "test", "valence"] = 9
    table.to_csv(folder / "metadata.csv", index=False)
    with pytest.raises(CorpusError, match=r"bad rows \(2\)(.|\n)*row 11 \(t0\): valence 9"):
        check(folder, tmp_path, split="test")


def test_recordings_of_one_content_in_two_splits_are_said(folder, tmp_path):
    (folder / "t0.wav").write_bytes((folder / "a0.wav").read_bytes())
    corpus = check(folder, tmp_path, on_bad_rows="skip")
    assert any(
        notice.startswith("1 recording is in more than one split") and "a0 = t0" in notice for notice in corpus.caveats
    )


def test_recordings_beyond_the_window_are_counted(folder, tmp_path):
    write_wav(folder / "a0.wav", 30.5, 0)
    write_wav(folder / "a4.wav", 30, 4)
    corpus = check(folder, tmp_path, on_bad_rows="skip")
    *_, notice = note_cropped(corpus, real_input_processor()).caveats
    assert notice.startswith("1 of 8 recordings is longer than 30 s")
    unnoted = select_split(corpus, "test")
    assert note_cropped(unnoted, real_input_processor()).caveats == unnoted.caveats


def one_of_two(rank: int, folder: str, corpus: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"}
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    PartialState(cpu=True)
    read, own = checking.read_recordings, []
    checking.read_recordings = lambda paths, **how: own.extend(paths) or read(paths, **how)
    found = check(Path(corpus), folder, on_bad_rows="skip")
    Path(folder, f"{rank}.json").write_text(json.dumps([own, ids(found), found.caveats + found.notices]))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_processes_share_the_reading_and_all_know_the_whole(folder, tmp_path):
    spawn(one_of_two, (str(tmp_path), str(folder)))
    (own, *found), (of_other, *known_to_other) = (
        json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)
    )
    assert found == known_to_other and found[0] == ["a0", "a4", "a5", "a6", "a7", "v0", "v1", "t0"]
    assert not {*own} & {*of_other} and len(own + of_other) == 11  # the row a1 is out already, by its label
    assert len(pd.read_csv(tmp_path / "bad_rows.csv")) == 4


# ── the commands ────────────────────────────────────────────────────────────────────────────────────────────────────


def train_options(folder, demo_encoders, output) -> list[str]:
    options = ["--corpus", "folder", "--corpus_dir", str(folder), "--output_dir", str(output)]
    options += ["--audio_encoder", str(demo_encoders / "whisper"), "--text_encoder", str(demo_encoders / "roberta")]
    options += ["--audio_context", "trimmed", "--num_hidden_layers", "1", "--disable_tqdm", "true"]
    return [
        *options,
        "--per_device_train_batch_size",
        "4",
        "--use_cpu",
        "true",
        "--max_steps",
        "2",
        "--report_to",
        "none",
    ]


def test_training_stops_before_it_begins(folder, demo_encoders, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["train", *train_options(folder, demo_encoders, tmp_path / "run")])
    said = capsys.readouterr().err
    assert ended.value.code == 1 and "bad rows (4)" in said and "--on_bad_rows skip" in said and "Traceback" not in said
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["bad_rows.csv"]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_recording_that_breaks_under_training_is_named(workers, folder, demo_encoders, tmp_path, capfd, monkeypatch):
    print_summary = train.print_summary

    def break_one(trainer, corpus):
        print_summary(trainer, corpus)
        (folder / "a5.wav").write_bytes(b"gone")

    monkeypatch.setattr(train, "print_summary", break_one)
    options = [*train_options(folder, demo_encoders, tmp_path / "run"), "--on_bad_rows", "skip"]
    with pytest.raises(SystemExit) as ended:
        main(["train", *options, "--dataloader_num_workers", str(workers)])
    out, said = capfd.readouterr()
    assert ended.value.code == 1
    assert "4 bad rows are left out" in out
    last = [line for line in said.splitlines() if line.strip()][-1]
    assert last.startswith("mmer train: Utterance 'a5'") and "--resume_from_checkpoint true" in last
    assert "Traceback" not in said


def test_an_error_of_a_worker_reads_like_one_of_this_process():
    collator = MMERCollator(real_input_processor(), tasks(LABELS, ["negative", "neutral", "positive"], ["valence"]))
    with pytest.raises(UtteranceError, match="^Utterance 'x': audio.*the file does not exist") as error:
        collator([{"utterance_id": "x", "audio": "gone.wav", "text": None}])
    caught = "Caught UtteranceError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  …"
    as_torch_tells = f"{caught}\nmodeling_mmer.training.collator.UtteranceError: {error.value}\n"
    assert str(UtteranceError(as_torch_tells)) == str(error.value)
