"""Common names of emotions, and the label requirements of training and evaluation."""

from pathlib import Path

import pandas as pd
import pytest

from modeling_mmer.commands.train import main as train
from modeling_mmer.corpora import CorpusError, load_corpora
from modeling_mmer.corpora.requirements import require_judgeable, require_trainable
from modeling_mmer.corpora.sharing import note_shared

LABELS = ("neutral", "happiness", "sadness", "anger")
SIX = (*LABELS, "fear", "surprise")


def corpus_of(folder: Path, emotions, labels=LABELS, column="emotion", **options):
    """Every emotion once in train, once in validation and once in test."""
    rows = [(f"row {i} of {split}", e, split) for split in ("train", "dev", "test") for i, e in enumerate(emotions)]
    folder.mkdir(exist_ok=True, parents=True)
    pd.DataFrame(rows, columns=["text", column, "split"]).to_csv(folder / "metadata.csv", index=False)
    return load_corpora("folder", folder, emotion_labels=labels, **options)


def read(tmp_path, emotions, labels=LABELS, **options) -> list[str | None]:
    return list(corpus_of(tmp_path, emotions, labels, **options).splits["train"]["emotion"])


# ── names ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("emotions", "labels", "expected"),
    [
        (["neu", "hap", "sad", "ang"], LABELS, list(LABELS)),
        (["NEU", "Hap", "SAD", "Ang"], LABELS, list(LABELS)),
        (["neutral", "happy", "sadness", "angry"], ("neu", "joy", "sad", "ang"), ["neu", "joy", "sad", "ang"]),
        (["neutral", "joyful", "fearful", "surprised"], SIX, ["neutral", "happiness", "fear", "surprise"]),
        (["fea", "sur", "pleasant_surprise", "AFRAID"], SIX, ["fear", "surprise", "surprise", "fear"]),
        (["disgusted", "dis", "contemptuous", "con"], ("disgust", "contempt"), ["disgust"] * 2 + ["contempt"] * 2),
        (["frustrated", "fru", "exc"], ("frustration", "excitement"), ["frustration", "frustration", "excitement"]),
        (["calm", "neutral"], LABELS, [None, "neutral"]),
        (["calm", "neutral"], ("calm", "neutral"), ["calm", "neutral"]),
        (["N", "H", "S", "A", "X"], LABELS, [*LABELS, None]),
        (["n", "h", "s", "a"], ("N", "H", "S", "A"), ["N", "H", "S", "A"]),
        (["neutral", "happiness", "sadness", "anger"], ("N", "H", "S", "A"), ["N", "H", "S", "A"]),
        (["a", "d", "f", "h", "sa", "su"], SIX, ["anger", None, "fear", "happiness", "sadness", "surprise"]),
        (["W", "L", "E", "A", "F", "T", "N"], LABELS, [None] * 7),  # EmoDB, whose A is Angst
        (["A", "F", "N"], LABELS, [None] * 3),  # of either scheme
        (["A", "sad"], LABELS, [None, "sadness"]),  # a letter among words says nothing
        (["0", "1", "2", "3"], LABELS, [None] * 4),
    ],
)  # fmt: skip
def test_spellings_of_the_field(tmp_path, emotions, labels, expected):
    assert read(tmp_path, emotions, labels) == expected


def test_letters_are_told(tmp_path):
    corpus = corpus_of(tmp_path, ["N", "H", "S", "A"])
    assert "letters were read as emotions: A = anger, H = happiness, N = neutral, S = sadness" in corpus.caveats


def test_a_name_may_be_mapped_to_nothing_and_hold_a_colon(tmp_path):
    label_map = {"mood:low": "sad", "amused": "", "odd": "ang"}
    corpus = corpus_of(tmp_path, ["mood:low", "amused", "odd"], label_map=label_map)
    assert list(corpus.splits["train"]["emotion"]) == ["sadness", None, "anger"]
    assert not any("not understood" in caveat or "do not occur" in caveat for caveat in corpus.caveats)
    with pytest.raises(CorpusError, match="mood:high: there is no corpus 'mood' among"):
        corpus_of(tmp_path, ["sad"], label_map={"mood:high": "sad"})


def test_two_folders_of_one_name_are_told_apart(tmp_path):
    folders = [tmp_path / "x" / "data", tmp_path / "y" / "data"]
    for folder in folders:
        corpus_of(folder, ["calm", "sad"])
    for name, second in (("y/data", 1), ("data-2", 1), ("x/data", 0), (str(folders[0]), 0)):
        label_map = {f"{name}:calm": "neutral"}
        corpus = load_corpora(["folder"] * 2, folders, emotion_labels=LABELS, label_map=label_map)
        emotions = dict(zip(corpus.splits["train"]["utterance_id"], corpus.splits["train"]["emotion"], strict=True))
        expected = ["neutral", None] if second == 0 else [None, "neutral"]
        assert [emotions["data/row_00001"], emotions["data-2/row_00001"]] == expected, name


