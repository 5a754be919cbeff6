"""Turns as diarization and speech recognition write them are read with their times, and what is no turn is refused."""

import json

import pandas as pd
import pytest

from modeling_mmer.scoring.turns import FIELDS, read_turns, turns_of


def turn(start, end, speaker=None, text=None, channel=None, file=None):
    return dict(zip(FIELDS, (start, end, speaker, text, channel, file), strict=True))


def written(tmp_path, name: str, content):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path


def approximately(turns):
    return [{**given, "start": pytest.approx(given["start"]), "end": pytest.approx(given["end"])} for given in turns]


RTTM = """\
;; made by hand
SPKR-INFO call 1 <NA> <NA> <NA> unknown Anna <NA> <NA>
SPEAKER call 1 2.500 1.250 <NA> <NA> Ben <NA> <NA>
SPEAKER call 1 0.000 2.750 <NA> <NA> Anna 0.93

"""


def test_rttm_is_sorted_and_its_only_channel_is_none(tmp_path):
    expected = [turn(0, 2.75, "Anna", file="call"), turn(2.5, 3.75, "Ben", file="call")]
    assert read_turns(written(tmp_path, "call.rttm", RTTM)) == expected


def test_rttm_with_several_channels_counts_them_from_zero(tmp_path):
    content = "SPEAKER a 1 0 1 <NA> <NA> x <NA> <NA>\nSPEAKER a 2 0.5 1 <NA> <NA> y <NA> <NA>\n"
    content += "SPEAKER b 1 0 1 <NA> <NA> x <NA> <NA>\n"
    turns = read_turns(written(tmp_path, "two.rttm", content))
    assert [(t["file"], t["channel"]) for t in turns] == [("a", 0), ("a", 1), ("b", None)]


def test_turns_of_several_recordings_go_to_their_own(tmp_path):
    content = "".join(f"SPEAKER {name} 1 {i} 1 <NA> <NA> x <NA> <NA>\n" for i, name in enumerate(("b", "a.wav", "b")))
    turns = read_turns(written(tmp_path, "two.rttm", content))
    assert [t["start"] for t in turns] == [0, 2, 1]
    assert [t["start"] for t in turns_of(turns, "calls/a.wav")] == [1]
    assert [t["start"] for t in turns_of(turns, "calls/b.flac")] == [0, 2]
    assert turns_of(turns, "calls/c.flac") == []
    dotted = [{"file": "2024.01.05-call"}, {"file": "2024.01.06-call.wav"}]
    assert [turns_of(dotted, f"2024.01.0{day}-call.flac") for day in (5, 6)] == [dotted[:1], dotted[1:]]


WORDS = [
    {"word": "Hello.", "start": 0.2, "end": 0.6, "speaker": "A"},
    {"word": "At", "start": 0.7, "end": 0.8, "speaker": "A"},
    {"word": "5?"},
    {"word": "Yes,", "start": 1.4, "end": 1.6, "speaker": "B"},
    {"word": "why?", "start": 1.6, "end": 2.0},
]


def test_a_segment_of_whisperx_is_divided_where_its_words_change_speaker(tmp_path):
    segment = {"start": 0.1, "end": 2.1, "text": " Hello. At 5? Yes, why?", "speaker": "A", "words": WORDS}
    one = {
        "start": 3.0,
        "end": 4.0,
        "text": " Good.",
        "words": [{"word": "Good.", "start": 3, "end": 4, "speaker": "B"}],
    }
    path = written(tmp_path, "call.json", {"segments": [one, segment], "word_segments": [], "language": "en"})
    expected = [turn(0.2, 0.8, "A", "Hello. At 5?"), turn(1.4, 2.0, "B", "Yes, why?"), turn(3, 4, "B", "Good.")]
    assert read_turns(path) == approximately(expected)


def test_words_that_cannot_be_placed_leave_the_segment_whole(tmp_path):
    words = [{"word": "a", "speaker": "A"}, {"word": "b", "start": 1, "end": 2, "speaker": "B"}]
    path = written(tmp_path, "call.json", {"segments": [{"start": 0, "end": 2, "text": "a b", "words": words}]})
    assert read_turns(path) == [turn(0, 2, "A", "a b")]


def test_funasr_counts_milliseconds(tmp_path):
    sentences = [
        {"text": "你好。", "start": 370, "end": 1510, "spk": 0},
        {"text": "嗯。", "start": 1510, "end": 2005, "spk": 1},
    ]
    expected = [turn(0.37, 1.51, "0", "你好。"), turn(1.51, 2.005, "1", "嗯。")]
    one = written(tmp_path, "a.json", [{"key": "call", "text": "你好。嗯。", "sentence_info": sentences}])
    assert read_turns(one) == approximately(expected)
    two = [{"key": name, "text": "", "sentence_info": sentences[:1]} for name in ("x", "y")]
    assert [t["file"] for t in read_turns(written(tmp_path, "b.json", two))] == ["x", "y"]
    served = {"code": 0, "result": {"sentence_info": sentences}}
    assert read_turns(written(tmp_path, "c.json", served)) == approximately(expected)


