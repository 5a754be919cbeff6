"""Corpus statistics, against hand counts on a small folder and pandas on the demo corpus."""

import json
import wave

import numpy as np
import pandas as pd
import pytest
import soundfile

from modeling_mmer.commands import main
from modeling_mmer.corpora import CorpusError, load_corpora
from modeling_mmer.corpora.demo import DEMO_FOLDER
from modeling_mmer.corpora.describe import BINS, describe
from modeling_mmer.report.corpus import corpus_report

LABELS = ("neutral", "happiness", "sadness", "anger")
RATE = 1000  # samples a second, so that lengths can be read off


def noise(samples: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, samples)


def cut_in_half(path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.fixture
def folder(tmp_path):
    """Twelve rows in four splits, with a fault of each kind.

    `copy.flac` (test) has the samples of `a.wav` (train); `alone.wav` is nobody's copy. `s1` speaks in train and test.
    Text of `a` and `long` differs in case and spacing only. A recording lasts 30 s sharp, another a little longer.
    """
    audio = tmp_path / "mine" / "audio"
    audio.mkdir(parents=True)
    soundfile.write(audio / "a.wav", noise(1500, 0), RATE)
    samples, _ = soundfile.read(audio / "a.wav", dtype="int16")
    soundfile.write(audio / "copy.flac", samples, RATE)
    soundfile.write(audio / "alone.wav", noise(1500, 1), RATE)
    soundfile.write(audio / "thirty.wav", noise(30_000, 2), RATE)
    soundfile.write(audio / "long.wav", noise(30_001, 3), RATE)
    soundfile.write(audio / "silent.wav", np.zeros(500), RATE)
    with_nan = noise(2000, 4)
    with_nan[1000] = np.nan
    soundfile.write(audio / "nan.wav", with_nan, RATE, subtype="FLOAT")
    soundfile.write(audio / "cut.wav", noise(4000, 5), RATE)
    cut_in_half(audio / "cut.wav")
    (audio / "text.wav").write_text("no audio")
    soundfile.write(audio / "empty.wav", np.zeros(0), RATE)
    rows = [
        # id, audio, text, emotion, valence, speaker, split
        ("a", "audio/a.wav", "It is  so.", "anger", 1.0, "s1", "train"),
        ("thirty", "audio/thirty.wav", None, "anger", 2.0, "s2", "train"),
        ("silent", "audio/silent.wav", "nothing", "happy", 4.5, "s2", "train"),
        ("words", None, "words alone", "disgust", None, "s2", "train"),
        ("alone", "audio/alone.wav", "so it is", "sad", 3.0, "s3", "dev"),
        ("cut", "audio/cut.wav", None, None, None, "Unknown", "dev"),
        ("copy", "audio/copy.flac", "else", "anger", 5.0, "s1", "test1"),
        ("long", "audio/long.wav", "it is SO.", None, 3.0, None, "test1"),
        ("nan", "audio/nan.wav", "odd", "neutral", 3.0, "s4", "test1"),
        ("missing", "audio/missing.wav", None, "neutral", None, "s5", "test2"),
        ("text", "audio/text.wav", None, None, None, "s5", "test2"),
        ("empty", "audio/empty.wav", "hush", None, None, "s5", "test2"),
    ]
    columns = ["utterance_id", "audio", "text", "emotion", "valence", "speaker", "split"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "mine" / "metadata.csv", index=False)
    return tmp_path / "mine"


@pytest.fixture
def figures(folder):
    options = {"emotion_labels": LABELS, "label_scale": (1, 5), "on_bad_rows": "keep"}
    return describe(load_corpora("folder", folder, **options))


# ── what is in it ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_rows_modalities_and_speakers_of_each_split(figures):
    assert figures["corpus"] == "mine" and figures["label_scale"] == [1, 5]
    counts = {
        name: (part["rows"], *part["modalities"].values(), part["speakers"], part["rows_without_speaker"])
        for name, part in (figures["splits"] | {"all": figures["all"]}).items()
    }
    assert list(figures["all"]["modalities"]) == ["audio_text", "audio_only", "text_only"]
    assert counts == {
        "train": (4, 2, 1, 1, 2, 0),
        "validation": (2, 1, 1, 0, 1, 1),
        "test": (3, 3, 0, 0, 2, 1),
        "test2": (3, 1, 2, 0, 1, 0),
        "all": (12, 7, 4, 1, 5, 2),
    }


def test_classes_and_what_is_unlabelled(figures):
    assert figures["splits"]["train"]["emotion"] == {"labels": {"anger": 2, "happiness": 1}, "unlabelled": 1}
    assert figures["splits"]["test2"]["emotion"] == {"labels": {"neutral": 1}, "unlabelled": 2}
    assert figures["all"]["emotion"] == {
        "labels": {"anger": 3, "neutral": 2, "happiness": 1, "sadness": 1},
        "unlabelled": 5,
    }
    # thirds of 1 to 5 lie at 2.33 and 3.67
    assert figures["all"]["sentiment"] == {"labels": {"neutral": 3, "negative": 2, "positive": 2}, "unlabelled": 5}
    assert any("disgust (1)" in sentence for sentence in figures["caveats"] + figures["notices"])


def test_label_ranges(figures):
    train = figures["splits"]["train"]["dimensions"]["valence"]  # 1, 2 and 4.5: deviations of 1.5, 0.5 and 2
    assert train == pytest.approx({"n": 3, "min": 1, "mean": 2.5, "max": 4.5, "std": (6.5 / 3) ** 0.5})
    assert figures["splits"]["validation"]["dimensions"]["valence"] == {"n": 1, "min": 3, "mean": 3, "max": 3, "std": 0}
    assert figures["splits"]["test2"]["dimensions"]["valence"] == {"n": 0}
    assert figures["all"]["dimensions"]["arousal"] == {"n": 0}


def test_durations(figures):
    train = figures["splits"]["train"]["duration"]  # 1.5 s, 30 s and 0.5 s
    histogram = train.pop("histogram")
    assert train == pytest.approx(
        {
            "n": 3,
            "min": 0.5,
            "mean": 32 / 3,
            "median": 1.5,
            "max": 30,
            "std": np.std([1.5, 30, 0.5]),
            "hours": 32 / 3600,
            "over_30_s": 0,
        }
    )
    occupied = {start: n for start, n in zip(histogram["from"], histogram["counts"], strict=True) if n}
    assert occupied == {0: 1, 1: 1, 30: 1}
    assert figures["splits"]["test"]["duration"]["over_30_s"] == 1
    assert figures["splits"]["test2"]["duration"] == {"n": 0}  # nothing there can be read
    assert figures["all"]["duration"]["n"] == 8


def test_a_very_long_recording_has_its_bin(tmp_path):
    soundfile.write(tmp_path / "hour.flac", np.zeros(3600 * 100), 100)
    pd.DataFrame({"audio": ["hour.flac"]}).to_csv(tmp_path / "metadata.csv", index=False)
    duration = describe(load_corpora("folder", tmp_path, emotion_labels=LABELS))["all"]["duration"]
    assert duration["histogram"] == {"from": list(BINS), "counts": [0] * (len(BINS) - 1) + [1]}
    assert duration["hours"] == 1


def test_speakers_by_number_of_rows(figures):
    assert figures["speakers"] == [
        {"speaker": "s2", "rows": {"train": 3}},
        {"speaker": "s5", "rows": {"test2": 3}},
        {"speaker": "s1", "rows": {"train": 1, "test": 1}},
        {"speaker": "s3", "rows": {"validation": 1}},
        {"speaker": "s4", "rows": {"test": 1}},
    ]


# ── across splits, and what is broken ───────────────────────────────────────────────────────────────────────────────


def test_what_splits_share(figures):
    assert figures["shared"] == {
        "speakers": [{"speaker": "s1", "rows": {"train": 1, "test": 1}}],
        "texts": [{"text": "It is  so.", "rows": {"train": 1, "test": 1}}],
        "recordings": [{"rows": {"train": 1, "test": 1}, "utterance_ids": {"train": ["a"], "test": ["copy"]}}],
    }


def test_broken_recordings_are_named_with_their_fault(figures, folder):
    found = {row["utterance_id"]: (row["split"], row["kind"]) for row in figures["broken"]}
    assert found == {
        "silent": ("train", "silent"),
        "cut": ("validation", "truncated"),
        "nan": ("test", "not finite"),
        "missing": ("test2", "missing"),
        "text": ("test2", "unreadable"),
        "empty": ("test2", "empty"),
    }
    assert all(row["audio"].startswith(str(folder / "audio" / row["utterance_id"])) for row in figures["broken"])


@pytest.mark.parametrize("name", ["x.wav", "x.flac", "x.aiff", "x.mp3", "float.wav"])
def test_truncation_shows_in_every_format(tmp_path, name):
    soundfile.write(tmp_path / name, noise(16000, 0), 16000, subtype="FLOAT" if "float" in name else None)
    pd.DataFrame({"audio": [name]}).to_csv(tmp_path / "metadata.csv", index=False)
    for kinds in ([], ["truncated"]):
        corpus = load_corpora("folder", tmp_path, emotion_labels=LABELS, on_bad_rows="keep")
        assert [row["kind"] for row in describe(corpus)["broken"]] == kinds
        cut_in_half(tmp_path / name)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF])
