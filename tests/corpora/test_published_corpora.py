"""Loaders of published corpora, each on a tiny folder of the genuine layout with its known irregularities.

What is expected of each is written out by hand.
"""

import json
import os
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from modeling_mmer.corpora import CorpusError, load_corpora
from modeling_mmer.corpora.msp_podcast import read_votes

LABELS = ("neutral", "happiness", "sadness", "anger")


def record(path: Path, seconds: float = 0.1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(round(16000 * seconds), 0.1), 16000)
    return path


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def load(name: str, folder: Path | None = None, **options):
    return load_corpora(name, folder, **{"emotion_labels": LABELS, **options})


def rows_of(corpus) -> dict[str, dict]:
    return {row["utterance_id"]: row for rows in corpus.splits.values() for row in rows}


def said(corpus, *words: str) -> bool:
    """Whether one notice has all these words."""
    return any(all(word in notice for word in words) for notice in (*corpus.notices, *corpus.caveats))


# ── MSP-Podcast ─────────────────────────────────────────────────────────────────────────────────────────────────────

MSP_LABELS = """FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set
MSP-PODCAST_0001_0008.wav,N,2.2,4.0,5.0,127,Female,Train
MSP-PODCAST_0001_0019.wav,H,5.4,5.2,4.6,127,Female,Train
MSP-PODCAST_4515_0062_003.wav,A,6.0,2.0,6.2,Unknown,Unknown,Development
MSP-PODCAST_0003_0001.wav,X,3.0,3.0,3.0,12,Male,Test1
MSP-PODCAST_0003_0002.wav,S,2.0,9.5,2.0,12,Male,Test1
MSP-PODCAST_0004_0001.wav,C,4.0,2.9,5.0,15,Male,Test2
"""
MSP_PARTITIONS = """Train; MSP-PODCAST_0001_0008.wav
Train; MSP-PODCAST_0001_0019.wav
Test1; MSP-PODCAST_4515_0062_003.wav
this line is torn
Test1; MSP-PODCAST_0003_0001.wav
Test1; MSP-PODCAST_0003_0002.wav
Test2; MSP-PODCAST_0004_0001.wav
Test3; MSP-PODCAST_test3_0001.wav
"""
MSP_FILES = [line.split(";")[1].strip() for line in MSP_PARTITIONS.splitlines() if ";" in line]


@pytest.fixture
def msp(tmp_path) -> Path:
    put(tmp_path / "Labels/labels_consensus.csv", MSP_LABELS)
    put(tmp_path / "Partitions.txt", MSP_PARTITIONS)
    put(tmp_path / "Speaker_ids.txt", "MSP-PODCAST_test3_0001.wav; 99\nMSP-PODCAST_0001_0008.wav; 1\n")
    for name in (*MSP_FILES, "MSP-PODCAST_9999_0001.wav"):
        record(tmp_path / "Audios" / name)
    for name in MSP_FILES[:-2]:
        put(tmp_path / "Transcripts" / name.replace(".wav", ".txt"), f"words of {name}\n")
    return tmp_path


def test_msp_podcast(msp):
    corpus = load("msp_podcast", msp)
    assert {split: len(rows) for split, rows in corpus.splits.items()} == {
        "train": 2, "validation": 1, "test": 2, "test2": 1, "test3": 1,
    }  # fmt: skip
    assert corpus.label_scale == (1, 7)
    rows = rows_of(corpus)
    happy = rows["MSP-PODCAST_0001_0019"]
    assert (happy["emotion"], happy["arousal"], happy["valence"], happy["dominance"]) == ("happiness", 5.4, 5.2, 4.6)
    assert happy["text"] == "words of MSP-PODCAST_0001_0019.wav" and happy["speaker"] == "127"
    sentiments = {name[-9:]: row["sentiment"] for name, row in rows.items()}
    assert sentiments["0001_0008"] == "neutral" and sentiments["0001_0019"] == "positive"
    assert sentiments["4515_0062_003"[-9:]] == sentiments["0004_0001"] == "negative"
    assert rows["MSP-PODCAST_0003_0001"]["emotion"] is None  # no agreement among the listeners
    assert rows["MSP-PODCAST_0003_0001"]["valence"] == 3  # still serves the dimensions
    hidden = rows["MSP-PODCAST_test3_0001"]
    assert (hidden["text"], hidden["valence"], hidden["speaker"]) == (None, None, "99")