@pytest.mark.parametrize(
    "content",
    [
        {"diarization": [{"start": 0.5, "end": 1.5, "speaker": "S1"}], "exclusive_diarization": []},
        {"jobId": "1", "status": "succeeded", "output": {"diarization": [{"start": 0.5, "end": 1.5, "speaker": "S1"}]}},
        {"pyannote": "Annotation", "content": [{"segment": {"start": 0.5, "end": 1.5}, "track": "_", "label": "S1"}]},
        [{"start": 0.5, "end": 1.5, "speaker": "S1"}],
        {"text": "", "chunks": [{"timestamp": [0.5, 1.5], "speaker": "S1"}]},
    ],
    ids=["pyannote.audio", "pyannote's service", "Annotation", "a list", "transformers"],
)
def test_other_json(tmp_path, content):
    assert read_turns(written(tmp_path, "call.json", content)) == [turn(0.5, 1.5, "S1")]


def test_the_text_of_an_annotation(tmp_path):
    content = "[ 00:00:00.000 -->  00:00:01.500] _ SPEAKER_00\n[ 01:02:03.250 -->  01:02:04.000] x Anna B.\n"
    expected = [turn(0, 1.5, "SPEAKER_00"), turn(3723.25, 3724, "Anna B.")]
    assert read_turns(written(tmp_path, "call.txt", content)) == expected


def test_an_annotation_of_pyannote_itself(tmp_path):
    core = pytest.importorskip("pyannote.core", reason="needs pyannote.core, which writes what is read here")
    annotation = core.Annotation(uri="call")
    annotation[core.Segment(0, 1.5)], annotation[core.Segment(1, 2.25)] = "A", "B"
    for name, content in (("call.rttm", annotation.to_rttm()), ("call.txt", str(annotation))):
        turns = read_turns(written(tmp_path, name, content))
        assert [(t["start"], t["end"], t["speaker"]) for t in turns] == [(0, 1.5, "A"), (1, 2.25, "B")]


def test_tables(tmp_path):
    rows = {"Start": [1.5, 0], "End": [2, 1.25], "speaker": ["B", "A"], "text": ["no", None], "channel": [1, 0]}
    expected = [turn(0, 1.25, "A", None, 0), turn(1.5, 2, "B", "no", 1)]
    pd.DataFrame(rows).to_csv(tmp_path / "turns.csv", index=False)
    pd.DataFrame(rows).to_parquet(tmp_path / "turns.parquet")
    pd.DataFrame(rows).to_json(tmp_path / "turns.jsonl", orient="records", lines=True)
    for suffix in ("csv", "parquet", "jsonl"):
        assert read_turns(tmp_path / f"turns.{suffix}") == expected
    content = "file_name;begin_ms;end_ms;label\ncalls/a.wav;1500;2250;anger\ncalls/a.wav;0;1500;joy\n"
    expected = [turn(0, 1.5, file="calls/a.wav"), turn(1.5, 2.25, file="calls/a.wav")]
    assert read_turns(written(tmp_path, "ms.csv", content)) == approximately(expected)
    assert read_turns(written(tmp_path, "clock.csv", "start,end\n1:02:03.5,1:02:04\n")) == [turn(3723.5, 3724)]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.rttm", RTTM + "SPEAKER call 1 0.0 1.0\n", "a.rttm, line 6 is no line of RTTM"),
        ("a.rttm", "SPEAKER call 1 zero 1 <NA> <NA> A <NA> <NA>", "line 1: a time is 'zero'; write seconds"),
        ("a.rttm", "SPEAKER call 0 0 1 <NA> <NA> A <NA> <NA>", "line 1: there is no channel '0'"),
        ("a.rttm", ";; nothing\n", "a.rttm has no turn"),
        ("a.rttm", "SPEAKER call 1 3 0 <NA> <NA> A <NA> <NA>", "line 1: the turn starts at 3 s and ends at 3 s"),
        ("a.csv", "start,end\n0,1\n2,1\n", "a.csv, row 2: the turn starts at 2 s and ends at 1 s"),
        ("a.csv", "start,end\n0,\n", "a.csv, row 1: a time is missing"),
        ("a.csv", "start,end,channel\n0,1,left\n", "row 1: the channel is 'left'; write its number, from 0"),
        ("a.csv", "from,end\n0,1\n", "a.csv has no column start, only from, end"),
        ("a.txt", "[ 00:00:00.000 --> 00:00:01.500] _\n", "a.txt, line 1 is no turn of pyannote"),
        ("a.json", "{", "a.json is no JSON"),
        ("a.json", "{}", "a.json is '{}', and none with turns"),
        ("a.json", '{"text": ""}', "a.json has the keys text, and none with turns"),
        (
            "a.json",
            '{"segments": [{"start": 0, "end": 1}, {"start": -1, "end": 1}]}',
            "segments, turn 2: a time is '-1'",
        ),
        ("a.json", '{"segments": 3}', "segments is '3'; it has to be a list"),
        ("a.json", "[1]", "turn 1 is '1'; it has to be an object"),
        ("a.json", '{"chunks": [{"timestamp": [1], "text": ""}]}', "has the timestamp '[1]'; write [start, end]"),
        ("a.docx", "", "turns are not read from .docx; give RTTM"),
    ],
)
def test_what_is_no_turn_is_refused_with_its_place(tmp_path, name, content, said):
    with pytest.raises(ValueError) as caught:
        read_turns(written(tmp_path, name, content))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
