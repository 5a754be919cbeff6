"""Shared fixtures: tiny encoders of each kind, created offline, and paths of pretrained encoders and corpora.

The latter are in the folder `MMER_TEST_DATA` (default: `shared`, next to the checkout). Tests that need them are
skipped without them.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from processes import REPOSITORY, process_group, run  # noqa: F401
from transformers import (
    AutoTokenizer,
    BertConfig,
    HubertConfig,
    RobertaConfig,
    Wav2Vec2Config,
    WavLMConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
)

from modeling_mmer import MMERConfig, MMERForEmotionRecognition, MMERProcessor
from modeling_mmer.commands.allocator import keep_freed_memory
from modeling_mmer.corpora.demo import DEMO_FOLDER
from modeling_mmer.model.tasks import Task

keep_freed_memory()

TEST_DATA = Path(os.environ.get("MMER_TEST_DATA", REPOSITORY.parent / "shared"))

# The files that take longest, which go first: one that is left for the end keeps the other workers waiting.
LONGEST_FILES = ("stopping", "reproduce", "real", "resuming", "remote", "baselines", "pipeline", "transformers_suites")

WAVEFORM_ENCODER = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": (8, 8),
    "conv_kernel": (10, 8),
    "conv_stride": (5, 4),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}


def pytest_collection_modifyitems(items):
    order = {f"test_{name}": place for place, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


def audio_encoder_config(kind: str):
    """A tiny audio encoder: `whisper`, or a raw-waveform one with `-group` or `-layer` normalisation."""
    if kind == "whisper":
        return WhisperConfig(
            d_model=16,
            encoder_layers=2,
            encoder_attention_heads=2,
            encoder_ffn_dim=32,
            num_mel_bins=8,
            max_source_positions=50,
            decoder_layers=1,
            decoder_attention_heads=2,
            decoder_ffn_dim=32,
            vocab_size=16,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
        )
    name, norm = kind.split("-")
    config_class = {"hubert": HubertConfig, "wavlm": WavLMConfig, "wav2vec2": Wav2Vec2Config}[name]
    stable = norm == "layer"
    return config_class(**WAVEFORM_ENCODER, feat_extract_norm=norm, do_stable_layer_norm=stable, conv_bias=stable)


def text_encoder_config(kind: str = "roberta"):
    config_class = {"roberta": RobertaConfig, "bert": BertConfig}[kind]
    return config_class(
        vocab_size=50,
        hidden_size=12,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=40,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )


def tasks(emotions, sentiments=(), dimensions=()) -> list[Task]:
    """Tasks on the scale 1 to 7, as of a config with these classes and dimensions."""
    classes = [Task("emotion", tuple(emotions)), Task("sentiment", tuple(sentiments))]
    return classes + [Task(name, scale=(1, 7)) for name in dimensions]


def tiny_config(audio: str = "whisper", text: str = "roberta", **overrides) -> MMERConfig:
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "dropout": 0.0}
    return MMERConfig(
        audio_config=audio_encoder_config(audio), text_config=text_encoder_config(text), **(sizes | overrides)
    )


def tiny_model(seed: int = 0, **kwargs) -> MMERForEmotionRecognition:
    """A model with tiny random encoders inside it (a self-contained one), in evaluation mode.

    All weights are random and of a size that matters, biases and norms too: with small weights, zeros and ones, much
    that should change an output, or should not, would not show.
    """
    torch.manual_seed(seed)
    return randomize(MMERForEmotionRecognition(tiny_config(**kwargs)))


def randomize(model):
    """All weights anew, of a size that matters; the model, in evaluation mode."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "layer_logits" in name:
                parameter.copy_(torch.randn_like(parameter))
            elif parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
            elif "embed" not in name:
                parameter.copy_(torch.randn_like(parameter) / parameter[0].numel() ** 0.5)
            elif "embed_positions" not in name:
                parameter.copy_(torch.randn_like(parameter))
    return model.eval()


def assert_equal_weights(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]):
    """Bit for bit: weights and files are copied. What a copy puts out is compared to rounding, for how a processor adds
    up depends on where in memory the numbers lie."""
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert torch.equal(found[name], values), name


def real_input_config(**overrides) -> MMERConfig:
    """Tiny encoders that take real recordings, up to Whisper's 30 s, and the demo tokenizer's texts."""
    config = tiny_config(**({"audio_context": "trimmed"} | overrides))
    config.text_config.vocab_size = 640
    config.text_config.max_position_embeddings = 130
    config.audio_config.max_source_positions = 1500
    return config


def real_input_processor() -> MMERProcessor:
    tokenizer = AutoTokenizer.from_pretrained(DEMO_FOLDER / "tokenizer")
    return MMERProcessor(WhisperFeatureExtractor(feature_size=8), tokenizer)


def raw_batch(
    audio_lengths=(40, 23, 0, 61), text_lengths=(5, 0, 9, 2), kind: str = "whisper", seed: int = 1
) -> dict[str, torch.Tensor]:
    """Raw inputs with rows of given lengths (frames or samples, and tokens); 0 = the row lacks the modality.

    What lies behind a row's own length is noise: nothing may depend on it.
    """
    generator = torch.Generator().manual_seed(seed)
    rows, batch = len(audio_lengths), {}
    if any(audio_lengths):
        longest = max(audio_lengths)
        mask = (torch.arange(longest) < torch.tensor(audio_lengths)[:, None]).long()
        if kind == "whisper":
            features = torch.randn(rows, 8, longest, generator=generator)
            batch |= {"input_features": features, "input_features_mask": mask}
        else:
            batch |= {"input_values": torch.randn(rows, longest, generator=generator), "input_values_mask": mask}
    if any(text_lengths):
        longest = max(text_lengths)
        mask = (torch.arange(longest) < torch.tensor(text_lengths)[:, None]).long()
        batch["input_ids"] = torch.randint(3, 50, (rows, longest), generator=generator) * mask + (1 - mask)
        batch["attention_mask"] = mask
    return batch


