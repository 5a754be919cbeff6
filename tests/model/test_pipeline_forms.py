"""Forms of a pipeline call: N inputs give N outputs or an error that names the input. Outputs are on the scale."""

import threading

import numpy as np
import pytest
import soundfile
import torch
from conftest import randomize, real_input_config, real_input_processor
from datasets import Dataset, DatasetDict
from test_pipeline import RATE, SENTENCE, TASK, assert_close, noise
from test_pipeline import pipe as pipe  # a fixture
from torch.utils.data import Dataset as TorchDataset
from transformers import pipeline

from modeling_mmer import MMERForEmotionRecognition

X, Y = noise(1, 1), noise(1.4, 2)
SEGMENTS = [{"text": "I won.", "timestamp": (0.0, 0.5)}, {"text": "Really?", "timestamp": (0.5, None)}]


class Recordings(TorchDataset):
    """A data set that knows its length, and whose rows have no end."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return {"audio": (X, Y)[index % 2]}


FORMS = {
    "recordings": ({"audio": [X, Y]}, [{"audio": X}, {"audio": Y}]),
    "a tuple": ({"audio": (X, Y)}, [{"audio": X}, {"audio": Y}]),
    "one recording": ({"audio": [X]}, [{"audio": X}]),
    "texts": ({"text": ["no", SENTENCE, "I won."]}, [{"text": "no"}, {"text": SENTENCE}, {"text": "I won."}]),
    "both": ({"audio": [X, Y], "text": ["no", SENTENCE]}, [{"audio": X, "text": "no"}, {"audio": Y, "text": SENTENCE}]),
    "some": ({"audio": [None, Y], "text": ["no", None]}, [{"text": "no"}, {"audio": Y}]),
    "dicts": ({"audio": [{"array": X, "sampling_rate": RATE}]}, [{"audio": X}]),
    "numbers": ({"audio": [X.tolist(), Y.tolist()]}, [{"audio": X}, {"audio": Y}]),
    "segments": ({"text": [SEGMENTS, "no"]}, [{"text": SEGMENTS}, {"text": "no"}]),
    "a rate": ({"audio": [X, Y], "sampling_rate": 8_000}, [{"audio": a, "sampling_rate": 8_000} for a in (X, Y)]),
    "a tuple of inputs": ({"inputs": ({"audio": X}, {"text": "no"})}, [{"audio": X}, {"text": "no"}]),
    "a data set": ({"inputs": Recordings()}, [{"audio": X}, {"audio": Y}]),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_input_of_a_list_gets_an_output_of_its_own(pipe, form):
    given, expected = FORMS[form]
    outputs = list(pipe(**given, batch_size=2))
    assert len(outputs) == len(expected)
    for output, alone in zip(outputs, expected, strict=True):
        assert_close(output, pipe(alone))
    assert_close(list(pipe(**given)), outputs)


def test_one_input_gets_one_output(pipe):
    for given in ({"audio": X}, {"audio": X.tolist()}, {"text": SEGMENTS}, {"audio": X, "text": SEGMENTS}):
        assert_close(pipe(**given), pipe(given))
    assert_close(pipe(audio=X, sampling_rate=8_000), pipe({"audio": X, "sampling_rate": 8_000}))
    split = {"audio": np.stack([X, Y[: len(X)]]), "text": ["no", None]}
    output = pipe(**split, channels="split")
    assert len(output["channels"]) == 2
    assert_close(output, pipe(split, channels="split"))
    of_two = pipe(audio=[split["audio"]] * 2, text=[["no", None]] * 2, channels="split")
    assert_close(of_two, [output, output])


def test_of_no_recordings_there_are_no_outputs(pipe):
    assert pipe(audio=[]) == pipe(text=[]) == pipe(()) == pipe(inputs=[]) == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"inputs": {"audio": [X, Y]}}, "Input 0: audio is a list of recordings; give a list of inputs"),
        ({"inputs": [{"text": "no"}, {"audio": (X, Y)}]}, "Input 1: audio is a list of recordings"),
        ({"inputs": {"audio": [X, Y]}, "channels": "split"}, "a list of recordings"),
        ({"inputs": {"text": ["no", "yes"]}}, "Input 0: segment 0 of the text is 'no'"),
        ({"audio": [X, Y], "text": ["no"]}, "audio has 2 entries and text has 1"),
        ({"audio": [X, Y], "text": "no"}, "audio has 2 entries and text has one"),
        ({"audio": X, "text": ["no", "yes"]}, "segment 0 of the text is 'no'"),
        ({"audio": [X, "no/such.wav"]}, r"Input 1 \(no/such.wav\)"),
        ({"inputs": {"text": "no"}, "text": "no"}, "either in the inputs or as arguments"),
        ({"text": "no", "top_k": 2.5}, "top_k must be a whole number"),
        ({"audio": X, "chunk_length_s": float("inf")}, "Input 0: chunk_length_s must be a number of seconds, not inf"),
        ({"audio": X, "stride_length_s": float("nan")}, "stride_length_s must be a number of seconds, not nan"),
        ({"audio": X, "chunk_length_s": "5"}, "chunk_length_s must be a number of seconds, not '5'"),
        ({"inputs": DatasetDict(test=Dataset.from_dict({"text": ["no"]}))}, "give a dict with"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(pipe, given, says):
    with pytest.raises(ValueError, match=says):
        pipe(**given)


def test_a_misspelt_key_is_refused_and_a_column_of_a_data_set_is_not(pipe):
    for given in ({"audo": X, "text": "no"}, [{"text": "no"}, {"text": "no", "audo": X}]):
        with pytest.raises(ValueError, match="Input [01]: it has 'audo', .*audio.*text.*sampling_rate.*start.*end"):
            list(pipe(given))
    rows = [{"text": "no", "speaker": "x"}, {"text": SENTENCE, "speaker": "y"}]
    for output, row in zip(pipe(Dataset.from_list(rows)), rows, strict=True):
        assert_close(output, pipe({"text": row["text"]}))


def test_a_processor_takes_no_list_of_recordings_for_one(pipe):
    with pytest.raises(ValueError, match=r"audio\[1\]: it is a list of recordings"):
        pipe.processor(audio=[X, [X, Y]])
    with pytest.raises(ValueError, match="empty"):
        pipe.processor(audio=[X, []])


def test_candidates_are_a_list(pipe):
    with pytest.raises(ValueError, match="a list of texts or recordings"):
        pipe.retrieve({"audio": X}, "I won.")


def test_calls_at_once_name_their_own_inputs(pipe):
    """No number is kept on the pipeline: two threads that share one pipeline, and their faults."""
    started, said = threading.Barrier(2), {}

    def fail_at(row: int):
        inputs = ({"text": "no"} if number < row else {} for number in range(row + 1))
        started.wait()
        try:
            list(pipe(inputs))
        except ValueError as error:
            said[row] = str(error)

    threads = [threading.Thread(target=fail_at, args=(row,)) for row in (3, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {row: text.split(":")[0] for row, text in said.items()} == {3: "Input 3", 8: "Input 8"}


def test_a_fault_in_a_long_file_names_the_input_and_the_seconds(pipe, tmp_path):
    samples = noise(70, seed=3)
    samples[45 * RATE] = np.nan
    soundfile.write(tmp_path / "long.wav", samples, RATE, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"Input 1 \(.*long.wav\): from 30 s to 60 s, .*not finite"):
        pipe([{"text": "no"}, {"audio": str(tmp_path / "long.wav")}], batch_size=4)


def test_what_is_shown_is_on_the_scale_and_what_is_judged_is_not():
    torch.manual_seed(0)
    model = randomize(MMERForEmotionRecognition(real_input_config(label_scale=(1, 5))))
    pipe = pipeline(TASK, model=model, processor=real_input_processor())
    with torch.no_grad():
        for dimension, value in (("valence", 0.7), ("arousal", -0.9), ("dominance", 0.25)):  # 0.5: the upper end
            model.heads[dimension][-1].weight.zero_()
            model.heads[dimension][-1].bias.fill_(value)
        judged = model(**pipe.processor(audio=X))
    output = pipe({"audio": X}, return_timestamps=True)
    for shown in (output, output["chunks"][0]):
        assert (shown["valence"], shown["arousal"]) == (5.0, 1.0)
        assert shown["dominance"] == pytest.approx(4.0)
    assert [judged[d].item() for d in ("valence", "arousal", "dominance")] == pytest.approx([5.8, -0.6, 4.0])
