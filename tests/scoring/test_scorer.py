"""The scorer: N rows in, N rows out, equal to the pipeline's answers whatever is batched with them. A row that cannot
be judged has an error, and nothing is raised."""

import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import soundfile
import torch
from datasets import Dataset, Features
from scorers import RECORDINGS, numbers
from transformers import pipeline

from modeling_mmer import MMERForEmotionRecognition, MMERProcessor
from modeling_mmer.scoring import Scorer
from modeling_mmer.scoring.batches import batches_of_like_length

RATE = 16_000
SENTENCE = "I am so glad that we won the game."


@pytest.fixture(scope="module")
def scorer(saved_model):
    return Scorer(str(saved_model), speech="off")


@pytest.fixture(scope="module")
def pipe(saved_model):
    model = MMERForEmotionRecognition.from_pretrained(saved_model)
    processor = MMERProcessor.from_pretrained(saved_model)
    return pipeline("multimodal-emotion-recognition", model=model, processor=processor)


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE)).astype(np.float32)


def rows_of(columns: dict) -> list[dict]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


@pytest.fixture(scope="module")
def mixed() -> dict[str, list]:
    """Lengths from 0.4 to 70 s in no order, audio only, text only and both, paths, bytes and arrays."""
    seconds = (4, 70, 0.4, 9, 31, 2, 2.1, 6)
    audio = [noise(s, seed) for seed, s in enumerate(seconds)]
    audio += [str(RECORDINGS[0]), RECORDINGS[1].read_bytes(), {"path": str(RECORDINGS[2])}, None, None]
    text = [SENTENCE if i % 3 == 0 else None for i in range(len(audio) - 2)] + ["no", SENTENCE]
    return {"id": [f"row {i}" for i in range(len(audio))], "audio": audio, "text": text}


def assert_is(result: dict, output: dict, labels: list[str]) -> None:
    for task in ("emotion", "sentiment"):
        assert result[task] == output[task]["label"]
        found = {label: result[f"{task}_{label}"] for label in output[task]["scores"]}
        assert found == pytest.approx(output[task]["scores"], abs=1e-6)
    assert result["emotion_score"] == pytest.approx(output["emotion"]["score"], abs=1e-6)
    assert [result[d] for d in labels] == pytest.approx([output[d] for d in labels], abs=1e-5)
    assert result["modalities"] == output["modalities"] and result["error"] == ""


def test_every_row_gets_the_answer_of_the_pipeline_alone(scorer, pipe, mixed):
    results = rows_of(scorer(mixed))
    assert [row["id"] for row in results] == mixed["id"]
    for result, audio, text in zip(results, mixed["audio"], mixed["text"], strict=True):
        assert_is(result, pipe({"audio": audio, "text": text}), ["valence", "arousal", "dominance"])
        assert result["text"] == text
    expected = [4, 70, 0.4, 9, 31, 2, 2.1, 6]
    assert [row["seconds"] for row in results][:8] == pytest.approx(expected) and results[-1]["seconds"] is None
    assert results[8]["audio"] == str(RECORDINGS[0]) and results[9]["audio"] is None


def test_what_cannot_be_judged_has_an_error_and_its_neighbours_do_not(scorer, tmp_path):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("no sound")
    soundfile.write(tmp_path / "nothing.wav", np.zeros(0, np.float32), RATE)
    bad = [tmp_path / "absent.wav", tmp_path / "empty.wav", tmp_path / "text.wav", tmp_path / "nothing.wav", 7]
    bad += [np.full(RATE, np.nan, np.float32), {"unknown": 1}, b"no sound", None]
    audio = [item for one in bad for item in (str(one) if isinstance(one, type(tmp_path)) else one, RECORDINGS[0])]
    results = rows_of(scorer({"audio": audio, "start": [None] * len(audio)}))
    assert [bool(row["error"]) for row in results] == [True, False] * len(bad)
    assert all(numbers(row) == pytest.approx(numbers(results[1]), abs=1e-6) for row in results[1::2])
    assert all(numbers(row) == [] and row["emotion"] is None and row["modalities"] == [] for row in results[::2])
    assert "does not exist" in results[0]["error"] and "neither audio nor text" in results[-2]["error"]
    assert all("\n" not in row["error"] and not row["error"].startswith("Input") for row in results)