def test_msp_podcasts_irregularities_are_counted(msp):
    corpus = load("msp_podcast", msp)
    assert rows_of(corpus)["MSP-PODCAST_4515_0062_003"]["speaker"] is None
    assert rows_of(corpus)["MSP-PODCAST_0003_0002"]["valence"] is None  # 9.5 is beyond the scale
    for words in (
        ("no agreement (1)", "contempt (1)"),
        ("1 of 7 rows has an unknown speaker",),
        ("2 of 7 rows have no text",),
        ("1 line of Partitions.txt cannot be read", "this line is torn"),
        ("1 utterance has another split", "MSP-PODCAST_4515_0062_003.wav"),
        ("1 recording has no labels", "test3_0001"),
        ("1 recording is in no list", "MSP-PODCAST_9999_0001.wav"),
        ("1 value is not on the scale 1 to 7", "MSP-PODCAST_0003_0002: valence 9.5"),
    ):
        assert said(corpus, *words), (words, corpus.notices)


def test_capitals_in_names_of_published_recordings(msp, mosei, meld, ffmpeg):
    for file in (msp / "Audios").rglob("*.wav"):
        file.rename(file.with_suffix(".WAV"))
    put(msp / "Labels/labels_consensus.csv", MSP_LABELS.replace(".wav,H,", ".wav,h,"))
    corpus = load("msp_podcast", msp)
    assert rows_of(corpus)["MSP-PODCAST_test3_0001"]["audio"].endswith("_0001.WAV") and "test3" in corpus.splits
    assert rows_of(corpus)["MSP-PODCAST_0001_0019"]["emotion"] == "happiness"
    put_csv(mosei)
    for file in (mosei / "Audio/Full/WAV_16000").iterdir():
        file.rename(file.with_suffix(".WAV"))
    assert any(row["audio"] for row in rows_of(load("cmu_mosei", mosei)).values())
    put(meld / "train_splits/dia0_utt0.MP4", "clip")
    assert [row["audio"] for row in load("meld", meld).splits["train"]][0].endswith("train_dia0_utt0.flac")


def test_crema_d_in_small_letters(tmp_path):
    for name in ("1001_dfa_ang_xx.wav", "1002_DFA_HAP_XX.WAV", "1003_ieo_sad_hi.wav"):
        record(tmp_path / "AudioWAV" / name)
    assert {row["emotion"] for row in rows_of(load("crema_d", tmp_path)).values()} == {"anger", "happiness", "sadness"}


def test_older_releases_of_msp_podcast_spell_it_otherwise(msp, tmp_path):
    expected = rows_of(load("msp_podcast", msp))
    lines = [line.split(",") for line in MSP_LABELS.splitlines()]
    keyed = {line[0]: dict(zip(lines[0][1:], line[1:], strict=True)) for line in lines[1:]}
    put(msp / "Labels/labels_concensus.json", json.dumps(keyed))
    (msp / "Labels/labels_consensus.csv").unlink()
    (msp / "Audios").rename(msp / "Audio")
    (msp / "Partitions.txt").rename(msp / "Partition.txt")
    for row in expected.values():
        row["audio"] = row["audio"].replace("/Audios/", "/Audio/")
    assert rows_of(load("msp_podcast", msp)) == expected


