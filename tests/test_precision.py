"""The precision of the encoders: what `auto` decides, what is cast, and how far results move."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import raw_batch, real_path, tiny_model
from hub import offline, put

from modeling_mmer.commands.arguments import StartArguments
from modeling_mmer.commands.predict import parse_options
from modeling_mmer.commands.predicting import decide_precision
from modeling_mmer.commands.train import set_precision
from modeling_mmer.precision import decide_dtype, has_bfloat16
from modeling_mmer.scoring import Scorer


def processor_with(monkeypatch, *capabilities: str) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(capabilities, True))


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [(["amx_bf16", "avx2"], "bfloat16"), (["avx512_bf16"], "bfloat16"), (["avx2", "avx512_f"], "float32")],
)
def test_auto_is_bfloat16_where_the_processor_has_it(capabilities, expected, monkeypatch, capsys):
    processor_with(monkeypatch, *capabilities)
    chosen, sentence = decide_dtype("auto", "cpu")
    assert chosen == expected and expected in sentence and "cpu" in sentence
    options = parse_options(["--text", "So glad.", "--dtype", "auto", "--device", "cpu"])
    decide_precision(options)
    assert options.dtype == expected and capsys.readouterr().err == sentence + "\n"


def test_a_dtype_that_is_named_is_taken_as_it_is(monkeypatch, capsys):
    processor_with(monkeypatch)
    assert decide_dtype("bfloat16", "cpu")[0] == "bfloat16"
    options = parse_options(["--text", "So glad."])
    decide_precision(options)
    assert options.dtype == "checkpoint" and not capsys.readouterr().err
    with pytest.raises(ValueError, match="dtype must be auto, float32, bfloat16 or float16, not 'half'"):
        decide_dtype("half")


def test_encoders_are_cast_and_nothing_else(bfloat16_attention):
    model, batch = tiny_model(audio_context="trimmed"), raw_batch()
    with torch.no_grad():
        expected = model(**batch)
        found = model.cast_encoders(torch.bfloat16)(**batch)
    dtypes = {name.startswith("model.encoders."): set() for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        dtypes[name.startswith("model.encoders.")].add(parameter.dtype)
    assert dtypes == {True: {torch.bfloat16}, False: {torch.float32}}
    assert found.logits.dtype == torch.float32
    torch.testing.assert_close(found.logits, expected.logits, atol=0.1, rtol=0.1)
    assert not torch.equal(found.logits, expected.logits)


def named(model):
    """A model as one whose encoders are named and not saved."""
    model.config.audio_encoder_name_or_path = model.config.text_encoder_name_or_path = "some/encoder"
    return model


def run_of(**options):
    return SimpleNamespace(**{"device": "cpu", "process_index": 0, "fsdp": "", "deepspeed": None} | options)


def test_training_runs_the_encoders_in_what_auto_decides(monkeypatch, capsys):
    for capabilities, expected in ((["amx_bf16"], torch.bfloat16), ([], torch.float32)):
        processor_with(monkeypatch, *capabilities)
        model, start = named(tiny_model()), StartArguments(dtype="auto")
        set_precision(model, start, run_of())
        assert {encoder.encoder.dtype for encoder in model.model.encoders.values()} == {expected}
        assert start.dtype == str(expected).removeprefix("torch.")  # which the settings of the run record
        assert start.dtype in capsys.readouterr().out


@pytest.mark.parametrize("why", ["saves its encoders", "FSDP"])
def test_encoders_that_are_saved_or_spread_are_not_rounded(why, monkeypatch, capsys):
    processor_with(monkeypatch, "amx_bf16")
    model, run = (tiny_model(), run_of()) if why != "FSDP" else (named(tiny_model()), run_of(fsdp="full_shard"))
    start = StartArguments(dtype="auto")
    set_precision(model, start, run)
    assert start.dtype == "float32" and why in capsys.readouterr().out
    with pytest.raises(ValueError, match=f"--dtype bfloat16 .*{why}.*leave it out"):
        set_precision(model, StartArguments(dtype="bfloat16"), run)
    assert model.model.encoders["audio"].encoder.dtype == torch.float32


@pytest.mark.skipif(not has_bfloat16("cpu"), reason="needs a processor with bfloat16 in hardware")
def test_on_real_speech_bfloat16_changes_next_to_nothing(tmp_path, bfloat16_attention):
    """The released model on real recordings: classes that are not close calls, and dimensions to .005 CCC."""
    with open(real_path("data", "spoken", "metadata.csv"), newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"][:24]
    columns = {"audio": [str(real_path("data", "spoken", row["file_name"])) for row in rows]}
    columns["text"] = [row["text"] if i % 3 else None for i, row in enumerate(rows)]
    names = {"openai/whisper-base": "whisper-base-encoder", "sentence-transformers/all-MiniLM-L6-v2": "minilm"}
    for name, folder in names.items():
        put(tmp_path, name, real_path("models", folder))
    with offline(tmp_path):
        exact, rounded = (
            Scorer(dtype=dtype, device="cpu", speech="off", num_workers=1)(columns) for dtype in ("float32", "bfloat16")
        )
    for task in ("emotion", "sentiment"):
        likeliest = np.sort(
            [exact[name] for name in exact if name.startswith(f"{task}_") and name != f"{task}_score"], 0
        )
        sure = likeliest[-1] - likeliest[-2] > 0.05
        same = np.array(exact[task]) == np.array(rounded[task])
        assert sure.sum() >= 20 and same[sure].all()
    for dimension in ("valence", "arousal", "dominance"):
        x, y = np.array(exact[dimension]), np.array(rounded[dimension])
        ccc = 2 * ((x - x.mean()) * (y - y.mean())).mean() / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
        assert ccc > 0.995 and (x != y).any()
