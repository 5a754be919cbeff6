"""Models by their names on the hub: all commands find them offline, use pinned commits, and explain failures in one
line."""

import json
import re
import shlex
import shutil
from pathlib import Path
from unittest.mock import Mock

import huggingface_hub.constants
import pandas as pd
import pytest
import torch
from conftest import REPOSITORY, real_path
from hub import FIRST, SECOND, copy, make_encoders, offline, point, put
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    RevisionResolutionError,
)
from isolated import LOADED, elsewhere
from recognisers import make_whisper
from safetensors import safe_open
from transformers import AutoModelForAudioClassification, WhisperModel, pipeline

from modeling_mmer import MMERConfig, MMERForEmotionRecognition, MMERProcessor
from modeling_mmer.commands import main
from modeling_mmer.corpora import load_corpora
from modeling_mmer.corpora.demo import DEMO_FOLDER
from modeling_mmer.features.cache import COMMITS
from modeling_mmer.features.transcription import transcribe
from modeling_mmer.model import hub_names
from modeling_mmer.scoring.models import model_commit

AUDIO, TEXT = "tiny/whisper.en", "tiny/roberta"
ENCODERS = ["--audio_encoder", AUDIO, "--text_encoder", TEXT]
SMALL = ["--num_train_epochs", "1", "--hidden_size", "16", "--intermediate_size", "32", "--audio_context", "trimmed"]
SMALL += ["--use_cpu", "true", "--disable_tqdm", "true", "--report_to", "none"]
# What the README names, each by a tiny encoder of its kind.
NAMED = {"openai/whisper-base": "audio", "openai/whisper-medium": "audio"}
NAMED |= {"FacebookAI/roberta-base": "text", "FacebookAI/roberta-large": "text"}


@pytest.fixture(scope="module")
def encoders(tmp_path_factory) -> list[dict[str, Path]]:
    """Two sets of encoders of one architecture, with other weights."""
    return [make_encoders(tmp_path_factory.mktemp(f"encoders{seed}"), seed) for seed in (1, 2)]


@pytest.fixture(scope="module")
def shared_hub(encoders, tmp_path_factory) -> Path:
    """Each encoder at two commits; the newest is the first, until a test moves it."""
    cache = tmp_path_factory.mktemp("hub")
    for name, modality in ((AUDIO, "audio"), (TEXT, "text")):
        for commit, kinds in ((SECOND, encoders[1]), (FIRST, encoders[0])):
            put(cache, name, kinds[modality], commit)
    for name, modality in NAMED.items():
        put(cache, name, encoders[0][modality])
    return cache


@pytest.fixture
def hub(shared_hub, tmp_path):
    with offline(copy(shared_hub, tmp_path / "hub")) as cache:
        yield cache


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Eighteen utterances of the demo's: some without audio, some without text."""
    folder = tmp_path_factory.mktemp("corpus")
    table = pd.read_csv(DEMO_FOLDER / "metadata.csv")
    table = pd.concat([rows.head(6) for _, rows in table.groupby("split")]).reset_index(drop=True)
    table.loc[table["audio"].notna() & (table.index % 6 == 1), "text"] = None  # something to hear
    for file in table["audio"].dropna():
        (folder / file).parent.mkdir(exist_ok=True)
        shutil.copy(DEMO_FOLDER / file, folder / file)
    table.to_csv(folder / "metadata.csv", index=False)
    return folder


def train(corpus: Path, folder: Path, *options: str) -> MMERConfig:
    main(["train", "--corpus", "folder", "--corpus_dir", str(corpus), *SMALL, "--output_dir", str(folder), *options])
    return MMERConfig.from_pretrained(folder)


@pytest.fixture(scope="module")
def cached_run(shared_hub, corpus, tmp_path_factory) -> Path:
    """Trained by name over a feature cache, which lies beside the run's folder."""
    folder = tmp_path_factory.mktemp("cached")
    with offline(shared_hub):
        train(corpus, folder / "run", *ENCODERS, "--feature_cache", str(folder / "features"))
    return folder / "run"


def audio_weights(model) -> torch.Tensor:
    return model.base_model.encoders["audio"].encoder.conv1.weight


def stored_audio_weights(folder: Path) -> torch.Tensor:
    return WhisperModel.from_pretrained(folder).encoder.conv1.weight


def says(capsys, *argv: str) -> str:
    """The message that a command ends with: one line, and no traceback."""
    with pytest.raises(SystemExit) as end:
        main(list(argv))
    assert end.value.code == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mmer")]
    assert "couldn't connect" not in line and "Traceback" not in line
    return line