VOTES = {  # as releases 2.0, 1.6 and 1.7 to 1.12 have them
    "2.0.csv": """FileName,WorkerID,EmoClass_Major,EmoClass_Second,EmoAct,EmoVal,EmoDom
MSP-PODCAST_0001_0008.wav,WORKER0000001,Neutral,"Neutral,Concerned",2,4,5
MSP-PODCAST_0001_0008.wav,WORKER0000002,Sad,Sad,2,3,5
MSP-PODCAST_0001_0019.wav,WORKER0000001,Happy,Happy,5,5,5
""",
    "1.6.csv": """FileName,Workers,EmoClass_Major,EmoClass_Second,EmoAct,EmoVal,EmoDom
MSP-PODCAST_0001_0008.wav,WORKER0000001,Neutral,"Neutral,Concerned",2,4,5
MSP-PODCAST_0001_0008.wav,WORKER0000002,Sad,Sad,2,3,5
MSP-PODCAST_0001_0019.wav,WORKER0000001,Happy,Happy,5,5,5
""",
    "1.11.csv": """FileName,EmoDetail
MSP-PODCAST_0001_0008.wav,"WORKER0000001; Neutral; Neutral,Concerned; A:2.0; V:4.0; D:5.0;"
MSP-PODCAST_0001_0008.wav,WORKER0000002; Sad; Sad; A:2.0; V:3.0; D:5.0;
MSP-PODCAST_0001_0019.wav,WORKER0000001; Happy; Happy; A:5.0; V:5.0; D:5.0;
""",
    "1.11.json": json.dumps(
        {
            "MSP-PODCAST_0001_0008.wav": {
                "WORKER0000001": {"EmoClass_Major": "Neutral", "EmoAct": "2"},
                "WORKER0000002": {"EmoClass_Major": "Sad", "EmoAct": "2"},
            },
            "MSP-PODCAST_0001_0019.wav": {"WORKER0000001": {"EmoClass_Major": "Happy", "EmoAct": "5"}},
        }
    ),
}


@pytest.mark.parametrize("release", VOTES)
def test_single_votes_of_msp_podcast_are_read_where_they_lie(msp, release):
    file = put(msp / f"Labels/labels_detailed.{release.rpartition('.')[2]}", VOTES[release])
    votes = read_votes(file)
    assert list(zip(votes["file"], votes["worker"], votes["emotion"], strict=True)) == [
        ("MSP-PODCAST_0001_0008.wav", "WORKER0000001", "Neutral"),
        ("MSP-PODCAST_0001_0008.wav", "WORKER0000002", "Sad"),
        ("MSP-PODCAST_0001_0019.wav", "WORKER0000001", "Happy"),
    ]
    assert said(load("msp_podcast", msp), "3 single votes on 2 utterances")


def test_votes_of_msp_podcast_in_another_form_are_refused(msp):
    put(msp / "Labels/labels_detailed.csv", "FileName,Votes\nMSP-PODCAST_0001_0008.wav,N N S\n")
    with pytest.raises(CorpusError, match="labels_detailed.csv has the votes in no form.*FileName, Votes"):
        load("msp_podcast", msp)


def test_msp_podcast_2_as_it_is_unpacked(msp):
    """Archives in folders of their own, a label without a recording, and Test3 in no list."""
    labels = MSP_LABELS + "MSP-PODCAST_1909_1017.wav,H,5.0,5.0,5.0,40,Male,Train\n"
    put(msp / "Labels/Labels/labels_consensus.csv", labels)
    (msp / "Labels/labels_consensus.csv").unlink()
    put(msp / "Partitions.txt", MSP_PARTITIONS.replace("Test3; MSP-PODCAST_test3_0001.wav\n", ""))
    for folder in ("Audios", "Transcripts"):
        (msp / folder).rename(msp / "inner")
        (msp / folder).mkdir()
        (msp / "inner").rename(msp / folder / folder)
    corpus = load("msp_podcast", msp)
    assert {split: len(rows) for split, rows in corpus.splits.items()} == {
        "train": 2, "validation": 1, "test": 2, "test2": 1, "test3": 1,
    }  # fmt: skip
    assert corpus.splits["test3"]["utterance_id"][:] == ["MSP-PODCAST_test3_0001"]
    assert corpus.splits["train"]["text"][0] == "words of MSP-PODCAST_0001_0008.wav"
    assert said(corpus, "1 label is of recordings that the release lacks", "MSP-PODCAST_1909_1017.wav")