def test_a_streamed_wav_that_does_not_know_its_size_is_whole(tmp_path, size):
    with wave.open(str(tmp_path / "x.wav"), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", None))
        file.writeframes((noise(500, 0) * 2**15).astype("<i2").tobytes())
    content = (tmp_path / "x.wav").read_bytes()
    (tmp_path / "x.wav").write_bytes(content[:40] + size.to_bytes(4, "little") + content[44:])
    pd.DataFrame({"audio": ["x.wav"]}).to_csv(tmp_path / "metadata.csv", index=False)
    figures = describe(load_corpora("folder", tmp_path, emotion_labels=LABELS))
    assert figures["broken"] == [] and figures["all"]["duration"]["max"] == 0.5


def test_only_a_description_gets_broken_audio(folder):
    with pytest.raises(CorpusError, match=r"corpus mine has bad rows \(3\)"):
        load_corpora("folder", folder, emotion_labels=LABELS)


def test_rows_without_a_place_in_the_schema_are_counted(folder):
    table = pd.read_csv(folder / "metadata.csv", keep_default_na=False)
    table.loc[3, "split"] = "holdout"
    table.to_csv(folder / "metadata.csv", index=False)
    corpus = load_corpora("folder", folder, emotion_labels=LABELS, label_scale=(1, 5), on_bad_rows="keep")
    figures = describe(corpus)
    assert figures["all"]["rows"] == 11 and len(figures["broken"]) == 6
    assert "1 bad row is left out: rows of unknown splits (1): row 4 (words): holdout" in figures["caveats"]


def test_the_order_of_rows_changes_no_table(folder, figures):
    table = pd.read_csv(folder / "metadata.csv", keep_default_na=False).iloc[::-1]  # "nan" is an id
    table.to_csv(folder / "metadata.csv", index=False)
    options = {"emotion_labels": LABELS, "label_scale": (1, 5), "on_bad_rows": "keep"}
    reversed_figures = describe(load_corpora("folder", folder, **options))
    tables, reversed_tables = (corpus_report(f).split("## Broken")[0] for f in (figures, reversed_figures))
    assert reversed_tables == tables
    assert sorted(map(str, reversed_figures["broken"])) == sorted(map(str, figures["broken"]))


def test_corpora_joined_keep_their_faults_and_unknown_speakers(folder):
    joined = load_corpora(["demo", "folder"], folder, emotion_labels=LABELS, on_bad_rows="keep")
    assert len(joined.faults) == 3 and all(str(fault).startswith("mine: row") for fault in joined.faults)
    figures = describe(joined)
    assert len(figures["broken"]) == 6 and figures["broken"][0]["utterance_id"] == "mine/silent"
    assert figures["splits"]["validation"]["rows_without_speaker"] == 1  # mine/Unknown
    assert "test2" in figures["splits"]


# ── the report ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_report_says_what_was_counted(figures):
    report = corpus_report(figures)
    for line in (
        "|  | train | validation | test | test2 | all |",
        "| rows | 4 | 2 | 3 | 3 | 12 |",
        "| anger | 2 | 0 | 1 | 0 | 3 |",
        "## Dimensions, on the scale 1 to 5",
        "| valence | train | 3 | 1.00 | 2.50 | 4.50 | 1.47 |",
        "| max | 30.00 | 1.99 | 30.00 | – | 30.00 |",  # half of 8,044 bytes, less a header of 44, are 1,989 samples
        "| n from 30 to 60 | 1 | 0 | 1 | 0 | 2 |",
        "| n over 30 | 0 | 0 | 1 | 0 | 1 |",
        "| s2 | 3 | 0 | 0 | 0 |",
        "| train and test | 1 (2 rows) | 1 (2 rows) | 1 (2 rows) |",
        "| validation and test2 | 0 | 0 | 0 |",
    ):
        assert line in report.splitlines(), line
    assert "arousal" not in report and "60 and more" not in report
    assert "6 of 11: 1 silent, 1 truncated, 1 not finite, 1 missing, 1 unreadable, 1 empty." in report
    assert all(row["audio"] in report for row in figures["broken"])
    assert all(f"- {sentence}" in report for sentence in figures["caveats"] + figures["notices"])


def test_long_lists_are_cut_in_the_report_and_whole_in_the_figures(tmp_path):
    rows = [{"audio": f"{i:02}.wav", "speaker": f"s{i:02}"} for i in range(25)]
    pd.DataFrame(rows).to_csv(tmp_path / "metadata.csv", index=False)
    figures = describe(load_corpora("folder", tmp_path, emotion_labels=LABELS, on_bad_rows="keep"))
    assert len(figures["speakers"]) == len(figures["broken"]) == 25
    report = corpus_report(figures)
    assert "s09" in report and "s10" not in report and "and 15 more speakers" in report
    assert "19.wav" in report and "20.wav" not in report and "- and 5 more" in report
    assert "Emotion" not in report and "Durations" not in report and "In more than one split" not in report


# ── the command ─────────────────────────────────────────────────────────────────────────────────────────────────────


def describe_by_command(tmp_path, *options: str) -> dict:
    main(["corpus", "describe", *options, "--output_dir", str(tmp_path / "out")])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"corpus.json", "corpus.png"}
    assert (tmp_path / "out" / "corpus.png").read_bytes().startswith(b"\x89PNG")
    return json.loads((tmp_path / "out" / "corpus.json").read_text(encoding="utf-8"))