# ── commands by name ────────────────────────────────────────────────────────────────────────────────────────────────


def test_training_with_a_cache_keeps_the_commits(cached_run):
    config = MMERConfig.from_pretrained(cached_run)
    assert (config.audio_encoder_name_or_path, config.audio_encoder_revision) == (AUDIO, FIRST)
    assert (config.text_encoder_name_or_path, config.text_encoder_revision) == (TEXT, FIRST)
    notes = {path.name for path in (cached_run.parent / "features" / COMMITS).iterdir()}
    assert notes == {f"tiny--whisper.en@{FIRST}", f"tiny--roberta@{FIRST}"}


def test_a_trained_model_is_evaluated_and_fine_tuned_by_name(hub, cached_run, corpus, tmp_path, caplog):
    put(hub, "someone/mmer", cached_run, SECOND)
    before = set((cached_run.parent / "features").rglob("*.safetensors"))
    features = ["--feature_cache", str(cached_run.parent / "features")]
    where = ["--corpus", "folder", "--corpus_dir", str(corpus), "--use_cpu", "true", "--disable_tqdm", "true"]
    main(["eval", "someone/mmer", *where, *features, "--output_dir", str(tmp_path / "eval")])
    results = json.loads((tmp_path / "eval" / "results.json").read_text())
    trained = json.loads((cached_run / "results.json").read_text())
    assert results["model"] == "someone/mmer"
    for figure in ("ua", "valence_ccc"):
        found, expected = (of["splits"]["test"]["audio"][figure] for of in (results, trained))
        assert found == pytest.approx(expected, abs=1e-6)
    config = train(corpus, tmp_path / "tuned", "--model", "someone/mmer", *features)
    assert (config.audio_encoder_name_or_path, config.audio_encoder_revision) == (AUDIO, FIRST)
    assert before and set((cached_run.parent / "features").rglob("*.safetensors")) == before  # nothing anew
    assert "encoded again" not in caplog.text


def test_an_export_by_name_loads_by_name_elsewhere(hub, cached_run, tmp_path):
    """In one process each: the export verifies itself, and then every way of loading it, by its own hub name too."""
    put(hub, "someone/mmer", cached_run)
    main(["export", "someone/mmer", "--output_dir", str(tmp_path / "light"), "--form", "light"])
    assert {"README.md", "results.json"} <= {path.name for path in (tmp_path / "light").iterdir()}  # the card too
    config = json.loads((tmp_path / "light" / "config.json").read_text())
    assert (config["audio_encoder_revision"], config["text_encoder_revision"]) == (FIRST, FIRST)
    put(hub, "someone/light", tmp_path / "light")
    point(hub, AUDIO, SECOND)  # what is pinned does not move
    inputs = [{"text": "I am so glad."}, {"audio": str(DEMO_FOLDER / "audio" / "test_001.opus")}]
    found = json.loads(elsewhere(LOADED, "someone/light", json.dumps(inputs), folder=tmp_path / "elsewhere"))
    model = MMERForEmotionRecognition.from_pretrained(cached_run).eval()
    processor = MMERProcessor.from_pretrained(cached_run)
    with torch.no_grad():
        batch = processor(audio=[None, inputs[1]["audio"]], text=[inputs[0]["text"], None])
        logits = model(**batch).logits
    name, values = found["AutoModelForAudioClassification"]
    assert name == "MMERForEmotionRecognition"
    assert torch.tensor(values) == pytest.approx(logits, abs=1e-5)
    assert found["pipeline"][0] == found["again"][0] == "MMERPipeline"


def test_a_self_contained_model_becomes_a_light_one_at_the_commits_of_its_weights(hub, encoders):
    model = MMERForEmotionRecognition.from_audio_text_pretrained(AUDIO, TEXT, hidden_size=16).make_self_contained()
    assert model.config.audio_encoder_revision is None
    model.make_light(AUDIO, TEXT)
    assert (model.config.audio_encoder_revision, model.config.text_encoder_revision) == (FIRST, FIRST)
    point(hub, AUDIO, SECOND)
    with pytest.raises(ValueError, match=f"does not have the weights of {AUDIO}"):
        model.make_light(AUDIO, TEXT)


def test_a_grid_by_name_records_its_commits_and_refuses_others(hub, corpus, tmp_path, capsys):
    command = ["reproduce", "--corpus", "folder", "--corpus_dir", str(corpus), *ENCODERS, *SMALL, "--only", "probe"]
    command += ["--feature_cache", str(tmp_path / "features"), "--output_dir", str(tmp_path / "tables")]
    main(command)
    record = json.loads(next((tmp_path / "tables" / "runs").glob("*.json")).read_text())
    assert record["settings"]["audio_encoder"] == f"{AUDIO}@{FIRST}"
    assert record["settings"]["text_encoder_revision"] == FIRST
    point(hub, AUDIO, SECOND)
    assert "audio_encoder_revision" in says(capsys, *command)
    main([*command, "--audio_encoder_revision", FIRST])