def test_splits_of_msp_podcast_without_a_column_come_from_the_partitions(msp):
    table = "\n".join(line.rpartition(",")[0] for line in MSP_LABELS.splitlines())
    put(msp / "Labels/labels_consensus.csv", table)
    assert len(load("msp_podcast", msp).splits["test"]) == 3


def test_a_folder_of_another_layout_says_what_was_looked_for(tmp_path):
    with pytest.raises(CorpusError, match="labels_consensus.csv or .*labels_concensus.json"):
        load("msp_podcast", tmp_path)
    with pytest.raises(CorpusError, match="looked for Session1"):
        load("iemocap", tmp_path, fold=1)
    with pytest.raises(CorpusError, match="looked for AudioWAV"):
        load("crema_d", tmp_path)
    with pytest.raises(CorpusError, match="looked for Actor_NN"):
        load("ravdess", tmp_path)
    with pytest.raises(CorpusError, match="looked for train_sent_emo.csv"):
        load("meld", tmp_path)
    with pytest.raises(CorpusError, match="looked for Transcript/Segmented/Combined"):
        load("cmu_mosei", tmp_path)


# ── CREMA-D and RAVDESS ─────────────────────────────────────────────────────────────────────────────────────────────


def test_crema_d(tmp_path):
    actors = [f"{1001 + i}" for i in range(12)]
    for actor in actors:
        record(tmp_path / "AudioWAV" / f"{actor}_IEO_ANG_HI.wav")
        record(tmp_path / "AudioWAV" / f"{actor}_TSI_FEA_XX.wav")
    record(tmp_path / "AudioWAV" / "1001_ITH_SAD_X.wav")  # the release has one of this level
    record(tmp_path / "AudioWAV" / "copy of 1001.wav")
    corpus = load("crema_d", tmp_path)
    rows = rows_of(corpus)
    assert len(rows) == 25
    angry = rows["1003_IEO_ANG_HI"]
    assert (angry["emotion"], angry["text"], angry["speaker"]) == ("anger", "It's eleven o'clock.", "1003")
    assert rows["1001_TSI_FEA_XX"]["emotion"] is None and rows["1001_ITH_SAD_X"]["emotion"] == "sadness"
    speakers = {split: set(part["speaker"]) for split, part in corpus.splits.items()}
    assert speakers == {"train": set(actors[:8]), "validation": set(actors[8:10]), "test": set(actors[10:])}
    assert said(corpus, "1 file has", "copy of 1001.wav") and said(corpus, "fear (12)")


def test_ravdess(tmp_path):
    for actor in range(1, 7):
        for emotion in ("01", "02", "05"):
            record(tmp_path / f"Actor_{actor:02d}" / f"03-01-{emotion}-01-02-01-{actor:02d}.wav")
    record(tmp_path / "Actor_01" / "03-02-05-01-01-01-01.wav")  # sung
    record(tmp_path / "Actor_01" / "notes.wav")
    record(tmp_path / "audio_speech_actors_01-24" / "Actor_01" / "03-01-05-01-02-01-01.wav")  # as one mirror has it
    corpus = load("ravdess", tmp_path, label_map={"calm": "neutral"})
    rows = rows_of(corpus)
    assert len(rows) == 18
    calm, angry = rows["03-01-02-01-02-01-04"], rows["03-01-05-01-02-01-04"]
    assert (calm["emotion"], angry["emotion"]) == ("neutral", "anger")
    assert angry["text"] == "Dogs are sitting by the door." and angry["speaker"] == "04"
    assert {s: sorted(set(part["speaker"])) for s, part in corpus.splits.items()} == {
        "train": ["01", "02", "03", "04"], "validation": ["05"], "test": ["06"],
    }  # fmt: skip
    for words in (
        ("1 recording of song",),
        ("1 recording with another name",),
        ("1 recording lies", "more than once"),
    ):
        assert said(corpus, *words), (words, corpus.notices)