def test_the_demos_figures_are_those_of_its_metadata(tmp_path, capsys):
    figures = describe_by_command(tmp_path, "--corpus", "demo")
    metadata = pd.read_csv(DEMO_FOLDER / "metadata.csv")
    assert list(figures["splits"]) == ["train", "validation", "test"]
    for split, part in (figures["splits"] | {"all": figures["all"]}).items():
        rows = metadata[metadata.split.eq(split)] if split != "all" else metadata
        assert part["rows"] == len(rows)
        assert part["modalities"]["text_only"] == rows.audio.isna().sum()
        assert part["modalities"]["audio_only"] == rows.text.isna().sum()
        assert part["emotion"]["labels"] == rows.emotion.value_counts().to_dict()
        assert part["emotion"]["unlabelled"] == rows.emotion.isna().sum()
        assert part["speakers"] == rows.speaker.nunique()
        for dimension in ("valence", "arousal", "dominance"):
            expected = rows[dimension].agg(["min", "mean", "max"]).to_dict()
            expected |= {"n": rows[dimension].count(), "std": rows[dimension].std(ddof=0)}
            assert part["dimensions"][dimension] == pytest.approx(expected)
        seconds = pd.Series([soundfile.info(DEMO_FOLDER / path).duration for path in rows.audio.dropna()])
        assert part["duration"]["hours"] == pytest.approx(seconds.sum() / 3600)
        assert part["duration"]["median"] == pytest.approx(seconds.median())
        assert sum(part["duration"]["histogram"]["counts"]) == part["duration"]["n"] == len(seconds)
    assert {s["speaker"]: sum(s["rows"].values()) for s in figures["speakers"]} == metadata.groupby(
        "speaker"
    ).size().to_dict()
    assert figures["shared"] == {"speakers": [], "texts": [], "recordings": []} and figures["broken"] == []
    assert figures["license"] == "apache-2.0"
    printed = capsys.readouterr().out
    assert "# Corpus demo" in printed and f"| rows | 208 | 52 | 72 | {len(metadata)} |" in printed


