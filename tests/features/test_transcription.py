"""Transcripts: the output of the recogniser, computed once, stored with the corpus, and marked in the rows."""

import json
import os
import shutil
import signal
import socket
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from accelerate import PartialState
from conftest import randomize, real_input_config, real_input_processor, text_encoder_config
from processes import reaches, spawn, start
from recognisers import make_whisper
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    AutoModel,
    GenerationConfig,
    MoonshineConfig,
    MoonshineForConditionalGeneration,
    PreTrainedTokenizerFast,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
    WhisperForConditionalGeneration,
    WhisperModel,
    WhisperProcessor,
)

from modeling_mmer.commands import main
from modeling_mmer.corpora import load_corpora
from modeling_mmer.features import transcription
from modeling_mmer.features.transcription import transcribe

EMOTIONS = ["neutral", "happiness", "sadness", "anger"]
LETTERS = "|ETAOINSH"


# ── recognisers and corpora, tiny and made here ─────────────────────────────────────────────────────────────────────


def make_moonshine(folder: Path, **generation) -> Path:
    """A random recogniser of another kind, sequence to sequence from the waveform, with letters for words."""
    words = {word: i for i, word in enumerate(["<pad>", "<s>", "</s>", *LETTERS])}
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<pad>"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(folder)
    named = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    parts = [f"{part}_num_{of}" for part in ("encoder", "decoder") for of in ("hidden_layers", "attention_heads")]
    sizes = {"vocab_size": len(words), "hidden_size": 16, "intermediate_size": 32} | dict.fromkeys(parts, 2)
    torch.manual_seed(0)
    model = randomize(MoonshineForConditionalGeneration(MoonshineConfig(**sizes, **named)))
    model.generation_config = GenerationConfig(max_length=16, suppress_tokens=[0, 1, 2], **named, **generation)
    model.save_pretrained(folder)
    return folder


def make_ctc(folder: Path, seed: int = 0, deaf: bool = False) -> Path:
    """A random wav2vec2 with group normalisation, whose states would show what a recording is padded with."""
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({"<pad>": 0} | {x: i for i, x in enumerate(LETTERS, start=1)}))
    tokenizer = Wav2Vec2CTCTokenizer(folder / "vocab.json", bos_token=None, eos_token=None, unk_token="E")
    convolutions = {"conv_dim": (8, 8, 8), "conv_kernel": (10, 8, 4), "conv_stride": (8, 8, 8)}
    positions = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2, "num_feat_extract_layers": 3}
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(seed)
    config = Wav2Vec2Config(vocab_size=len(LETTERS) + 1, pad_token_id=0, **convolutions, **positions, **sizes)
    model = randomize(Wav2Vec2ForCTC(config))
    if deaf:
        torch.nn.init.zeros_(model.lm_head.weight)
        model.lm_head.bias.data = torch.eye(len(LETTERS) + 1)[0]
    weights = {
        n: w for n, w in model.state_dict().items() if n != "wav2vec2.masked_spec_embed"
    }  # as many are published
    model.save_pretrained(folder, state_dict=weights)
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def whisper(tmp_path_factory) -> Path:
    return make_whisper(tmp_path_factory.mktemp("recognisers") / "whisper")


@pytest.fixture(scope="session")
def ctc(tmp_path_factory) -> Path:
    return make_ctc(tmp_path_factory.mktemp("recognisers") / "ctc")


def sound(i: int, seconds: float) -> np.ndarray:
    """A tone with a pitch of its own in some noise."""
    noise = np.random.default_rng(i).normal(size=round(16000 * seconds))
    return 0.3 * np.sin(np.arange(len(noise)) * 0.05 * (i % 40 + 1)) + 0.02 * noise


