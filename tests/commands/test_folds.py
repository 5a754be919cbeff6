"""Cross-validation: one model per fold, the mean of their figures, and resuming."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import run

from modeling_mmer.commands.folds import mean_figures


def options(iemocap, encoders, output) -> list[str]:
    return ["--corpus", "iemocap", "--corpus_dir", str(iemocap), *options_of_training(encoders, output)]


def options_of_training(encoders, output) -> list[str]:
    return [
        *("--audio_encoder", str(encoders / "whisper"), "--text_encoder", str(encoders / "roberta")),
        *("--audio_context", "trimmed", "--num_train_epochs", "1"),
        *("--self_contained", "true", "--output_dir", str(output)),
    ]


def test_a_model_per_fold_and_the_mean_of_their_figures(iemocap, demo_encoders, tmp_path):
    output = tmp_path / "out"
    done = run("train.py", *options(iemocap, demo_encoders, output))
    assert done.returncode == 0, done.stderr
    folds = [json.loads((output / f"fold_{fold}/results.json").read_text()) for fold in range(1, 6)]
    overall = json.loads((output / "results.json").read_text())
    assert overall["folds"] == 5 and overall["splits"]["test"]["audio"]["n"] == 20
    for combination in ("audio", "text", "audio_text"):
        for figure in ("ua", "valence_ccc", "arousal_ccc"):
            mean = np.mean([fold["splits"]["test"][combination][figure] for fold in folds])
            assert overall["splits"]["test"][combination][figure] == pytest.approx(mean)
    assert "Mean over 5 folds" in (output / "report.md").read_text()
    tested = [line for line in done.stdout.splitlines() if "tested on session" in line]
    assert [line.split()[1] for line in tested] == list("12345")

    # an evaluation names its fold, and finds what training found
    judged = run("eval.py", str(output / "fold_2"), "--corpus", "iemocap", "--corpus_dir", str(iemocap),
                 "--fold", "2", "--output_dir", str(tmp_path / "judged"))  # fmt: skip
    assert judged.returncode == 0, judged.stderr
    again = json.loads((tmp_path / "judged/results.json").read_text())["splits"]["test"]["audio"]
    assert again["valence_ccc"] == pytest.approx(folds[1]["splits"]["test"]["audio"]["valence_ccc"], abs=1e-4)
    # without a name it is the one that the model was trained for, and another one's test rows were trained on
    options_of_eval = ["--corpus", "iemocap", "--corpus_dir", str(iemocap), "--output_dir", str(tmp_path / "judged")]
    unnamed = run("eval.py", str(output / "fold_2"), *options_of_eval)
    assert unnamed.returncode == 0 and "read as in training: --fold 2" in unnamed.stdout, unnamed.stderr
    other = run("eval.py", str(output / "fold_2"), *options_of_eval, "--fold", "1")
    assert other.returncode == 1 and "4 of 4 rows are among the train or validation rows" in other.stderr

    # a resumed run repeats no fold that is done
    shutil.rmtree(output / "fold_5")
    kept = (output / "fold_4/results.json").stat().st_mtime_ns
    resumed = run("train.py", *options(iemocap, demo_encoders, output), "--resume_from_checkpoint", "true")
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.count("tested on session") == 1
    assert (output / "fold_4/results.json").stat().st_mtime_ns == kept
    assert json.loads((output / "results.json").read_text()) == overall


def test_folds_of_speakers_of_a_folder(demo_encoders, tmp_path):
    """Ours has no folds: they are asked for, and an evaluation names them again."""
    rows = [
        {"text": f"{speaker} says {n}", "emotion": label, "speaker": speaker, "split": "train"}
        for speaker in ("anna", "bo", "cleo", "dan")
        for n, label in enumerate(("neutral", "happiness", "sadness", "anger"))
    ]
    folder = tmp_path / "mine"
    folder.mkdir()
    pd.DataFrame(rows).to_csv(folder / "metadata.csv", index=False)
    corpus = ["--corpus", "folder", "--corpus_dir", str(folder)]
    output = tmp_path / "out"
    done = run("train.py", *corpus, "--speaker_folds", "2", *options_of_training(demo_encoders, output))
    assert done.returncode == 0, done.stderr
    assert "tested on anna, cleo; selected on bo" in done.stdout and "tested on bo, dan" in done.stdout
    overall = json.loads((output / "results.json").read_text())
    assert overall["folds"] == 2 and overall["splits"]["test"]["text"]["n"] == 16
    assert json.loads((output / "fold_1/results.json").read_text())["splits"]["test"]["text"]["n"] == 8

    judged = ["--output_dir", str(tmp_path / "judged")]
    named = run("eval.py", str(output / "fold_2"), *corpus, "--speaker_folds", "2", "--fold", "2", *judged)
    assert named.returncode == 0, named.stderr
    again = json.loads((tmp_path / "judged/results.json").read_text())["splits"]["test"]["text"]
    assert again == json.loads((output / "fold_2/results.json").read_text())["splits"]["test"]["text"]
    other = run("eval.py", str(output / "fold_2"), *corpus, "--speaker_folds", "2", "--fold", "1", *judged)
    assert other.returncode == 1 and "8 of 8 rows are among the train or validation rows" in other.stderr


@pytest.mark.parametrize("folds", ["0", "1", "-3"])
def test_a_number_of_folds_that_makes_none_is_refused(folds, tmp_path):
    options = ["--corpus", "folder", "--corpus_dir", str(tmp_path), "--output_dir", str(tmp_path / "out")]
    refused = run("train.py", *options, f"--speaker_folds={folds}")
    assert refused.returncode != 0 and f"--speaker_folds must be at least 2, not {folds}" in refused.stderr


def test_the_mean_adds_counts_and_leaves_out_what_was_not_measured():
    one = {"n": 2, "labelled": {"emotion": 1}, "ua": 0.5, "confusion_matrix": {"labels": ["a"], "rows": [[2]]}}
    two = {"n": 3, "labelled": {"emotion": 3, "valence": 2}, "ua": 0.7}
    two["confusion_matrix"] = {"labels": ["a"], "rows": [[1]]}
    folds = [{"audio": one}, {"audio": two, "retrieval": {"n": 32, "audio_to_text": 0.25}}]
    assert mean_figures(folds) == {
        "audio": {
            "n": 5,
            "labelled": {"emotion": 4, "valence": 2},
            "ua": pytest.approx(0.6),
            "confusion_matrix": {"labels": ["a"], "rows": [[3]]},
        },
        "retrieval": {"n": 32, "audio_to_text": 0.25},
    }


def test_classes_may_be_called_as_counts_and_tables_are():
    recall = [{"n": 0.5, "confusion_matrix": 1.0}, {"n": 1.0, "retrieval": 0.25}]
    mean = mean_figures([{"audio": {"n": 2, "per_class_recall": of_fold}} for of_fold in recall])
    assert mean["audio"] == {"n": 4, "per_class_recall": {"n": 0.75, "confusion_matrix": 1.0, "retrieval": 0.25}}