def test_broken_files_do_not_stop_the_command(folder, tmp_path, capsys):
    options = ["--corpus", "folder", "--corpus_dir", str(folder), "--label_scale", "1", "5"]
    figures = describe_by_command(tmp_path, *options, "--emotion_labels", "anger", "disgust")
    assert figures["all"]["emotion"] == {"labels": {"anger": 3, "disgust": 1}, "unlabelled": 8}
    assert len(figures["broken"]) == 6
    assert "6 of 11: " in capsys.readouterr().out


def test_the_same_corpus_gives_the_same_files(folder, tmp_path):
    options = ["corpus", "describe", "--corpus", "folder", "--corpus_dir", str(folder), "--output_dir"]
    for name in ("one", "two"):
        main([*options, str(tmp_path / name)])
    for file in ("corpus.json", "corpus.png"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_corpus_of_text_alone(tmp_path):
    table = pd.DataFrame({"text": ["one", "two", "one"], "split": ["train", "test", "test"]})
    (tmp_path / "in").mkdir()
    table.to_csv(tmp_path / "in" / "metadata.csv", index=False)
    figures = describe_by_command(tmp_path, "--corpus", "folder", "--corpus_dir", str(tmp_path / "in"))
    assert figures["all"]["modalities"] == {"audio_text": 0, "audio_only": 0, "text_only": 3}
    assert figures["all"]["duration"] == {"n": 0} and figures["broken"] == [] and figures["speakers"] == []
    assert figures["shared"]["texts"] == [{"text": "one", "rows": {"train": 1, "test": 1}}]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([], 2, "corpus describe"),
        (["descibe"], 2, "corpus describe"),
        (["describe", "--corpus", "nowhere"], 1, "nowhere"),
        (["describe", "--corpus", "demo", "--feature_cache", "x"], 2, "feature_cache"),
    ],
)
def test_other_words_and_options_are_errors(words, code, says, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["corpus", *words])
    assert ended.value.code == code and says in capsys.readouterr().err


def test_help_is_no_error(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["corpus", "--help"])
    assert ended.value.code == 0 and "mmer corpus describe" in capsys.readouterr().out
