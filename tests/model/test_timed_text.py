"""Text with timestamps: no text is lost, even if its timestamps are unusual."""

import math

import pytest

from modeling_mmer.model.timed_text import Segment, read_segments, text_within


def said(*timestamps) -> list[Segment]:
    """Segments `0`, `1` … with these timestamps."""
    return read_segments([{"text": f" {i} ", "timestamp": times} for i, times in enumerate(timestamps)])


def windows(segments, *bounds):
    """What is said between each bound and the next."""
    pairs = list(zip(bounds, bounds[1:], strict=False))
    return [text_within(segments, *pair, is_last=pair == pairs[-1]) for pair in pairs]


def test_segments_belong_to_the_windows_that_they_reach_into():
    assert windows(said((0, 2), (2, 4.5), (4.5, 6)), 0, 2, 4, 6) == ["0", "1", "1 2"]


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        ((0.0, 0.0), ["0", None, None]),
        ((2.0, 2.0), [None, "0", None]),  # at a window's start
        ((3.0, 3.0), [None, "0", None]),
        ((6.0, 6.0), [None, None, "0"]),  # at the recording's end
        ((7.5, 8.0), [None, None, "0"]),  # beyond it
        ((-0.1, 0.0), ["0", None, None]),
        ((3.0, 1.0), [None, "0", None]),  # the end before the beginning
        ((3.0, None), [None, "0", "0"]),
        ((None, 3.0), ["0", "0", None]),
        ((None, None), ["0", "0", "0"]),
        ((3.0, math.nan), [None, "0", "0"]),
        (None, ["0", "0", "0"]),
    ],
)
def test_no_segment_is_lost(timestamp, expected):
    assert windows(said(timestamp), 0, 2, 4, 6) == expected


def test_times_that_are_left_out_are_taken_from_the_neighbours():
    assert said((0, 1), (None, None), (3, None), (None, 5)) == [
        Segment("0", 0, 1),
        Segment("1", 1, 3),
        Segment("2", 3, math.inf),
        Segment("3", 3, 5),
    ]


def test_segments_without_text_are_left_out():
    times = {"timestamp": (0, 1)}
    given = [{"text": None, **times}, {"text": " ", **times}, {"text": math.nan, **times}, {"text": "so", **times}]
    assert read_segments(given) == [Segment("so", 0, 1)]


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        ("so", "segment 1 of the text is 'so'; give"),
        ({"text": "so"}, "segment 1 .*timestamp"),
        ({"text": 3, "timestamp": (0, 1)}, "text of segment 1 is 3; give a string"),
        ({"text": "so", "timestamp": 3}, "timestamp of segment 1 is 3; give"),
        ({"text": "so", "timestamp": ("0", "1")}, "timestamp of segment 1 .*in seconds"),
    ],
)
def test_segments_of_another_form_are_named(segment, message):
    with pytest.raises(ValueError, match=message):
        read_segments([{"text": "well", "timestamp": (0, 1)}, segment])
