"""Plots of results: what they show is where it belongs, and a result shows itself in a notebook."""

import xml.etree.ElementTree as ET

import matplotlib
import numpy as np
import pytest
import soundfile
from matplotlib.colors import to_hex

from modeling_mmer.plots import (
    COLORS,
    Timeline,
    colors_of,
    picture,
    plot_modalities,
    plot_plane,
    plot_timeline,
    save,
)


def row(start, end, speaker="ANN", emotion="anger", score=0.9, **others):
    given = {"audio": "nowhere.wav", "start": start, "end": end, "speaker": speaker, "text": None, "speech": True}
    return given | {"emotion": emotion, "emotion_score": score, "error": None, "modalities": ["audio"]} | others


ROWS = [
    row(0, 4, valence=2.0, arousal=4.5, dominance=3.0),
    row(3, 8, "BEN $x$", "happy", 0.5, valence=4.0, arousal=3.0, dominance=3.0),
    row(8, 8.1, "ANN", "怒り", None, valence=None, arousal=2.0),
    row(8.1, 10, "ANN", None, None, speech=False),
]


def texts_of(figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def test_a_box_per_row_with_an_emotion_in_the_lane_of_its_speaker():
    figure = plot_timeline(ROWS, label_scale=(1, 5))
    lanes, dimensions = figure.axes  # no waveform: the recording is not there
    boxes = [(b.get_x(), b.get_width(), round(b.get_y() + 0.4), to_hex(b.get_facecolor())) for b in lanes.patches]
    boxes = sorted(box for box in boxes if box[1] > 0)  # the others are the legend's
    assert [box[:3] for box in boxes] == [(0, 4, 0), (3, 5, 1), (8, pytest.approx(0.1), 0)]
    assert [box[3].upper() for box in boxes[:2]] == [COLORS["anger"], COLORS["happiness"]]
    assert [label.get_text() for label in lanes.get_yticklabels()] == ["ANN", r"BEN \$x\$"]
    said = texts_of(figure)
    assert "anger 0.90" in said and "happy 0.50" in said
    assert "怒り" in " ".join(said) or "[U+6012]" in " ".join(said)  # in the legend: its box is too small
    assert [line.get_label() for line in dimensions.lines] == ["valence", "arousal", "dominance"]
    np.testing.assert_array_equal(dimensions.lines[0].get_ydata(), [2, 2, np.nan, 4, 4, np.nan])
    np.testing.assert_array_equal(dimensions.lines[1].get_xdata(), [0, 4, 4, 3, 8, 8, 8, 8.1, 8.1])
    assert dimensions.get_ylabel() == "scale (1 to 5)"
    assert dimensions.get_xlim() == (0, 10)


def test_the_waveform_is_aligned_with_the_rows(tmp_path):
    samples = np.zeros(80000)
    samples[32000:48000] = 0.5 * np.sin(np.arange(16000))  # from 4 to 6 s at 8 kHz
    soundfile.write(tmp_path / "call.wav", samples, 8000)
    of_file = plot_timeline([row(4, 6, audio=str(tmp_path / "call.wav"))])
    of_samples = plot_timeline([row(4, 6)], audio=(np.stack([samples, 0 * samples]), 8000))
    for figure in (of_file, of_samples):
        waveform, lanes = figure.axes
        outline = waveform.collections[0].get_paths()[0].vertices
        loud = outline[np.abs(outline[:, 1]) > 0.1][:, 0]
        assert abs(loud.min() - 4) < 0.02 and abs(loud.max() - 6) < 0.02
        assert waveform.get_xlim() == lanes.get_xlim() == (0, 10)
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    assert len(plot_timeline([row(4, 6, audio=str(tmp_path / "broken.wav"))]).axes) == 1


def test_the_plane_names_its_scale_and_shows_rows_that_have_both():
    panel = plot_plane(ROWS, label_scale=(1, 5)).axes[0]
    points = {points.get_label(): points.get_offsets().tolist() for points in panel.collections}
    assert points == {"anger (1)": [[2.0, 4.5]], "happy (1)": [[4.0, 3.0]]}
    assert panel.get_xlabel() == "valence (1 negative to 5 positive)"
    assert panel.get_ylabel() == "arousal (1 calm to 5 excited)"
    assert "model's scale" in plot_plane(ROWS).axes[0].get_xlabel()
    two = plot_plane([row(3, 4, valence=1, arousal=2), row(0, 1, valence=3, arousal=4)]).axes[0]
    assert two.lines[0].get_xydata().tolist() == [[3, 4], [1, 2]]  # in the order of time
    with pytest.raises(ValueError, match="No row has valence and arousal"):
        plot_plane([row(0, 1)])


def test_bars_of_each_modality():
    answers = {
        "audio_text": {"emotion_anger": 0.5, "emotion_joy": 0.5, "emotion_score": 0.5, "emotion": "anger"},
        "audio": {"emotion_anger": 0.9, "emotion_joy": 0.1},
    }
    figure = plot_modalities(answers)
    assert [panel.get_title() for panel in figure.axes] == ["what the audio says", "what both say"]
    assert [[bar.get_width() for bar in panel.patches] for panel in figure.axes] == [[0.9, 0.1], [0.5, 0.5]]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["anger", "joy"]
    with pytest.raises(ValueError, match="no modality video: give audio, text, audio_text"):
        plot_modalities({"video": {}})
    with pytest.raises(ValueError, match="emotion_<label>"):
        plot_modalities({"audio": {"emotion": "anger", "emotion_score": 0.5}})


def test_colours_follow_the_emotion_in_any_spelling():
    assert colors_of(["angry", "zest"])["angry"] == colors_of(["anger"])["anger"] == COLORS["anger"]
    many = colors_of([f"emotion {i}" for i in range(8)])
    assert len(set(many.values())) == 8


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_its_background(dark):
    figure = plot_timeline(ROWS, dark=dark)
    background, text = figure.get_facecolor(), matplotlib.colors.to_rgba(figure.axes[0].yaxis.label.get_color())
    assert abs(sum(background[:3]) - sum(text[:3])) > 2


def test_files_by_suffix(tmp_path):
    figure = plot_timeline(ROWS)
    starts = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}
    for suffix, start in starts.items():
        save(figure, tmp_path / f"a.{suffix}")
        assert (tmp_path / f"a.{suffix}").read_bytes().startswith(start)
    with pytest.raises(ValueError, match=r"a\.gif: plots are written as \.svg, \.png or \.pdf"):
        save(figure, tmp_path / "a.gif")
    assert len(list(tmp_path.iterdir())) == 3


def test_equal_rows_give_equal_files():
    assert picture(plot_timeline(ROWS)) == picture(plot_timeline(ROWS))


def test_a_result_shows_itself():
    rows = [row(0, 4, text="<script>alert(1)</script>"), *ROWS]
    timeline = Timeline(rows, label_scale=(1, 5))
    shown = timeline._repr_html_()
    svg, details = shown.split("<details>")
    assert ET.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    assert "<script>" not in shown and "&lt;script&gt;" in details and "5 rows" in details
    assert repr(timeline).startswith("ANN") and "(no speech)" in repr(timeline)
    assert timeline.plane().axes[0].collections


@pytest.mark.parametrize("rows", [[], [row(None, None)], [row(0, 1, None)]], ids=["none", "no times", "one"])
def test_few_rows(rows):
    assert picture(plot_timeline(rows)).startswith(b"<?xml")
    assert "<svg" in Timeline(rows)._repr_html_()
