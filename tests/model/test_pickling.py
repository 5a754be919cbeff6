"""Models, processor and pipeline can be pickled and copied, before and after use, and work with spawned processes, the
default on macOS, Windows and Python 3.14."""

import copy
import io
import multiprocessing
import pickle
import subprocess
import sys

import pytest
import soundfile
import torch
from conftest import raw_batch, real_input_processor, run, tiny_model
from test_pipeline import TASK, assert_close, build_pipe, noise
from transformers import Wav2Vec2FeatureExtractor, pipeline

from modeling_mmer import MMERProcessor
from modeling_mmer.model.processing_mmer import ExampleError

KINDS = ["whisper", "hubert-group", "wavlm-layer", "wav2vec2-group"]


def torch_saved(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {"pickle": lambda model: pickle.loads(pickle.dumps(model)), "torch.save": torch_saved, "copy": copy.deepcopy}


def logits(model, batch):
    with torch.no_grad():
        return model(**batch).logits


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_copied_fresh_and_used(kind, way):
    model = tiny_model(audio=kind, text="bert" if kind == "wavlm-layer" else "roberta").train()
    batch = raw_batch((40, 23, 0, 61) if kind == "whisper" else (400, 231, 0, 613), kind=kind)
    for _ in range(2):  # the second time with what running has left on its encoders
        copied = COPIES[way](model)
        assert copied.training and not copied.model.encoders["audio"].encoder.training
        state, of_copy = model.state_dict(), copied.state_dict()
        assert state.keys() == of_copy.keys()
        assert all(torch.equal(of_copy[name], value) for name, value in state.items())
        trained = {name for name, p in model.named_parameters() if p.requires_grad}
        assert {name for name, p in copied.named_parameters() if p.requires_grad} == trained
        torch.testing.assert_close(logits(copied.eval(), batch), logits(model.eval(), batch))
        shared = {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in copied.parameters()}
        assert not shared
        model.train()


def test_a_copy_records_states_once():
    model, batch = tiny_model(), raw_batch()
    model.set_attn_implementation("eager")
    copied = pickle.loads(pickle.dumps(model))
    for of_model in (model, copied, pickle.loads(pickle.dumps(copied))):
        with torch.no_grad():
            output = of_model(**batch, output_hidden_states=True, output_attentions=True)
        assert len(output.hidden_states) == 3 and len(output.attentions) == 2
        states = of_model.model.encoders(batch)
        assert [states[m][0].shape[1] for m in ("audio", "text")] == [3, 4]


def test_the_precision_of_a_model_survives():
    copied = pickle.loads(pickle.dumps(tiny_model().bfloat16()))
    assert {p.dtype for p in copied.parameters()} == {torch.bfloat16}
    assert copied.model.encoders["text"].encoder.get_input_embeddings().weight.dtype == torch.bfloat16


def test_an_encoder_that_has_more_weights_than_its_class_is_not_lost_in_silence():
    model = tiny_model()
    model.model.encoders["text"].encoder.adapter = torch.nn.Linear(2, 2)
    pickled = pickle.dumps(model)
    with pytest.raises(ValueError, match="roberta encoder was changed.*adapter"):
        pickle.loads(pickled)


UNPICKLED = """
import pickle, sys, torch
model, batch, expected = torch.load(sys.argv[1], weights_only=False)
with torch.no_grad():
    torch.testing.assert_close(model(**batch).logits, expected)
print("ok")
"""


@pytest.mark.slow
def test_a_model_is_unpickled_by_a_process_that_never_made_one(tmp_path):
    model, batch = tiny_model(), raw_batch()
    torch.save((model, batch, logits(model, batch)), tmp_path / "model.pt")
    done = run("-c", UNPICKLED, str(tmp_path / "model.pt"))
    assert done.stdout.strip() == "ok", done.stderr


def test_a_processor_is_pickled():
    processor = real_input_processor()
    found = pickle.loads(pickle.dumps(processor))(audio=noise(1), text="I won.")
    for name, values in processor(audio=noise(1), text="I won.").items():
        assert torch.equal(found[name], values)


def test_a_pipeline_is_pickled():
    pipe, given = build_pipe(), {"audio": noise(2), "text": "I won."}
    expected = pipe(given)
    assert_close(pickle.loads(pickle.dumps(pipe))(given), expected)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["whisper", "wav2vec2-group"])
def test_a_worker_that_is_spawned_reads_the_inputs(kind, monkeypatch):
    pipe = build_pipe(audio=kind)
    if kind != "whisper":  # its weights are parametrized, which torch cannot pickle: the worker gets no model
        pipe = pipeline(TASK, model=pipe.model, processor=MMERProcessor(Wav2Vec2FeatureExtractor(), pipe.tokenizer))
    inputs = [{"audio": noise(2)}, {"text": "I won."}, {"audio": noise(1, 1), "text": "no"}]
    expected = pipe(inputs)
    with monkeypatch.context() as patch:
        patch.setattr(multiprocessing.context._default_context, "_actual_context", multiprocessing.get_context("spawn"))
        assert_close(pipe(inputs, num_workers=1, batch_size=2), expected)
        with pytest.raises(ValueError, match="num_workers=1 starts a process, but a generator cannot be sent"):
            pipe((given for given in inputs), num_workers=1)
        assert_close(list(pipe(given for given in inputs)), expected)


def test_an_example_error_keeps_its_index_and_message():
    error = pickle.loads(pickle.dumps(ExampleError(3, "audio[3]: it is empty.")))
    assert (error.index, str(error)) == (3, "audio[3]: it is empty.")


BROKEN = """
import sys
import datasets
from modeling_mmer import MMERProcessor

processor = MMERProcessor.from_pretrained(sys.argv[1])
rows = datasets.Dataset.from_dict({"audio": sys.argv[2:]})
if __name__ == "__main__":
    rows.map(lambda batch: {"mask": processor(audio=batch["audio"])["input_features_mask"].sum(1)},
        batched=True, batch_size=1, num_proc=2)
"""


@pytest.mark.slow
def test_a_broken_recording_ends_several_processes_with_a_message(tmp_path):
    real_input_processor().save_pretrained(tmp_path / "processor")
    soundfile.write(tmp_path / "fine.wav", noise(1), 16_000)
    (tmp_path / "broken.wav").write_bytes(b"RIFF nothing that could be heard")
    (tmp_path / "broken.py").write_text(BROKEN)
    recordings = [str(tmp_path / name) for name in ("fine.wav", "fine.wav", "fine.wav", "broken.wav")]
    command = [sys.executable, "broken.py", str(tmp_path / "processor"), *recordings]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "broken.wav'): cannot be decoded" in done.stderr