def test_a_data_set_by_name(hub, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "data").mkdir()
    for split in ("train", "test"):
        rows = pd.DataFrame({"text": [f"one of {split}", "two"], "emotion": ["anger", "neutral"]})
        rows.to_csv(tmp_path / "data" / f"{split}.csv", index=False)
    put(hub, "someone/spoken", tmp_path / "data", kind="datasets")
    describe = ["corpus", "describe", "--output_dir", str(tmp_path / "out"), "--corpus"]
    main([*describe, "hf:someone/spoken"])
    assert json.loads((tmp_path / "out" / "corpus.json").read_text())["corpus"] == "spoken"
    capsys.readouterr()
    line = says(capsys, *describe, "hf:someone/nope")
    assert "`hf download someone/nope --repo-type dataset`" in line and "someone/nope" in line
    assert "there is no folder ./nope" in says(capsys, *describe, "hf:./nope")
    for nothing in ("hf:", "hf: ", "hf:/"):
        assert "names no data set" in says(capsys, *describe, nothing)


def test_a_recogniser_by_name_and_another_commit_of_it(hub, corpus, tmp_path, caplog):
    recogniser = make_whisper(tmp_path / "recogniser")
    put(hub, "tiny/recogniser", recogniser)
    own = Path(shutil.copytree(corpus, tmp_path / "corpus"))
    options = [*ENCODERS, "--transcribe", "tiny/recogniser", "--feature_cache", str(tmp_path / "features")]
    train(own, tmp_path / "run", *options)
    (file,) = (own / "transcripts").iterdir()
    heard = file.read_bytes()
    assert len(heard.splitlines()) > 1 and "transcribed again" not in caplog.text
    put(hub, "tiny/recogniser", recogniser, SECOND)
    corpus = load_corpora("folder", own, emotion_labels=["neutral", "happiness", "sadness", "anger"])
    transcribe(corpus, "tiny/recogniser", show_progress=False)
    assert len(list((own / "transcripts").iterdir())) == 2 and file.read_bytes() == heard
    assert f"tiny/recogniser is at commit {SECOND}" in caplog.text and "transcribed again" in caplog.text
    caplog.clear()
    point(hub, "tiny/recogniser", FIRST)
    transcribe(corpus, "tiny/recogniser", show_progress=False)  # nothing to do, and nothing to say
    assert not caplog.text


# ── what the README and the guides say ──────────────────────────────────────────────────────────────────────────────


def documented_commands() -> list[str]:
    """The training commands of README and guides whose encoders are named, or are the paper's by default."""
    pages = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
    blocks = [b for page in pages for b in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)]
    lines = [line for block in blocks for line in block.splitlines() if "train.py" in line and "--model" not in line]
    return [line for line in lines if "demo.yaml" in line or "--corpus folder" in line]


