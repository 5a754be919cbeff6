"""A checkpoint stores how its corpora were read, and an evaluation detects rows that it was trained on."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import randomize, real_input_config, real_input_processor
from huggingface_hub.errors import LocalEntryNotFoundError

from modeling_mmer import MMERForEmotionRecognition
from modeling_mmer.commands import main
from modeling_mmer.commands.training_rows import handle_training_rows
from modeling_mmer.corpora import CorpusError, Reading, load_corpora
from modeling_mmer.corpora.demo import DEMO_FOLDER
from modeling_mmer.corpora.digests import row_digests
from modeling_mmer.corpora.faults import examine
from modeling_mmer.corpora.recordings import read_recordings
from modeling_mmer.training import training_corpus
from modeling_mmer.training.training_corpus import FILE, TrainingCorpus

EMOTIONS = ("neutral", "happiness", "sadness", "anger")
THEIRS = ("calm", "cheerful!", "low", "cross")
TOLD = ["--column_map", "audio=wav", "text=words", "emotion=affect", "arousal=energy", "split=part"]
TOLD += ["--label_map", *(f"{theirs}={ours}" for theirs, ours in zip(THEIRS, EMOTIONS, strict=True))]
TOLD += ["--label_scale", "1", "5"]
PARTS = ["train"] * 8 + ["validation"] * 4 + ["test"] * 4


def rows_of_calls(recordings: list[Path]) -> pd.DataFrame:
    """Sixteen rows under names that nobody would guess; every other one has no recording."""
    rows = range(len(PARTS))
    return pd.DataFrame(
        {
            "wav": [recordings[i].name if i % 2 else None for i in rows],
            "words": [f"sentence number {i}" for i in rows],
            "affect": [THEIRS[i % 4] for i in rows],
            "energy": [1 + i % 5 for i in rows],
            "part": PARTS,
        }
    )


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    """A folder whose columns, labels and scale must all be told."""
    folder = tmp_path_factory.mktemp("data") / "calls"
    folder.mkdir()
    recordings = sorted((DEMO_FOLDER / "audio").glob("*.opus"))[: len(PARTS)]
    for recording in recordings:
        shutil.copy(recording, folder)
    rows_of_calls(recordings).to_csv(folder / "metadata.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """A self-contained model with tiny encoders."""
    folder = tmp_path_factory.mktemp("untrained")
    torch.manual_seed(0)
    randomize(MMERForEmotionRecognition(real_input_config())).save_pretrained(folder)
    real_input_processor().save_pretrained(folder)
    return folder


def train(model: Path, corpus: Path, folder: Path, *options: str) -> Path:
    how = [
        "--num_train_epochs",
        "1",
        "--learning_rate",
        "1e-6",
        "--use_cpu",
        "--report_to",
        "none",
        "--disable_tqdm",
        "true",
    ]
    where = ["--model", str(model), "--corpus", "folder", "--corpus_dir", str(corpus), "--output_dir", str(folder)]
    main(["train", *where, *how, *options])
    return folder


@pytest.fixture(scope="module")
def tuned(untrained, calls, tmp_path_factory):
    """A run on the calls."""
    return train(untrained, calls, tmp_path_factory.mktemp("tuned"), *TOLD)


def judge(model: Path, corpus: Path, folder: Path, *options: str) -> dict:
    how = ["--use_cpu", "--report_to", "none", "--output_dir", str(folder)]
    main(["eval", str(model), "--corpus", "folder", "--corpus_dir", str(corpus), *how, *options])
    return json.loads((folder / "results.json").read_text())


def read(directory: Path, **options):
    """A corpus with the digests of its rows, as the commands read it."""
    corpus = load_corpora("folder", directory, emotion_labels=EMOTIONS, **options)
    paths = [path for rows in corpus.splits.values() for path in rows["audio"][:] if path is not None]
    return examine(corpus, read_recordings(paths, show_progress=False))


def texts(folder: Path, **columns) -> Path:
    folder.mkdir(exist_ok=True)
    pd.DataFrame(columns).to_csv(folder / "metadata.csv", index=False)
    return folder


# ── what training was told ──────────────────────────────────────────────────────────────────────────────────────────


def test_eval_reads_a_corpus_as_training_did_and_says_so(tuned, calls, tmp_path, capsys):
    found = judge(tuned, calls, tmp_path)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "read as in training" in line]
    for option in ("audio=wav", "emotion=affect", "split=part", "cross=anger", "--label_scale 1 5"):
        assert option in line
    expected = json.loads((tuned / "results.json").read_text())["splits"]["test"]
    for combination in ("audio", "text", "audio_text"):
        assert found["splits"]["test"][combination]["n"] == expected[combination]["n"] > 0
        for figure in ("ua", "arousal_ccc"):
            assert found["splits"]["test"][combination][figure] == pytest.approx(
                expected[combination][figure], abs=1e-5
            )
    table = pd.read_parquet(tmp_path / "predictions.parquet").query("combination == 'text'")
    assert table.reference_emotion.tolist() == list(EMOTIONS)  # calm, cheerful!, low, cross
    assert not any("trained" in caveat for caveat in found["caveats"])


def test_options_of_the_command_line_win_one_by_one(calls, tuned):
    readings = TrainingCorpus.load(tuned).readings
    corpus = read(calls, readings=readings, label_map={"cross": "sadness"}, label_scale=(0, 10))
    assert corpus.splits["test"]["emotion"][:] == ["neutral", "happiness", "sadness", "sadness"]
    assert corpus.label_scale == (0, 10)
    (line,) = [notice for notice in corpus.notices if "read as in training" in notice]
    assert "calm=neutral" in line and "cross" not in line and "--label_scale" not in line


def test_other_columns_are_not_read_as_in_training(tmp_path, tuned):
    readings = TrainingCorpus.load(tuned).readings
    other = texts(tmp_path / "other", text=["calm down", "go on"], emotion=["anger", "sad"], valence=[6.5, 7])
    corpus = read(other, readings=readings)
    assert corpus.label_scale == (1, 7) and not any("as in training" in notice for notice in corpus.notices)


def test_a_reading_fits_the_same_columns_without_that_of_the_splits():
    columns = {"audio": "Wav File", "emotion": "affect", "split": "part"}
    reading = Reading("folder", "calls", columns, {"emotion": "affect", "split": "part", "text": ""}, {}, (1, 5))
    assert reading.fits("hf", ["wav  file", "affect", "note"]) and not reading.fits("folder", ["affect", "part"])
    assert not reading.fits("ravdess", None) and not reading.fits("folder", [])
    assert reading.within(["Wav File", "affect"]).column_map == {"emotion": "affect", "text": ""}
    published = Reading("ravdess", "ravdess", label_map={"calm": "neutral"})
    assert published.fits("ravdess", None) and not published.fits("folder", ["audio", "emotion"])


def test_of_several_corpora_each_is_read_as_the_one_like_it(tmp_path):
    one = texts(tmp_path / "one", said=["a", "b"], mood=["x", "y"], part=["train", "test"])
    two = texts(tmp_path / "two", text=["c", "d"], label=["x", "y"], split=["train", "test"])
    told = {
        "column_map": {"one:text": "said", "one:emotion": "mood", "one:split": "part"},
        "label_map": {"one:x": "anger", "one:y": "sadness", "two:x": "neutral", "two:y": "happiness"},
        "label_scale": [1, 5, 1, 9],
    }
    both = load_corpora(["folder", "folder"], [one, two], emotion_labels=EMOTIONS, **told)
    assert both.splits["train"]["emotion"][:] == ["anger", "neutral"]
    again = load_corpora(["folder", "folder"], [two, one], emotion_labels=EMOTIONS, readings=both.readings)
    assert again.splits["train"]["emotion"][:] == ["neutral", "anger"] and again.label_scale == (1, 9)
    alone = load_corpora("folder", one, emotion_labels=EMOTIONS, readings=both.readings)
    assert alone.splits["test"]["emotion"][:] == ["sadness"] and alone.label_scale == (1, 5)


def test_the_fold_that_was_trained_is_judged(iemocap):
    corpus = load_corpora("iemocap", iemocap, emotion_labels=EMOTIONS, fold=3)
    (reading,) = corpus.readings
    again = load_corpora("iemocap", iemocap, emotion_labels=EMOTIONS, readings=[reading])
    assert again.splits["test"]["utterance_id"][:] == corpus.splits["test"]["utterance_id"][:]
    assert "read as in training: --fold 3" in again.notices
    with pytest.raises(CorpusError, match="5 folds"):
        load_corpora("iemocap", iemocap, emotion_labels=EMOTIONS)


# ── rows that the model was trained on ──────────────────────────────────────────────────────────────────────────────


def test_training_rows_stop_an_evaluation_or_are_left_out_or_judged_and_said(tuned, calls, tmp_path, capsys):
    unsplit = tmp_path / "elsewhere"  # the same rows in another order and under other ids
    unsplit.mkdir()
    table = pd.read_csv(calls / "metadata.csv").drop(columns="part").iloc[::-1]
    table["wav"] = table["wav"].map(lambda name: str(calls / name), na_action="ignore")
    table.to_csv(unsplit / "metadata.csv", index=False)
    with pytest.raises(SystemExit) as end:
        judge(tuned, unsplit, tmp_path / "stop")
    message = capsys.readouterr().err
    assert end.value.code == 1 and "12 of 16 rows are among the train or validation rows" in message
    assert "--column_map split=COLUMN" in message and "--training_rows skip" in message
    assert not (tmp_path / "stop" / "results.json").exists()

    left = judge(tuned, unsplit, tmp_path / "skip", "--training_rows", "skip")
    expected = json.loads((tuned / "results.json").read_text())["splits"]["test"]
    assert left["splits"]["test"]["text"]["ua"] == pytest.approx(expected["text"]["ua"], abs=1e-5)
    assert left["splits"]["test"]["text"]["n"] == 4
    assert any(caveat.startswith("12 of 16") and caveat.endswith("left out") for caveat in left["caveats"])

    everything = judge(tuned, unsplit, tmp_path / "keep", "--training_rows", "keep")
    assert everything["splits"]["test"]["text"]["n"] == 16
    assert any("12 of 16" in caveat and "not on unseen data" in caveat for caveat in everything["caveats"])
    assert "12 of 16" in (tmp_path / "keep" / "README.md").read_text()


@pytest.mark.parametrize(("split", "says"), [("train", "8 of 8 rows"), ("validation", "4 of 4 rows")])
def test_a_split_that_is_called_train_or_validation_is_judged_as_what_it_is(tuned, calls, split, says):
    training = TrainingCorpus.load(tuned)
    corpus = handle_training_rows(read(calls, readings=training.readings), split, training, "runs/calls", "stop")
    *_, caveat = corpus.caveats
    assert caveat.startswith(says) and "runs/calls" in caveat


def test_what_a_corpus_repeats_itself_stops_nothing(tmp_path):
    told = {"emotion": ["sad"] * 6, "split": ["train"] * 3 + ["validation", "test", "test"]}
    corpus = read(texts(tmp_path / "own", text=["ok", "no", "maybe", "Ok ", "OK", "never"], **told))
    training = TrainingCorpus.of(corpus)
    assert handle_training_rows(corpus, "test", training, "m", "stop").caveats == corpus.caveats
    other = read(texts(tmp_path / "other", text=["no", "never", "one", "two"], emotion=["sad"] * 4))
    with pytest.raises(ValueError, match="1 of 4 rows"):
        handle_training_rows(other, "test", training, "m", "stop")


def test_few_training_rows_are_a_caveat(tmp_path):
    split = ["train"] * 3 + ["validation"]
    training = TrainingCorpus.of(read(texts(tmp_path / "own", text=list("abcd"), emotion=["sad"] * 4, split=split)))
    rows = ["a", *(f"text {i}" for i in range(20))]
    corpus = handle_training_rows(
        read(texts(tmp_path / "new", text=rows, emotion=["sad"] * 21)), "test", training, "m", "stop"
    )
    assert any(caveat.startswith("1 of 21 rows") for caveat in corpus.caveats)
    assert len(corpus.splits["test"]) == 21


def test_rows_are_the_same_by_what_they_hold(calls, tmp_path):
    copy = tmp_path / "copy.opus"
    recording = sorted(calls.glob("*.opus"))[1]
    shutil.copy(recording, copy)
    rows = [("a", str(recording), "One"), ("b", str(copy), None), ("c", None, " one"), ("d", None, "two")]
    table = pd.DataFrame(rows, columns=["utterance_id", "audio", "text"], dtype=object).assign(start=None, end=None)
    found = row_digests(table, read_recordings([str(recording), str(copy)], show_progress=False))
    assert found["a"] == found["b"] and len({found[name] for name in "acd"}) == 3


def test_a_model_that_does_not_say_what_it_was_trained_on_is_noted(untrained, calls, tuned):
    assert TrainingCorpus.load(untrained) is None
    corpus = read(calls, readings=TrainingCorpus.load(tuned).readings)
    noted = handle_training_rows(corpus, "test", None, "someone/mmer", "stop")
    assert noted.caveats == corpus.caveats and "someone/mmer has no training_corpus.json" in noted.notices[-1]


def test_nothing_to_judge_by_is_refused(untrained, tmp_path, capsys):
    bare = texts(tmp_path / "bare", text=["one", "two"], affect=["sad", "angry"])
    with pytest.raises(SystemExit) as end:
        judge(untrained, bare, tmp_path / "out")
    message = capsys.readouterr().err
    assert end.value.code == 1 and "--column_map emotion=" in message
    assert not (tmp_path / "out" / "results.json").exists()


# ── where it is kept ────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_stays_with_every_checkpoint_and_with_an_export(tuned, tmp_path, capsys):
    (checkpoint,) = tuned.glob("checkpoint-*")
    main(["export", str(checkpoint), "--output_dir", str(tmp_path / "out")])
    kept = json.loads((tuned / FILE).read_text())
    for folder in (checkpoint, tmp_path / "out"):
        assert json.loads((folder / FILE).read_text()) == kept
    (told,) = kept["corpora"]
    assert told["name"] == "calls" and told["column_map"]["split"] == "part" and told["label_scale"] == [1, 5]


def test_what_was_trained_on_before_stays_known(tuned, tmp_path):
    emotions = ["neutral", "happy", "sad", "angry", "sad"]
    rows = {"text": list("abcde"), "emotion": emotions, "split": ["train"] * 4 + ["validation"]}
    tuned_again = train(tuned, texts(tmp_path / "new", **rows), tmp_path / "again")
    before, after = TrainingCorpus.load(tuned), TrainingCorpus.load(tuned_again)
    for split, n in (("train", 12), ("validation", 5)):
        assert len(after.rows[split]) == n and np.isin(before.rows[split], after.rows[split]).all()
    assert [reading.name for reading in after.readings] == ["new"]


def test_digests_survive_being_written(tmp_path):
    digests = np.array([0, 1, 2**63, 2**64 - 1], dtype=np.uint64)
    reading = Reading("folder", "x", {"text": "t"}, {"text": "t"}, {"a": "b"}, (1.0, 5.0), None)
    TrainingCorpus((reading,), {"train": digests}, {"test": digests[:1]}).save(tmp_path)
    found = TrainingCorpus.load(tmp_path)
    assert found.readings == (reading,) and found.rows["train"].tolist() == digests.tolist()
    assert found.repeated["test"].tolist() == [0]
    (tmp_path / FILE).write_text('{"corpora": []}')
    with pytest.raises(ValueError, match=FILE):
        TrainingCorpus.load(tmp_path)


def test_a_model_of_the_hub_is_asked_for_it(tuned, monkeypatch):
    monkeypatch.setattr(training_corpus, "hf_hub_download", lambda name, file, revision: f"{tuned}/{file}")
    assert TrainingCorpus.load("someone/mmer").readings == TrainingCorpus.load(tuned).readings

    def absent(name, file, revision):
        raise LocalEntryNotFoundError("not in the cache")

    monkeypatch.setattr(training_corpus, "hf_hub_download", absent)
    assert TrainingCorpus.load("someone/mmer") is None


# ── before any work ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_missing_splits_and_labels_are_named_with_their_column(untrained, calls, tmp_path, capsys):
    only_test = texts(tmp_path / "eval", words=["a", "b"], mood=["sad", "angry"], part=["test", "test"])
    mapped = ["--column_map", "text=words", "emotion=mood", "split=part"]
    no_labels = texts(
        tmp_path / "blank", text=["a", "b", "c"], emotion=["sad", None, "sad"], split=["train", "dev", "test"]
    )
    for corpus, options, says in (
        (only_test, mapped, ["no train and no validation", "column 'part'", "--column_map split=COLUMN"]),
        (only_test, mapped[:-1], ["no train and no validation", "no column says", "--column_map split=COLUMN"]),
        (no_labels, [], ["No labels found in blank, validation", "--column_map emotion=COLUMN"]),
    ):
        with pytest.raises(SystemExit) as end:
            train(untrained, corpus, tmp_path / "out", *options)
        message = capsys.readouterr().err
        assert end.value.code == 1 and all(words in message for words in says), message
        assert len(message.splitlines()) == 1


def test_the_scale_of_the_model_holds_whatever_that_of_the_corpus(tuned, calls, tmp_path):
    """The same energies on twice the scale: CCC does not change."""
    doubled = tmp_path / "doubled"
    shutil.copytree(calls, doubled)
    table = pd.read_csv(doubled / "metadata.csv")
    table.assign(energy=table["energy"] * 2).to_csv(doubled / "metadata.csv", index=False)
    found = judge(tuned, doubled, tmp_path / "out", "--label_scale", "2", "10")["splits"]["test"]["text"]
    expected = json.loads((tuned / "results.json").read_text())["splits"]["test"]["text"]
    assert found["arousal_ccc"] == pytest.approx(expected["arousal_ccc"], abs=1e-5)
    renamed = replace(TrainingCorpus.load(tuned).readings[0], label_scale=None)
    assert "--label_scale" not in renamed.told(Reading("folder", "folder"))