# ── what is asked for before any work ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("emotions", "words"),
    [
        (["neutral", "freude", "trauer", "wut"], ["1 of 4", "freude (1)", "freude=CLASS", "--emotion_labels"]),
        (["0", "1", "2", "3"], ["0 of 4", "--label_map 0=CLASS 1=CLASS 2=CLASS 3=CLASS", "--column_map emotion="]),
        (["neutrall", "hapiness", "sadnes", "sad"], ["neutrall=neutral", "hapiness=happiness", "sadnes=sadness"]),
        (["01", "02"], ["01=CLASS 02=CLASS"]),
    ],
)
def test_names_that_are_not_understood_stop_with_the_option_that_maps_them(tmp_path, emotions, words):
    corpus = corpus_of(tmp_path, emotions)
    for check in (require_trainable, lambda corpus, labels: require_judgeable(corpus, "test", labels)):
        with pytest.raises(CorpusError) as error:
            check(corpus, LABELS)
        assert all(word in str(error.value) for word in words), str(error.value)


def test_few_names_that_are_not_understood_are_a_caveat(tmp_path):
    corpus = corpus_of(tmp_path, [*LABELS, "wut", "calm"])
    require_trainable(corpus, LABELS)
    (caveat,) = [caveat for caveat in corpus.caveats if "count as unlabelled" in caveat]
    assert "wut (3), calm (3); not understood: wut (3)" in caveat


def test_emotions_that_a_model_does_not_have_are_no_reason_to_stop(tmp_path):
    corpus = corpus_of(tmp_path, [*LABELS, "fear", "fearful", "disgust", "surprise", "calm"])
    assert require_trainable(corpus, LABELS) is None


def test_a_class_that_training_never_sees_stops(tmp_path):
    corpus = corpus_of(tmp_path, ["neutral", "sad", "calm"])
    with pytest.raises(CorpusError) as error:
        require_trainable(corpus, LABELS)
    assert "no row of happiness and of anger" in str(error.value)
    assert "--emotion_labels neutral sadness" in str(error.value) and "--label_map calm=happiness" in str(error.value)
    require_trainable(corpus_of(tmp_path, ["neutral", "sad", "calm"], ("neutral", "sad")), ("neutral", "sad"))


def test_no_labels_at_all_stop_and_name_the_column_that_may_have_them(tmp_path):
    corpus = corpus_of(tmp_path, ["ang", "neu", "sad", "hap"], column="affect")
    for check in (require_trainable, lambda corpus, labels: require_judgeable(corpus, "test", labels)):
        with pytest.raises(CorpusError, match=r"No labels found in .* map them with --column_map emotion=affect"):
            check(corpus, LABELS)
    require_trainable(corpus_of(tmp_path, LABELS, column="affect", column_map={"emotion": "affect"}), LABELS)


def test_a_validation_split_without_labels_stops(tmp_path):
    table = pd.DataFrame(
        {"text": list("abcdef"), "emotion": [*LABELS, None, None], "split": ["train"] * 4 + ["dev"] * 2}
    )
    table.to_csv(tmp_path / "metadata.csv", index=False)
    with pytest.raises(CorpusError, match="No labels found in .*, validation"):
        require_trainable(load_corpora("folder", tmp_path, emotion_labels=LABELS), LABELS)


def test_dimensions_alone_are_labels(tmp_path):
    table = pd.DataFrame({"text": list("abcd"), "valence": [1, 2, 6, 7], "split": ["train", "train", "dev", "dev"]})
    table.to_csv(tmp_path / "metadata.csv", index=False)
    corpus = load_corpora("folder", tmp_path, emotion_labels=LABELS)
    assert require_trainable(corpus, LABELS) is None
    assert set(corpus.splits["train"]["emotion"]) == {None}  # they are all there is


def test_a_missing_split_names_the_column_that_looks_like_one(tmp_path):
    table = pd.DataFrame({"text": list("abcd"), "emotion": LABELS, "part": ["train", "train", "dev", "test"]})
    table.to_csv(tmp_path / "metadata.csv", index=False)
    with pytest.raises(CorpusError, match=r"no train and no validation split .*--column_map split=part reads one"):
        require_trainable(load_corpora("folder", tmp_path, emotion_labels=LABELS), LABELS)


def test_the_commands_stop_before_any_recording_is_read(tmp_path, monkeypatch, capsys):
    corpus_of(tmp_path / "mine", ["ang", "neu"], column="affect")
    monkeypatch.setattr("modeling_mmer.training.checking.read_all", lambda sources: pytest.fail("work was done"))
    monkeypatch.setattr("modeling_mmer.commands.train.encoder_commits", lambda names, overrides: {})  # of the hub
    options = ["--corpus", "folder", "--corpus_dir", str(tmp_path / "mine"), "--output_dir", str(tmp_path / "run")]
    with pytest.raises(SystemExit):
        train(options)
    assert "--column_map emotion=affect" in capsys.readouterr().err


# ── what splits share ───────────────────────────────────────────────────────────────────────────────────────────────


def test_texts_shared_between_corpora_are_said(tmp_path):
    for name, split in (("one", "train"), ("two", "test")):
        (tmp_path / name).mkdir()
        table = pd.DataFrame({"text": ["So it is", name], "emotion": "sad", "speaker": ["s1", name], "split": split})
        table.to_csv(tmp_path / name / "metadata.csv", index=False)
    corpus = load_corpora(["folder"] * 2, [tmp_path / "one", tmp_path / "two"], emotion_labels=LABELS)
    (caveat,) = [caveat for caveat in corpus.caveats if "in more than one split" in caveat]
    assert caveat.startswith("1 text is in more than one split") and "So it is" in caveat
    assert any(n.endswith("held out in another: s1") for n in corpus.notices)
    assert note_shared(corpus) == corpus  # said once, however often it is asked