def labels(rows: int = 4, seed: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    of_dimensions = {
        name: 1 + 6 * torch.rand(rows, generator=generator) for name in ("valence", "arousal", "dominance")
    }
    return {
        "emotion": torch.randint(0, 4, (rows,), generator=generator),
        "sentiment": torch.randint(0, 3, (rows,), generator=generator),
        **of_dimensions,
    }


def real_path(*parts: str) -> Path:
    """A path under the test data, or a skip that says what is absent."""
    path = TEST_DATA.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs {'/'.join(parts)} under MMER_TEST_DATA ({TEST_DATA})")
    return path


def made_once(tmp_path_factory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that the first of several workers (pytest-xdist) makes, for all of them."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{folder}.lock"):
        if not (done := folder.with_suffix(".made")).exists():
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def demo_encoders(tmp_path_factory) -> Path:
    def make(folder: Path) -> None:
        made = run("scripts/make_demo_encoders.py", str(folder))
        assert made.returncode == 0, made.stderr

    return made_once(tmp_path_factory, "encoders", make)


@pytest.fixture(scope="session")
def trained(demo_encoders, tmp_path_factory) -> tuple[Path, str]:
    """The demo recipe for two epochs: its output folder, and what it printed. Not to be written to."""

    def make(folder: Path) -> None:
        launch = ("-m", "accelerate.commands.launch", "--num_processes", "1", "train.py")
        options = (*demo_options(demo_encoders, folder / "run"), "--num_train_epochs", "2")
        done = run(*launch, "recipes/demo.yaml", *options)
        assert done.returncode == 0, done.stderr
        (folder / "printed").write_text(done.stdout)

    folder = made_once(tmp_path_factory, "trained", make)
    return folder / "run", (folder / "printed").read_text()


def demo_options(encoders: Path, output: Path) -> list[str]:
    return [
        *("--audio_encoder", str(encoders / "whisper")),
        *("--text_encoder", str(encoders / "roberta")),
        *("--feature_cache", str(encoders / "features")),
        *("--output_dir", str(output)),
    ]


@pytest.fixture(scope="session")
def iemocap(tmp_path_factory):
    """Five sessions of four turns, whose recordings are the demo's."""
    soundfile = pytest.importorskip("soundfile")
    turns, emotions = ("F000", "M000", "F001", "M001"), ("neu", "hap", "sad", "ang")
    root = tmp_path_factory.mktemp("iemocap")
    recordings = iter(sorted((REPOSITORY / "modeling_mmer/corpora/demo_data/audio").glob("*.opus")))
    for session in range(1, 6):
        dialog = f"Ses0{session}F_impro01"
        folder = root / f"Session{session}"
        for part in (f"sentences/wav/{dialog}", "dialog/EmoEvaluation", "dialog/transcriptions"):
            (folder / part).mkdir(parents=True)
        labels, texts = [], []
        for i, (turn, emotion) in enumerate(zip(turns, emotions, strict=True)):
            samples, rate = soundfile.read(next(recordings))
            soundfile.write(folder / f"sentences/wav/{dialog}/{dialog}_{turn}.wav", samples, rate)
            labels.append(f"[{i}.0 - {i + 1}.0]\t{dialog}_{turn}\t{emotion}\t[{i + 1}.0, {4 - i}.0, {2 + i % 2}.0]")
            texts.append(f"{dialog}_{turn} [{i}.0-{i + 1}.0]: turn number {i}")
        (folder / f"dialog/EmoEvaluation/{dialog}.txt").write_text("\n".join(labels))
        (folder / f"dialog/transcriptions/{dialog}.txt").write_text("\n".join(texts))
    return root


@pytest.fixture(scope="session")
def bfloat16_attention() -> None:
    """Skips where torch's own bfloat16 attention fails: with `ATEN_CPU_CAPABILITY=avx2` on a processor that has AMX, it
    packs the keys of long sequences as AMX wants them and then lacks the instructions (torch 2.13)."""
    query = torch.randn(1, 2, 512, 8, dtype=torch.bfloat16)
    try:
        torch.nn.functional.scaled_dot_product_attention(query, query, query)
    except RuntimeError as error:
        pytest.skip(f"torch cannot run bfloat16 attention with these vector instructions: {error}")


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory) -> Path:
    """A folder with a model that takes real recordings; its encoders are tiny and random. Not to be written to."""
    from scorers import save_model

    return made_once(tmp_path_factory, "saved_model", save_model)


@pytest.fixture(scope="session")
def exported_graphs(saved_model, tmp_path_factory) -> Path:
    """That model as ONNX graphs. Not to be written to."""
    from modeling_mmer.commands import main

    pytest.importorskip("onnxruntime")
    command = ["export", str(saved_model), "--format", "onnx", "--output_dir"]
    return made_once(tmp_path_factory, "graphs", lambda folder: main([*command, str(folder)]))