def make_corpus(folder: Path, start: int = 0) -> Path:
    """Twelve rows in three splits: of each four, two with audio only, one with both, one with text only."""
    (folder / "audio").mkdir(parents=True)
    rows = []
    for i in range(start, start + 12):
        modalities = ("a", "at", "a", "t")[i % 4]
        if "a" in modalities:
            soundfile.write(folder / "audio" / f"{i}.wav", sound(i, seconds=0.5 + 0.05 * (i % 12)), 16000)
        rows.append(
            {
                "utterance_id": f"u{i}",
                "audio": f"audio/{i}.wav" if "a" in modalities else None,
                "text": f"This is text {i}." if "t" in modalities else None,
                "emotion": EMOTIONS[i // 2 % 2],
                "valence": 1 + i % 7,
                "split": ("train", "validation", "test")[i // 4 % 3],
            }
        )
    pd.DataFrame(rows).to_csv(folder / "metadata.csv", index=False)
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    return make_corpus(tmp_path / "corpus")


def load(*folders: Path):
    return load_corpora(["folder"] * len(folders), folders, emotion_labels=EMOTIONS)


def rows_of(corpus) -> dict[str, dict]:
    return {row["utterance_id"]: row for rows in corpus.splits.values() for row in rows}


def heard(corpus, model: Path, which: str = "missing", batch_size: int = 4) -> dict[str, dict]:
    return rows_of(transcribe(corpus, str(model), which, batch_size, show_progress=False))


def lines(folder: Path) -> list[str]:
    """Every line of every file of transcripts, torn ones too."""
    return [line for file in sorted(folder.glob("transcripts/*")) for line in file.read_text().splitlines() if line]


def forbid(monkeypatch) -> None:
    monkeypatch.setattr(transcription, "pipeline", lambda *_, **__: pytest.fail("a recogniser was loaded"))


def count(monkeypatch) -> list[int]:
    """The sizes of the batches that are recognised from now on."""
    sizes, recognise = [], transcription.recognise
    monkeypatch.setattr(transcription, "recognise", lambda r, w: sizes.append(len(w)) or recognise(r, w))
    return sizes


def said_by_ctc(folder: Path, audio: str) -> str:
    """Greedy CTC by hand: the likeliest letter of each frame, repeats and blanks dropped."""
    waveform, _ = soundfile.read(audio, dtype="float32")
    inputs = Wav2Vec2FeatureExtractor()(waveform, sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        best = Wav2Vec2ForCTC.from_pretrained(folder)(inputs["input_values"]).logits[0].argmax(-1).tolist()
    return "".join(LETTERS[i - 1] for i, _ in groupby(best) if i > 0).replace("|", " ").strip()


def said_by_whisper(folder: Path, audio: str, **how) -> str:
    processor, model = (c.from_pretrained(folder) for c in (WhisperProcessor, WhisperForConditionalGeneration))
    waveform, _ = soundfile.read(audio, dtype="float32")
    options = {"sampling_rate": 16000, "return_tensors": "pt", "return_attention_mask": True}
    if how:
        options |= {"truncation": False, "padding": "longest"}
    inputs = processor.feature_extractor(waveform, **options)
    (tokens,) = model.generate(**inputs, do_sample=False, **how)
    return processor.tokenizer.decode(tokens, skip_special_tokens=True).strip()


# ── what is heard ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["whisper", "ctc"])
def test_a_transcript_is_what_the_recogniser_says_of_the_recording_alone(kind, folder, request):
    model = request.getfixturevalue(kind)
    rows = heard(load(folder), model, "all")
    expected = {"whisper": said_by_whisper, "ctc": said_by_ctc}[kind]
    texts = {name: row["text"] for name, row in rows.items() if row["audio"] is not None}
    assert texts == {name: expected(model, rows[name]["audio"]) for name in texts}
    assert len(texts) == 9 and len(set(texts.values())) >= 5


@pytest.mark.parametrize("kind", ["whisper", "ctc"])
def test_what_outlasts_the_window_is_heard_to_its_end(kind, folder, request):
    model = request.getfixturevalue(kind)
    before = heard(load(folder), model, "all", batch_size=12)
    shutil.rmtree(folder / "transcripts")
    soundfile.write(folder / "audio" / "0.wav", np.concatenate([sound(i, seconds=3.5) for i in range(10)]), 16000)
    rows = heard(load(folder), model, "all", batch_size=12)
    assert {name: row["text"] for name, row in rows.items() if name != "u0"} == {
        name: row["text"] for name, row in before.items() if name != "u0"
    }
    if kind == "whisper":
        assert rows["u0"]["text"] == said_by_whisper(model, rows["u0"]["audio"], return_timestamps=True)
    else:
        letters_a_second = len(said_by_ctc(model, rows["u1"]["audio"])) / rows["u1"]["duration"]
        assert len(rows["u0"]["text"]) > 0.5 * 35 * letters_a_second


def test_decoding_does_not_sample_whatever_the_checkpoint_asks_for(folder, tmp_path):
    plain, sampling = (
        make_moonshine(tmp_path / "plain"),
        make_moonshine(tmp_path / "sampling", do_sample=True, temperature=9.0),
    )
    soundfile.write(folder / "audio" / "0.wav", sound(0, seconds=31), 16000)
    texts = {name: row["text"] for name, row in heard(load(folder), plain).items()}
    assert texts == {name: row["text"] for name, row in heard(load(folder), sampling).items()}
    assert len(set(texts.values())) > 6  # three are reference texts


def test_a_recording_shorter_than_the_convolutions_see_is_heard(ctc, folder):
    soundfile.write(folder / "audio" / "0.wav", np.full(50, 0.1), 16000)
    assert "u0" in heard(load(folder), ctc)


# ── which rows, and how they are marked ─────────────────────────────────────────────────────────────────────────────


def test_rows_without_text_get_it_and_the_others_keep_theirs(ctc, folder):
    before, after = rows_of(load(folder)), heard(load(folder), ctc)
    assert list(after) == list(before) and list(after["u0"]) == list(before["u0"])
    for name, row in after.items():
        if before[name]["text"] is None:
            assert row["text"] and row["text_source"] == "asr"
            assert row | {"text": None, "text_source": None} == before[name]
        else:
            assert row == before[name] and row["text_source"] == "reference"
    assert len(lines(folder)) == 6


def test_all_replaces_reference_text_wherever_there_is_audio(ctc, folder):
    before, after = rows_of(load(folder)), heard(load(folder), ctc, "all")
    for name, row in after.items():
        assert row["text_source"] == ("reference" if row["audio"] is None else "asr")
        assert (row["text"] == before[name]["text"]) == (row["audio"] is None)
    assert len(lines(folder)) == 9


def test_the_caveat_counts_rows_and_names_the_recogniser(ctc, folder):
    *_, said = transcribe(load(folder), str(ctc), show_progress=False).caveats
    assert said == f"6 of 12 rows have text that {ctc} transcribed, not reference text"


@pytest.mark.parametrize("which", ["missing", "all"])
def test_an_empty_transcript_is_missing_text_and_is_not_asked_for_again(which, folder, tmp_path, monkeypatch):
    deaf = make_ctc(tmp_path / "deaf", deaf=True)
    corpus = transcribe(load(folder), str(deaf), which, show_progress=False)
    for row in rows_of(corpus).values():
        has_text = row["audio"] is None or (which == "missing" and row["utterance_id"] in ("u1", "u5", "u9"))
        assert (row["text"] is not None, row["text_source"]) == ((True, "reference") if has_text else (False, None))
    n = {"missing": 6, "all": 9}[which]
    assert corpus.caveats[-1].endswith(f"; {n} more transcript{'s are' if n > 1 else ' is'} empty")
    forbid(monkeypatch)
    assert heard(load(folder), deaf, which) == rows_of(corpus)


# ── transcribed once ────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_stored_is_found_by_content_and_the_recogniser_stays_away(ctc, folder, tmp_path, monkeypatch):
    before = heard(load(folder), ctc)
    forbid(monkeypatch)
    assert heard(load(folder), ctc) == before
    (folder / "audio" / "0.wav").rename(folder / "audio" / "renamed.wav")
    metadata = folder / "metadata.csv"
    metadata.write_text(metadata.read_text().replace("audio/0.wav", "audio/renamed.wav"))
    assert heard(load(folder), ctc)["u0"]["text"] == before["u0"]["text"]
    shutil.copytree(ctc, tmp_path / "the_same_under_another_name")
    assert heard(load(folder), tmp_path / "the_same_under_another_name")["u2"] == before["u2"]


def test_another_recogniser_or_recording_is_heard_anew(ctc, folder, tmp_path, monkeypatch):
    heard(load(folder), ctc)
    first = lines(folder)
    batches = count(monkeypatch)
    other = heard(load(folder), make_ctc(tmp_path / "ctc", seed=1))  # of the same name, with other weights
    assert sum(batches) == 6 and len(list(folder.glob("transcripts/ctc-????????.jsonl"))) == 2
    assert all(
        row["text"] == said_by_ctc(tmp_path / "ctc", row["audio"])
        for row in other.values()
        if row["text_source"] == "asr"
    )
    settings = shutil.copytree(ctc, tmp_path / "settings") / "vocab.json"
    settings.write_text(json.dumps({letter: i for i, letter in enumerate(["<pad>", *reversed(LETTERS)])}))
    heard(load(folder), settings.parent)
    assert sum(batches) == 12
    soundfile.write(folder / "audio" / "0.wav", sound(30, seconds=0.6), 16000)
    heard(load(folder), ctc)
    assert sum(batches) == 13
    assert set(first) <= set(lines(folder))


def test_a_torn_line_is_heard_again_and_nothing_else(ctc, folder, monkeypatch):
    whole = heard(load(folder), ctc)
    (file,) = folder.glob("transcripts/*.jsonl")
    content = file.read_bytes()
    for cut in (1, 2, 20, 90):
        file.write_bytes(content[:-cut])
        batches = count(monkeypatch)
        assert heard(load(folder), ctc) == whole
        assert sum(batches) == (0 if cut == 1 else 1)  # without its line break a line still says all
        readable = [line for line in lines(folder) if line.endswith("}")]
        assert sorted(readable) == sorted(content.decode().splitlines())


KILLED = """
import signal, sys
sys.path.insert(0, "tests")
import test_transcription as t
append = t.transcription.append_lines
def append_and_wait(file, texts):
    append(file, texts)
    if len(t.lines(t.Path(sys.argv[1]))) == 2:
        print("two", flush=True)
        signal.pause()
t.transcription.append_lines = append_and_wait
t.heard(t.load(t.Path(sys.argv[1])), sys.argv[2], batch_size=1)
"""


@pytest.mark.slow
def test_a_killed_run_is_taken_up_where_it_stopped(ctc, folder, tmp_path, monkeypatch):
    process = start(["-c", KILLED, str(folder), str(ctc)], stdout=(printed := tmp_path / "printed"))
    reaches(process, lambda: printed.exists() and printed.read_text() == "two\n")
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    before = lines(folder)
    assert len(before) == 2
    batches = count(monkeypatch)
    rows = heard(load(folder), ctc)
    assert sum(batches) == 4
    assert lines(folder)[:2] == before and len({json.loads(line)["audio"] for line in lines(folder)}) == 6
    assert all(row["text"] == said_by_ctc(ctc, row["audio"]) for row in rows.values() if row["text_source"] == "asr")


def one_of_two(rank: int, port: int, folder: str, model: str) -> None:
    torch.set_num_threads(1)
    where = {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "WORLD_SIZE": 2, "RANK": rank, "LOCAL_RANK": rank}
    os.environ.update({name: str(value) for name, value in where.items()})
    PartialState(cpu=True)
    rows = heard(load(Path(folder)), model)
    (Path(folder) / f"rows{rank}.json").write_text(json.dumps(rows))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_share_the_work_and_both_have_all_of_it(ctc, folder, tmp_path):
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
    spawn(one_of_two, (port, str(folder), str(ctc)))
    parts = sorted(folder.glob("transcripts/*"))
    assert [len(part.read_text().splitlines()) for part in parts] == [3, 3]
    alone = heard(load(make_corpus(tmp_path / "alone")), ctc)
    for rank in (0, 1):
        rows = json.loads((folder / f"rows{rank}.json").read_text())
        assert {name: row["text"] for name, row in rows.items()} == {name: row["text"] for name, row in alone.items()}


def test_transcripts_lie_with_the_corpus_that_their_recordings_belong_to(ctc, tmp_path):
    outer = make_corpus(tmp_path / "outer")
    inner = make_corpus(outer / "inner", start=12)
    rows = heard(load(outer, inner), ctc)
    for corpus, prefix in ((outer, "outer/"), (inner, "inner/")):
        of_corpus = [
            row["text"] for name, row in rows.items() if name.startswith(prefix) and row["text_source"] == "asr"
        ]
        assert sorted(json.loads(line)["text"] for line in lines(corpus)) == sorted(of_corpus)
        assert len(of_corpus) == 6


# ── what cannot be done ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_checkpoint_that_is_no_recogniser_is_refused(whisper, folder, tmp_path):
    AutoModel.from_config(text_encoder_config()).save_pretrained(tmp_path / "text")
    bare = shutil.copytree(whisper, tmp_path / "bare")
    weights = load_file(bare / "model.safetensors")
    save_file({n: w for n, w in weights.items() if ".decoder." not in n}, bare / "model.safetensors", {"format": "pt"})
    for model, says in ((tmp_path / "text", "not a speech recogniser"), (bare, "lacks .* weights of Whisper")):
        with pytest.raises(ValueError, match=says):
            heard(load(folder), model)
    assert lines(folder) == []


def test_a_folder_that_cannot_be_written_to_is_refused_before_any_work(ctc, folder, monkeypatch):
    (folder / "transcripts").write_text("in the way")
    forbid(monkeypatch)
    with pytest.raises(OSError, match="cannot be stored in .*transcripts.*writable"):
        heard(load(folder), ctc)


def test_a_recording_that_cannot_be_read_is_named(ctc, folder):
    corpus = load(folder)
    (folder / "audio" / "4.wav").write_bytes(b"RIFF, and no more")
    with pytest.raises(ValueError, match="audio/4.wav: cannot be decoded"):
        heard(corpus, ctc)


# ── the commands ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def encoders(tmp_path) -> list[str]:
    """Tiny encoders in folders, as options of a training."""
    config, processor = real_input_config(), real_input_processor()
    torch.manual_seed(3)
    WhisperModel(config.audio_config).save_pretrained(tmp_path / "whisper")
    AutoModel.from_config(config.text_config).save_pretrained(tmp_path / "roberta")
    processor.feature_extractor.save_pretrained(tmp_path / "whisper")
    processor.tokenizer.save_pretrained(tmp_path / "roberta")
    sizes = ["--hidden_size", "16", "--num_attention_heads", "2", "--intermediate_size", "32"]
    return ["--audio_encoder", str(tmp_path / "whisper"), "--text_encoder", str(tmp_path / "roberta"), *sizes]


def test_training_and_evaluation_run_on_what_was_heard(ctc, folder, encoders, tmp_path, capsys):
    corpus = ["--corpus", "folder", "--corpus_dir", str(folder), "--transcribe", str(ctc), "--disable_tqdm", "true"]
    classes = ["--emotion_labels", "neutral", "happiness"]
    options = [*encoders, *classes, "--audio_context", "trimmed", "--num_train_epochs", "1"]
    for run in ("heard", "read"):
        main(["train", *corpus, *options, "--output_dir", str(tmp_path / run)])
        assert f"{ctc} transcribed, not reference text" in capsys.readouterr().out
        assert f"{ctc} transcribed, not reference text" in (tmp_path / run / "README.md").read_text()
    first, second = (load_file(tmp_path / run / "model.safetensors") for run in ("heard", "read"))
    assert all(torch.equal(first[name], second[name]) for name in first)  # loading a recogniser left no trace
    results = json.loads((tmp_path / "heard" / "results.json").read_text())["splits"]["test"]
    assert {combination: results[combination]["n"] for combination in ("audio", "text", "audio_text")} == {
        "audio": 3,
        "text": 4,
        "audio_text": 3,
    }
    for which, of_both in (("missing", "reference"), ("all", "asr")):
        output = tmp_path / which
        main(["eval", str(tmp_path / "heard"), *corpus, "--transcribe_rows", which, "--output_dir", str(output)])
        table = pd.read_parquet(output / "predictions.parquet").set_index(["combination", "utterance_id"])
        sources = {"u8": "asr", "u9": of_both, "u10": "asr"}
        assert table.loc["audio_text"].text_source.to_dict() == sources
        assert table.loc["text"].text_source.to_dict() == sources | {"u11": "reference"}
    for command in (["train", *encoders, *classes], ["eval", str(tmp_path / "heard")]):
        with pytest.raises(SystemExit) as end:
            main([*command, *corpus[:4], "--transcribe_rows", "all", "--output_dir", str(tmp_path / "none")])
        assert end.value.code == 1 and "name one with --transcribe" in capsys.readouterr().err


def test_texts_that_are_shared_once_heard_are_counted(ctc, folder, encoders, tmp_path, capsys):
    """The text of a training row is what the recogniser hears in a test row, which had no text before."""
    (heard_in_test,) = (said_by_ctc(ctc, row["audio"]) for name, row in rows_of(load(folder)).items() if name == "u8")
    table = pd.read_csv(folder / "metadata.csv")
    table.loc[table["utterance_id"] == "u3", "text"] = heard_in_test
    table.to_csv(folder / "metadata.csv", index=False)
    assert not [said for said in load(folder).caveats if "in more than one split" in said]
    options = ["--corpus", "folder", "--corpus_dir", str(folder), "--transcribe", str(ctc), "--disable_tqdm", "true"]
    options += ["--emotion_labels", "neutral", "happiness", "--audio_context", "trimmed", "--max_steps", "1"]
    main(["train", *options, *encoders, "--output_dir", str(tmp_path / "run")])
    told = json.loads((tmp_path / "run/results.json").read_text())["caveats"]
    (shared,) = (said for said in told if "in more than one split, so scores from text" in said)
    assert shared.startswith("1 text is ") and heard_in_test in shared
