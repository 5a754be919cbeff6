"""What the terminal shows of one recording: letters and blocks at the right places, and a table that fits."""

import pytest

from modeling_mmer.scoring.drawing import clock, columns_of, draw_table, draw_timeline, shortened


def row(start, end, speaker="ANN", emotion="anger", score=0.9, **others):
    given = {"audio": "call.wav", "start": start, "end": end, "speaker": speaker, "text": None, "speech": True}
    return given | {"emotion": emotion, "emotion_score": score, "modalities": ["audio"], "error": None} | others


def test_each_speaker_has_letters_and_blocks_over_time():
    rows = [
        row(0, 10, "ANN", "anger", 1.0),
        row(10, 20, "BEN", "amusement", 0.0),
        row(20, 25, "ANN", "neutral", 0.5),
        row(25, 30, "BEN", None, None, speech=False),
        row(30, 35, "BEN", None, None, error="broken"),
        row(35, 40, "ANN", "neutral", None),
    ]
    assert draw_timeline(rows, 45).splitlines() == [
        "ANN  AAAAAAAAAA          NNNNN          NNNNN",
        "     ██████████          ▅▅▅▅▅",
        "BEN            MMMMMMMMMM     ·····!!!!!",
        "               ▁▁▁▁▁▁▁▁▁▁",
        "     ┴─────────┴─────────┴─────────┴─────────",
        "     0:00      0:10      0:20      0:30",
        "",
        "A anger 25 %   M amusement 25 %",
        "N neutral 25 %   · no speech 12 %",
        "! not read 12 %   ▁ to █ score 0 to 1",
    ]


@pytest.mark.parametrize("width", [20, 60, 140])
def test_no_line_is_wider_than_the_terminal(width):
    rows = [
        row(i, i + 1.5, name, emotion) for i, (name, emotion) in enumerate((("A" * 40, "joy"), ("怒り", "悲しみ")) * 50)
    ]
    lines = draw_timeline(rows, width).splitlines()
    assert max(map(columns_of, lines)) <= max(width, 26)
    assert lines[2].startswith("怒り ")
    assert any("悲しみ" in line for line in lines)


def test_a_column_shows_what_fills_most_of_it():
    rows = [row(i, i + 1, emotion="joy" if i % 10 else "fear") for i in range(1000)]
    assert set(draw_timeline(rows, 60).splitlines()[0].removeprefix("ANN  ")) == {"J"}
    rows = [row(i, i + 1, emotion="joy" if i < 500 else "fear") for i in range(1000)]
    assert draw_timeline(rows, 65).splitlines()[0] == "ANN  " + "J" * 30 + "F" * 30


def test_more_emotions_than_letters():
    rows = [row(i, i + 1, emotion=f"aa{'a' * i}") for i in range(30)]
    legend = draw_timeline(rows, 80)
    assert "A aa " in legend and "B aaa " in legend and legend.count("?") >= 4


def test_one_row_and_none():
    assert draw_timeline([row(None, None, None, seconds=2.0)], 30).splitlines()[0] == "emotion  " + "A" * 21
    assert draw_timeline([row(None, None)], 30) == "Nothing to draw: no row has times."
    assert draw_timeline([], 30) == "Nothing to draw: no row has times."
    assert draw_table([], 30) == "No rows."


def test_the_table_shows_times_scores_and_why_there_is_no_emotion():
    rows = [
        row(0, 2.25, text="I have been\nwaiting for two weeks, and nobody calls me back", valence=1.25, arousal=4.0),
        row(3, 64.5, "BEN", None, None, speech=False, valence=float("nan")),
        row(3600, 3601, "BEN", None, None, error="broken.wav cannot be read"),
    ]
    assert draw_table(rows, 80).splitlines() == [
        "time                   speaker  emotion   score  val  aro  text",
        "0:00.0 – 0:02.2        ANN      anger    0.90 █  1.2  4.0  I have been waiting …",
        "0:03.0 – 1:04.5        BEN                                 (no speech)",
        "1:00:00.0 – 1:00:01.0  BEN                                 broken.wav cannot be…",
    ]


def test_modalities_are_shown_where_they_differ():
    both = row(0, 1, modalities=["audio", "text"], text="yes")
    assert "from" not in draw_table([both, both])
    lines = draw_table([both, row(1, 2)]).splitlines()
    assert "from" in lines[0] and "audio + text" in lines[1] and "audio" in lines[2]
    assert "audio + text" in draw_table([both])


def test_times_and_widths():
    assert [clock(s) for s in (0, 59.6, 3661)] == ["0:00", "1:00", "1:01:01"]
    assert [clock(s, True) for s in (0.04, 59.96, 3599.99)] == ["0:00.0", "1:00.0", "1:00:00.0"]
    assert shortened("怒り怒り", 5) == "怒り…" and columns_of("e\u0301怒") == 3