def test_a_fault_in_the_model_is_an_error_of_its_row_alone(saved_model, monkeypatch):
    scorer = Scorer(str(saved_model), speech="off")
    forward = scorer._forward

    def fails_on_long(batch):
        if any(len(samples) > 3 * RATE for samples in batch["audio"]):
            raise RuntimeError("out of memory")
        return forward(batch)

    monkeypatch.setattr(scorer, "_forward", fails_on_long)
    results = rows_of(scorer({"audio": [noise(2.9), noise(3.05), noise(2.9)]}))
    assert [row["error"] for row in results] == ["", "RuntimeError: out of memory", ""]


def test_an_output_that_is_not_finite_is_an_error(saved_model, monkeypatch):
    scorer = Scorer(str(saved_model), windows=2, speech="off")
    forward = scorer._forward

    def overflows(batch):
        return {name: v * np.nan if name == "valence" else v for name, v in forward(batch).items()}

    monkeypatch.setattr(scorer, "_forward", overflows)
    (row,) = rows_of(scorer({"audio": [noise(1)], "start": [0.5], "end": [np.inf]}))
    assert "start and end" in row["error"] and (row["start"], row["end"]) == (0.5, None)
    (row,) = rows_of(scorer({"audio": [noise(1)]}))
    assert "not finite" in row["error"] and row["emotion"] is None and row["windows"] == []


def test_spans_and_channels(scorer, tmp_path):
    left, right = noise(4, 1), noise(4, 2)
    soundfile.write(tmp_path / "stereo.wav", np.stack([left, right], 1), RATE, subtype="FLOAT")
    path = str(tmp_path / "stereo.wav")
    columns = {"audio": [path, path, path], "channel": [0, 1, 2], "start": [1, 1.0, None], "end": [3, None, None]}
    results = rows_of(scorer(columns))
    alone = rows_of(scorer({"audio": [left[RATE : 3 * RATE], right[RATE:]]}))
    for result, expected in zip(results[:2], alone, strict=True):
        assert [result[f"emotion_{k}"] for k in scorer.config.emotion_labels] == pytest.approx(
            [expected[f"emotion_{k}"] for k in scorer.config.emotion_labels], abs=1e-5
        )
    assert (results[0]["start"], results[0]["end"], results[0]["seconds"]) == (1.0, 3.0, 2.0)
    assert results[2]["error"] == "there is no channel 2: the recording has 2, counted from 0."


def test_without_speech_there_is_no_label_and_text_is_judged_alone(saved_model, pipe):
    scorer = Scorer(str(saved_model))
    silence = np.zeros(3 * RATE, np.float32)
    spoken, none, read = rows_of(scorer({"audio": [RECORDINGS[0], silence, silence], "text": [None, None, SENTENCE]}))
    assert spoken["speech"] is True and spoken["emotion"] is not None
    assert none["speech"] is False and none["emotion"] is None and none["emotion_score"] is None
    assert none["error"] == "" and none["modalities"] == [] and none["seconds"] == 3
    assert read["speech"] is False and read["modalities"] == ["text"]
    assert_is(read, pipe({"text": SENTENCE}), ["valence"])


def test_windows_are_results_over_time(saved_model, pipe):
    scorer = Scorer(str(saved_model), windows=2, speech="off")
    timed = [{"text": "so glad", "timestamp": (0.5, 1.0)}, {"text": "no", "timestamp": (4.5, 5.0)}]
    audio = noise(5)
    result, with_text = rows_of(scorer({"audio": [audio, audio], "text": [None, timed]}))
    chunks = pipe({"audio": audio, "text": timed}, return_timestamps=True, chunk_length_s=2)["chunks"]
    assert [(w["start"], w["end"]) for w in with_text["windows"]] == [(0, 2), (2, 4), (4, 5)]
    assert [w["text"] for w in with_text["windows"]] == ["so glad", None, "no"] and with_text["text"] == "so glad no"
    for window, chunk in zip(with_text["windows"], chunks, strict=True):
        assert_is(window, chunk, ["valence", "arousal", "dominance"])
    assert {tuple(w["modalities"]) for w in result["windows"]} == {("audio",)}
    assert pa.table(scorer({"audio": [audio]}), schema=scorer.schema).num_rows == 1


def test_a_silent_window_has_no_label_and_no_say(saved_model):
    speech = soundfile.read(RECORDINGS[0], dtype="float32")[0]
    speech = np.tile(speech, 3)[: 4 * RATE]
    audio = np.concatenate([speech, np.zeros(4 * RATE, np.float32)])
    scorer = Scorer(str(saved_model), windows=4)
    (result,), (alone,) = rows_of(scorer({"audio": [audio]})), rows_of(scorer({"audio": [speech]}))
    assert [w["speech"] for w in result["windows"]] == [True, False]
    assert result["windows"][1]["emotion"] is None and result["seconds"] == 8
    assert result["emotion_sadness"] == pytest.approx(alone["emotion_sadness"], abs=1e-6)