# ── MELD ────────────────────────────────────────────────────────────────────────────────────────────────────────────

MELD_HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n"
TIMES = '8,21,"00:16:16,059","00:16:21,731"\n'


@pytest.fixture
def meld(tmp_path) -> Path:
    line = '1,"I don\x92t know, really.",Chandler,joy,positive,0,{},' + TIMES
    for split in ("train", "dev", "test"):
        put(tmp_path / f"{split}_sent_emo.csv", MELD_HEADER + line.format(0) + line.format(1))
    return tmp_path


@pytest.fixture
def ffmpeg(tmp_path, monkeypatch) -> Path:
    """A stand-in that writes a tenth of a second, and fails on clips that say they are corrupt; it logs its calls."""
    folder = tmp_path / "bin"
    script = put(
        folder / "ffmpeg",
        f"#!{sys.executable}\nimport sys, pathlib, numpy, soundfile\n"
        "clip, out = sys.argv[sys.argv.index('-i') + 1], sys.argv[-1]\n"
        f"open({str(folder / 'calls')!r}, 'a').write(clip + '\\n')\n"
        "if pathlib.Path(clip).read_text() == 'corrupt': sys.exit('Invalid data')\n"
        "assert sys.argv[sys.argv.index('-ar') + 1] == '16000' and sys.argv[sys.argv.index('-ac') + 1] == '1'\n"
        "soundfile.write(out, numpy.full(1600, 0.1), 16000, format=sys.argv[sys.argv.index('-f') + 1])\n",
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder / "calls"


def test_meld_without_clips_is_text_only(meld):
    corpus = load("meld", meld)
    row = rows_of(corpus)["dev_dia0_utt1"]
    assert (row["text"], row["emotion"], row["sentiment"]) == ("I don’t know, really.", "happiness", "positive")
    assert row["speaker"] == "Chandler" and row["audio"] is None and row["split"] == "validation"
    assert said(corpus, "no clips", "text only")


def test_meld_takes_audio_out_of_its_clips_once(meld, ffmpeg):
    put(meld / "train_splits/dia0_utt0.mp4", "fine")
    put(meld / "train_splits/dia0_utt1.mp4", "corrupt")
    put(meld / "dev_splits_complete/dia0_utt0.mp4", "fine")
    put(meld / "output_repeated_splits_test/dia0_utt0.mp4", "fine")
    put(meld / "output_repeated_splits_test/final_videos_testdia0_utt1.mp4", "another clip")
    corpus = load("meld", meld)
    heard = {name for name, row in rows_of(corpus).items() if row["audio"]}
    assert heard == {"train_dia0_utt0", "dev_dia0_utt0", "test_dia0_utt0"}
    assert rows_of(corpus)["train_dia0_utt0"]["duration"] == pytest.approx(0.1)
    assert said(corpus, "1 clip cannot be decoded", "dia0_utt1.mp4") and said(corpus, "2 rows have no clip")
    before = ffmpeg.read_text().splitlines()
    load("meld", meld)
    again = ffmpeg.read_text().splitlines()[len(before) :]
    assert [Path(clip).name for clip in again] == ["dia0_utt1.mp4"]  # only the one that failed
    assert not [path for path in (meld / "audio_16khz").iterdir() if path.name.startswith(".")]


def test_meld_without_ffmpeg_says_so(meld, monkeypatch):
    put(meld / "train_splits/dia0_utt0.mp4", "fine")
    monkeypatch.setenv("PATH", "")
    corpus = load("meld", meld)
    assert not any(row["audio"] for row in rows_of(corpus).values())
    assert said(corpus, "ffmpeg is not installed", "1 clip cannot be heard")


# ── CMU-MOSEI ───────────────────────────────────────────────────────────────────────────────────────────────────────

MOSEI = {  # video → (start, end, text, sentiment and the six emotions in the order of the published file)
    "aBc-1": [(0.0, 1.5, "I love it", 2.0, 1.0, 0, 0, 0, 0, 0), (1.5, 2.0, "or not", -1.0, 0, 0.67, 0.67, 0, 0, 0)],
    "d_2": [(7.25, 9.0, "well", 0.0, 0, 0, 0, 0, 0, 0)],
    "e__3": [(0.4, 1.0, "awful", -2.0, 0, 0, 1.0, 0, 0.3, 0)],
}


@pytest.fixture
def mosei(tmp_path) -> Path:
    for video, segments in MOSEI.items():
        lines = [f"{video}___{i}___{s[0]}___{s[1]}___{s[2]}" for i, s in enumerate(segments)]
        put(tmp_path / f"Transcript/Segmented/Combined/{video}.txt", "\n".join(lines))
    put(tmp_path / "Transcript/Segmented/Combined/f.txt", "f___0___0.0___1.0___nobody rated this\nno line of this kind")
    record(tmp_path / "Audio/Full/WAV_16000/aBc-1.wav", seconds=2)
    return tmp_path


def put_csv(folder: Path) -> None:
    lines = ["video,start,end,sentiment,happy,sad,anger,surprise,disgust,fear"]
    lines += [",".join(map(str, (video, s[0], s[1], *s[3:]))) for video, of in MOSEI.items() for s in of]
    put(folder / "CMU_MOSEI_Labels.csv", "\n".join([*lines, "gone,0.0,1.0,1,0,0,0,0,0,0"]))


def put_csd(folder: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="the published labels are HDF5")
    with h5py.File(folder / "CMU_MOSEI_Labels.csd", "w") as file:
        for video, segments in {**MOSEI, "gone": [(0.0, 1.0, "", 1, 0, 0, 0, 0, 0, 0)]}.items():
            file[f"All Labels/data/{video}/features"] = np.array([s[3:] for s in segments], dtype=np.float32)
            file[f"All Labels/data/{video}/intervals"] = np.array([s[:2] for s in segments], dtype=np.float32)


@pytest.mark.parametrize("put_labels", [put_csv, put_csd])
def test_cmu_mosei(mosei, put_labels):
    put_labels(mosei)
    corpus = load("cmu_mosei", mosei)
    rows = rows_of(corpus)
    assert corpus.label_scale == (-3, 3)
    assert {name: (row["emotion"], row["valence"], row["sentiment"]) for name, row in rows.items()} == {
        "aBc-1_0": ("happiness", 2, "positive"),
        "aBc-1_1": (None, -1, "neutral"),  # as sad as angry; -1 is at the threshold
        "d_2_0": ("neutral", 0, "neutral"),
        "e__3_0": ("anger", -2, "negative"),
    }
    second = rows["aBc-1_1"]  # a span of the video's recording
    assert (second["start"], second["end"], second["text"]) == (1.5, 2.0, "or not")
    assert second["audio"] == str(mosei / "Audio/Full/WAV_16000/aBc-1.wav") and second["duration"] == pytest.approx(0.5)
    for words in (
        ("1 line cannot be read", "no line of this kind"),
        ("1 transcript has no label", "f@0.0"),
        ("1 label has no transcript", "gone@0.0"),
        ("1 segment has two strongest emotions",),
        ("2 segments have no recording", "d_2_0"),
        ("split by video",),
    ):
        assert said(corpus, *words), (words, corpus.notices)


def test_segments_of_cmu_mosei_end_with_their_recording(mosei):
    put_csv(mosei)
    record(mosei / "Audio/Full/WAV_16000/aBc-1.wav", seconds=1.25)
    corpus = load("cmu_mosei", mosei)
    first, second = (rows_of(corpus)[name] for name in ("aBc-1_0", "aBc-1_1"))
    assert (first["end"], first["duration"]) == (1.25, 1.25) and said(corpus, "1 segment ends after", "aBc-1_0")
    assert second["audio"] is None and second["start"] is None and said(corpus, "no recording", "aBc-1_1")


def test_cmu_mosei_has_its_official_folds_where_they_are_listed(mosei):
    put_csv(mosei)
    for name, videos in {"train": "d_2", "validation": "e__3", "test": "aBc-1"}.items():
        put(mosei / f"{name}.txt", f"{videos}\nnot_here_{name}\n")
    of_split = {split: sorted(part["utterance_id"]) for split, part in load("cmu_mosei", mosei).splits.items()}
    assert of_split == {"train": ["d_2_0"], "validation": ["e__3_0"], "test": ["aBc-1_0", "aBc-1_1"]}


def test_cmu_mosei_leaves_out_and_counts_videos_of_no_fold(mosei):
    put_csv(mosei)
    for name, video in {"train": "d_2", "validation": "e__3", "test": "x"}.items():
        put(mosei / f"{name}.txt", f"{video}\n")
    corpus = load("cmu_mosei", mosei)
    assert sorted(rows_of(corpus)) == ["d_2_0", "e__3_0"]
    assert said(corpus, "1 video is in none of", "not read (aBc-1)")


def test_cmu_mosei_joins_the_nearest_start(tmp_path):
    starts = [(0.05, 0.049), (1.25, 1.2501), (2.449, 2.451), (5.0, 5.3), (7.0, 7.2), (7.3, 7.2)]  # transcript, label
    lines = [f"v___{i}___{start}___{start + 0.2}___text {i}" for i, (start, _) in enumerate(starts)]
    put(tmp_path / "Transcript/Segmented/Combined/v.txt", "\n".join([*lines, "v___9___9.0___9.5___b'it\\'s dull'"]))
    labels = [f"v,{start},{i % 3},1,0,0,0,0,0" for i, (_, start) in enumerate(starts[:-1])]
    header = "video,start,sentiment,happy,sad,anger,surprise,disgust,fear"
    put(tmp_path / "CMU_MOSEI_Labels.csv", "\n".join([header, *labels, "v,9.0,2,1,0,0,0,0,0"]))
    corpus = load("cmu_mosei", tmp_path)
    rows = rows_of(corpus)
    assert {name: row["valence"] for name, row in rows.items()} == {"v_0": 0, "v_1": 1, "v_2": 2, "v_5": 1, "v_9": 2}
    assert rows["v_9"]["text"] == "it's dull"
    assert said(corpus, "2 transcripts have no label", "v@5.0, v@7.0") and said(corpus, "1 label has no", "v@5.3")


# ── several at once ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_options_for_one_corpus_among_several(tmp_path, msp):
    own = tmp_path / "mine"
    put(own / "metadata.csv", "text,label,valence,split\nwell,calm,0.5,train\n")
    second = tmp_path / "other"
    put(second / "metadata.csv", "text,label,valence,split\noh,calm,3,test\n")
    corpus = load_corpora(
        ["msp_podcast", "folder", "folder"],
        [msp, own, second],
        emotion_labels=LABELS,
        label_map={"mine:calm": "neutral", "other:calm": "sad"},
        label_scale=(0, 1, 1, 5),
    )
    assert corpus.name == "msp_podcast+mine+other" and corpus.label_scale == (1, 7)
    rows = rows_of(corpus)
    assert (rows["mine/row_00001"]["emotion"], rows["mine/row_00001"]["valence"]) == ("neutral", 4)
    assert (rows["other/row_00001"]["emotion"], rows["other/row_00001"]["valence"]) == ("sadness", 4)
    with pytest.raises(CorpusError, match="no corpus 'yours' among"):
        load_corpora("folder", own, emotion_labels=LABELS, label_map={"yours:calm": "neutral"})
    with pytest.raises(CorpusError, match="once or for each of 2"):
        load_corpora(["folder"] * 2, [own, second], emotion_labels=LABELS, label_scale=(0, 1, 1, 5, 2, 3))


def test_published_corpora_take_no_columns(msp):
    with pytest.raises(CorpusError, match="no effect on msp_podcast"):
        load("msp_podcast", msp, column_map={"text": "words"})