@pytest.mark.parametrize("command", documented_commands())
def test_documented_commands_by_name(command, hub, corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    words = shlex.split(command.replace("path/to/corpus", str(corpus)), comments=True)
    options = words[words.index("train.py") + 1 :] + ["--corpus", "folder", "--corpus_dir", str(corpus)]
    options += [*SMALL, "--label_scale", "1", "7", "--output_dir", str(tmp_path / "run")]
    if "--feature_cache" in options or "recipes/demo.yaml" in options:
        options += ["--feature_cache", str(tmp_path / "features")]  # not the checkout's own
    main(["train", *options])
    config = MMERConfig.from_pretrained(tmp_path / "run")
    assert config.audio_encoder_name_or_path in {*NAMED, None}


# ── commits ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def cached_names(features: Path) -> set[str]:
    names = set()
    for path in features.rglob("*.safetensors"):
        with safe_open(path, framework="pt") as shard:
            names.update(shard.keys())
    return names


def test_another_commit_under_the_same_name_is_encoded_anew_and_said(hub, cached_run, corpus, tmp_path, caplog):
    features = Path(shutil.copytree(cached_run.parent / "features", tmp_path / "features"))
    before = cached_names(features)
    point(hub, AUDIO, SECOND)
    config = train(corpus, tmp_path / "moved", *ENCODERS, "--feature_cache", str(features))
    assert (config.audio_encoder_revision, config.text_encoder_revision) == (SECOND, FIRST)
    recordings = set(pd.read_csv(corpus / "metadata.csv")["audio"].dropna())
    assert len(cached_names(features) - before) == len(recordings)  # no text anew
    assert f"has states of {AUDIO} at commit {FIRST}, but this model uses commit {SECOND}" in caplog.text


def test_a_checkpoint_loads_the_commit_it_was_trained_over(hub, cached_run, encoders):
    point(hub, AUDIO, SECOND)
    pinned = MMERForEmotionRecognition.from_pretrained(cached_run)
    assert torch.equal(audio_weights(pinned), stored_audio_weights(encoders[0]["audio"]))
    newest = MMERForEmotionRecognition.from_audio_text_pretrained(AUDIO, TEXT, hidden_size=16)
    assert torch.equal(audio_weights(newest), stored_audio_weights(encoders[1]["audio"]))
    assert newest.config.audio_encoder_revision == SECOND


def test_a_light_checkpoint_without_commits_gets_those_it_is_loaded_with(hub, cached_run, tmp_path):
    old = Path(shutil.copytree(cached_run, tmp_path / "old"))
    config = json.loads((old / "config.json").read_text())
    (old / "config.json").write_text(json.dumps({k: v for k, v in config.items() if not k.endswith("_revision")}))
    model = MMERForEmotionRecognition.from_pretrained(old)
    assert (model.config.audio_encoder_revision, model.config.text_encoder_revision) == (FIRST, FIRST)


def test_a_branch_is_kept_as_its_commit(hub):
    point(hub, AUDIO, SECOND, branch="next")
    config = MMERConfig.from_audio_text_pretrained(AUDIO, TEXT, audio_encoder_revision="next")
    assert config.audio_encoder_revision == SECOND


def test_a_self_contained_model_has_no_commits_to_choose():
    with pytest.raises(Exception, match="audio_encoder_revision='abc' goes with the name of an encoder"):
        MMERConfig(audio_encoder_revision="abc")


# ── where to look ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_hub_options_reach_the_encoders_and_the_checkpoints_revision_does_not(shared_hub, cached_run, tmp_path):
    """Without the environment: all that says where the models are is an option."""
    cache = copy(shared_hub, tmp_path / "hub")
    put(cache, "someone/mmer", cached_run, SECOND)
    point(cache, "someone/mmer", SECOND, branch="v1")  # of the checkpoint alone
    where = {"cache_dir": str(cache), "local_files_only": True}
    ways = {
        "class": lambda: MMERForEmotionRecognition.from_pretrained("someone/mmer", revision="v1", **where),
        "auto": lambda: AutoModelForAudioClassification.from_pretrained("someone/mmer", revision="v1", **where),
        "new": lambda: MMERForEmotionRecognition.from_audio_text_pretrained(AUDIO, TEXT, hidden_size=16, **where),
    }
    for way, load in ways.items():
        assert load().config.audio_encoder_revision == FIRST, way


# ── what cannot be had ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "command", [["eval", "runs/nope"], ["export", "runs/nope"], ["train", "--model", "runs/nope"]], ids=lambda c: c[0]
)
def test_a_model_that_is_not_there(command, hub, tmp_path, capsys):
    corpus = [] if command[0] == "export" else ["--corpus", "demo"]
    line = says(capsys, *command, *corpus, "--output_dir", str(tmp_path / "out"))
    assert "no folder runs/nope and no model runs/nope in the local cache" in line
    assert str(hub) in line and "`hf download runs/nope`" in line


@pytest.mark.parametrize(
    "options, expected",
    [
        (["--audio_encoder", "tiny/nope", "--text_encoder", TEXT], "`hf download tiny/nope`"),
        (["--audio_encoder", "./nope", "--text_encoder", TEXT], "no folder ./nope, and no model on the hub"),
        ([*ENCODERS, "--text_encoder_revision", "v9"], "`hf download tiny/roberta --revision v9`"),
        ([*ENCODERS, "--transcribe", "tiny/nope"], "`hf download tiny/nope`"),
    ],
)
def test_an_encoder_that_is_not_there(options, expected, hub, corpus, tmp_path, capsys):
    where = ["--corpus", "folder", "--corpus_dir", str(corpus), "--output_dir", str(tmp_path)]
    assert expected in says(capsys, "train", *where, *options)
    if "--transcribe" not in options:
        assert expected in says(capsys, "reproduce", *where, "--feature_cache", str(tmp_path / "f"), *options)