def test_embedding_is_z_at_cls(saved_model, pipe):
    scorer = Scorer(str(saved_model), embedding=True, speech="off")
    (found,) = scorer({"audio": [RECORDINGS[0]], "text": [SENTENCE]})["embedding"]
    with torch.no_grad():
        output = pipe.model(**pipe.processor(audio=[str(RECORDINGS[0])], text=[SENTENCE]))
    assert found == pytest.approx(output.last_hidden_state[0, 0].tolist(), abs=1e-5)


def test_labels_below_the_least_confidence_are_left_out(saved_model):
    sure, unsure = (Scorer(str(saved_model), min_confidence=p) for p in (0.0, 1.0))
    columns = {"text": [SENTENCE]}
    assert sure(columns)["emotion"] != [None] and unsure(columns)["emotion"] == unsure(columns)["sentiment"] == [None]
    assert sure(columns)["emotion_score"] == unsure(columns)["emotion_score"]


# ── names travel, not objects ───────────────────────────────────────────────────────────────────────────────────────


def test_it_pickles_as_its_options(scorer):
    pickled = pickle.dumps(scorer)
    assert len(pickled) < 1000
    columns = {"audio": [RECORDINGS[0]], "text": [SENTENCE]}
    assert numbers(rows_of(pickle.loads(pickled)(columns))[0]) == numbers(rows_of(scorer(columns))[0])


@pytest.fixture(scope="module")
def table() -> dict[str, list]:
    texts = [None if i % 4 == 1 else f"row number {i} is glad" for i in range(12)]
    audio = [None if i % 4 == 2 else str(RECORDINGS[i]) for i in range(11)] + ["absent.wav"]
    return {"id": [str(i) for i in range(12)], "audio": audio, "text": texts}


def test_datasets_and_pandas_give_what_it_gives(scorer, table):
    expected = rows_of(scorer(table))
    of_datasets = Dataset.from_dict(table).map(
        scorer, batched=True, batch_size=5, features=Features.from_arrow_schema(scorer.schema)
    )

    def in_pandas(frames):  # as Spark's mapInPandas calls it
        for frame in frames:
            yield pd.DataFrame(scorer(frame))

    frame = pd.DataFrame(table)
    of_pandas = pd.concat(in_pandas([frame[:7], frame[7:]])).astype(object)
    of_pandas = of_pandas.where(of_pandas.notna(), None).to_dict("records")
    for found in (list(of_datasets), of_pandas):
        for row, wanted in zip(found, expected, strict=True):
            assert numbers(row) == pytest.approx(numbers(wanted), abs=1e-6)
            assert [row[k] for k in ("id", "emotion", "error")] == [wanted[k] for k in ("id", "emotion", "error")]


# ── batches ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", range(20))
def test_batches_cost_what_their_windows_cost_alone(seed):
    generator = np.random.default_rng(seed)
    sizes = [
        (int(a) * (k != 1), int(t) * (k != 0)) for a, t, k in generator.integers((1, 1, 0), (1500, 90, 3), (60, 3))
    ]
    batches = batches_of_like_length(sizes, 8, 0.1)
    assert sorted(i for batch in batches for i in batch) == list(range(60))
    for batch in batches:
        frames, tokens = ([sizes[i][m] for i in batch] for m in (0, 1))
        assert len(batch) <= 8 and len({(f > 0, t > 0) for f, t in zip(frames, tokens, strict=True)}) == 1
        padded = len(batch) * (max(frames) + max(tokens))
        assert padded <= 1.1 * (sum(frames) + sum(tokens))


def test_windows_of_one_length_fill_batches():
    assert [len(batch) for batch in batches_of_like_length([(100, 0)] * 20, 8, 0.1)] == [8, 8, 4]


# ── wrong calls ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speech": "ear"}, "speech must be energy, silero or off"),
        ({"windows": -1}, "windows must be"),
        ({"min_confidence": 60}, "from 0 to 1"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"num_workers": 0}, "num_workers must be"),
        ({"dtype": "int8"}, "dtype must be"),
    ],
)
def test_options_are_refused_before_anything_is_read(saved_model, options, message):
    with pytest.raises(ValueError, match=message):
        Scorer(str(saved_model), **options)


def test_columns_of_different_lengths_are_refused(scorer):
    with pytest.raises(ValueError, match="audio has 1, text has 2"):
        scorer({"audio": [None], "text": ["a", "b"]})
    assert scorer({"text": []})["emotion"] == []