def test_a_folder_that_is_no_model(hub, cached_run, tmp_path):
    (tmp_path / "run" / "checkpoint-7").mkdir(parents=True)
    (tmp_path / "run" / "checkpoint-7" / "config.json").write_text("{}")
    for load in (MMERForEmotionRecognition.from_pretrained, model_commit):
        with pytest.raises(OSError, match="the folder has no config.json; its subfolder checkpoint-7 has one"):
            load(str(tmp_path / "run"))
        with pytest.raises(OSError, match="is a file"):
            load(str(cached_run / "config.json"))
    with pytest.raises(ValueError, match="tiny/roberta is a model of type roberta, not mmer"):
        model_commit(TEXT)
    with pytest.raises(OSError, match="is a local folder and has no revision main"):
        MMERConfig.from_audio_text_pretrained(str(cached_run), TEXT, audio_encoder_revision="main")


def test_an_empty_name_is_not_the_working_directory(hub, cached_run, corpus, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(cached_run)
    for load in (MMERForEmotionRecognition.from_pretrained, model_commit):
        for name in ("", " "):
            with pytest.raises(OSError, match="name of a model is empty"):
                load(name)
    with pytest.raises(OSError, match="name of a model is empty"):
        MMERConfig.from_audio_text_pretrained("", TEXT)
    assert "name of a model is empty" in says(capsys, "eval", "", "--corpus", "demo", "--output_dir", str(tmp_path))


def test_a_pinned_commit_that_is_not_in_the_cache(hub, cached_run):
    shutil.rmtree(hub / "models--tiny--whisper.en" / "snapshots" / FIRST)
    with pytest.raises(OSError, match=f"`hf download {AUDIO} --revision {FIRST}`"):
        MMERForEmotionRecognition.from_pretrained(cached_run)


@pytest.mark.parametrize(
    "name, file", [(AUDIO, "model.safetensors"), (AUDIO, "preprocessor_config.json"), (TEXT, "t*")]
)
def test_an_encoder_that_was_fetched_in_part(name, file, hub, corpus, tmp_path, capsys):
    """Of a tokenizer without files, transformers would make one that knows no word."""
    for path in (hub / f"models--{name.replace('/', '--')}" / "snapshots" / FIRST).glob(file):
        path.unlink()
    where = ["--corpus", "folder", "--corpus_dir", str(corpus), "--output_dir", str(tmp_path)]
    line = says(capsys, "train", *where, *ENCODERS)
    assert f"{name} cannot be loaded" in line and f"`hf download {name} --revision {FIRST}`" in line


@pytest.mark.parametrize(
    "error, expected",
    [
        (GatedRepoError, "tiny/x is gated: request access at .*/tiny/x, .*hf auth login"),
        (RepositoryNotFoundError, "no folder tiny/x and no model tiny/x on .*hf auth login"),
        (RevisionNotFoundError, "tiny/x has no revision v1"),
        (HfHubHTTPError, "tiny/x at revision v1 cannot be downloaded .*too many$"),
        (RevisionResolutionError, "the hub cannot be reached.*`hf download tiny/x --revision v1`"),
    ],
)
def test_what_the_hub_refuses_is_said_in_one_line(error, expected, monkeypatch):
    response = {} if error is RevisionResolutionError else {"response": Mock(headers={})}

    def resolve(*_, **__):
        raise error("too many\nrequests", **response)

    monkeypatch.setattr(hub_names, "resolve_revision", resolve)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(OSError, match=expected) as said:
        hub_names.commit_of("tiny/x", "v1")
    assert "\n" not in str(said.value)


# ── real models ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_real_encoders_by_name_from_training_to_the_pipeline(corpus, tmp_path):
    names = {"whisper-tiny-en-encoder": "openai/whisper-tiny.en", "minilm": "sentence-transformers/all-MiniLM-L6-v2"}
    for folder, name in names.items():
        put(tmp_path / "hub", name, real_path("models", folder))
    audio, text = names.values()
    with offline(tmp_path / "hub"):
        options = ["--audio_encoder", audio, "--text_encoder", text, "--feature_cache", str(tmp_path / "features")]
        config = train(corpus, tmp_path / "run", *options)
        assert (config.audio_encoder_revision, config.text_encoder_revision) == (FIRST, FIRST)
        put(tmp_path / "hub", "someone/mmer", tmp_path / "run")
        pipe = pipeline("multimodal-emotion-recognition", model="someone/mmer", trust_remote_code=True)
        recording = str(DEMO_FOLDER / "audio" / "test_001.opus")
        outputs = pipe([{"audio": recording}, {"text": "I am so glad."}])
        assert [output["modalities"] for output in outputs] == [["audio"], ["text"]]
        assert outputs[0]["emotion"]["label"] in config.emotion_labels
