"""A third modality takes a config: facial features as vectors, beside audio and text, in all seven combinations,
without a change to the model, the collator, the figures, the reports or the pipeline."""

from dataclasses import field

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import (
    audio_encoder_config,
    labels,
    randomize,
    raw_batch,
    real_input_config,
    real_input_processor,
    text_encoder_config,
)
from datasets import Dataset
from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, BertConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from modeling_mmer import MMERCollator, MMERConfig, MMERForEmotionRecognition, MMERPipeline, MMERTrainer
from modeling_mmer.evaluation.collapse import collapse_distances
from modeling_mmer.evaluation.figures import evaluate_split, flatten, measurable
from modeling_mmer.evaluation.predictions import write_predictions
from modeling_mmer.report.tables import results_table, retrieval_line
from modeling_mmer.training.arguments import RunArguments

ROWS, FRAMES, WIDTH = 4, 6, 5
HAVE_FACES = (True, True, False, True)


@strict
class FaceConfig(MMERConfig):
    """Audio, text and faces; these come as vectors (B, 1, T, D), for no encoder runs here."""

    model_type = "mmer_face"
    sub_configs_defaults = MMERConfig.sub_configs_defaults | {
        "face_config": SubConfigSpec(config_class=AutoConfig, model_type="bert")
    }
    modalities: list[str] | tuple[str, ...] = ("audio", "text", "face")
    face_config: PreTrainedConfig | dict = field(
        default_factory=lambda: BertConfig(num_hidden_layers=0, hidden_size=WIDTH, num_attention_heads=1)
    )


def face_model() -> MMERForEmotionRecognition:
    torch.manual_seed(0)
    config = FaceConfig(
        audio_config=audio_encoder_config("whisper"),
        text_config=text_encoder_config(),
        hidden_size=16,
        num_attention_heads=2,
        intermediate_size=32,
        dropout=0.0,
        audio_context="trimmed",
    )
    return MMERForEmotionRecognition(config)


def face_batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    mask = torch.tensor(HAVE_FACES)[:, None].expand(ROWS, FRAMES).long()
    faces = torch.randn(ROWS, 1, FRAMES, WIDTH, generator=generator)
    return {**raw_batch(), "face_hidden_states": faces, "face_mask": mask}


def test_a_training_step_runs_all_seven_combinations():
    model = face_model().train()
    output = model(**face_batch(), labels=labels())
    assert set(output.combinations) == {
        *("audio", "text", "face"),
        *("audio_text", "audio_face", "text_face"),
        "audio_text_face",
    }
    output.loss.backward()
    assert {"supervised", "mae", "contrastive"} <= set(output.losses)
    assert output.face_embeds.shape == output.text_embeds.shape
    untouched = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert untouched == []
    assert model.model.embedders["face"].projection.weight.grad.abs().sum() > 0


def test_a_row_is_in_the_combinations_that_it_has():
    model = face_model().eval()
    with torch.no_grad():
        output = model(**face_batch(), return_combinations=True)
    # Of the batch's rows 0, 1 and 3 have audio (40, 23 and 61 frames), 0, 2 and 3 text (5, 9 and 2 tokens).
    expected = {
        "face": [True, True, False, True],
        "audio_face": [True, True, False, True],
        "text_face": [True, False, False, True],
        "audio_text": [True, False, False, True],
        "audio_text_face": [True, False, False, True],
    }
    for combination, rows in expected.items():
        assert (~output.combinations[combination]["emotion"].isnan().any(-1)).tolist() == rows


def test_a_missing_face_equals_one_that_was_never_there():
    """Row 2 has no face: what stands in its place does not matter, and the model without faces gives the same."""
    model, batch = face_model().eval(), face_batch()
    noise = {**batch, "face_hidden_states": batch["face_hidden_states"].clone()}
    noise["face_hidden_states"][2] = 1e3
    row = {name: tensor[2:3] for name, tensor in batch.items() if not name.startswith("face")}
    with torch.no_grad():
        expected = model(**row).logits[0]
        for given in (batch, noise):
            torch.testing.assert_close(model(**given).logits[2], expected, atol=1e-5, rtol=1e-5)


def test_the_config_comes_back_from_a_folder(tmp_path):
    face_model().config.save_pretrained(tmp_path)
    config = FaceConfig.from_pretrained(tmp_path)
    assert config.modalities == ["audio", "text", "face"] and config.states_shape("face") == (1, WIDTH)


def test_a_modality_without_a_config_is_refused():
    with pytest.raises(StrictDataclassError, match="gesture_config"):
        MMERConfig(
            audio_config=audio_encoder_config("whisper"),
            text_config=text_encoder_config(),
            modalities=["audio", "text", "gesture"],
        )


# ── beyond the model ────────────────────────────────────────────────────────────────────────────────────────────────

COMBINATIONS = ("audio", "text", "face", "audio_text", "audio_face", "text_face", "audio_text_face")
OTHERS = ("face", "audio_face", "text_face", "audio_text_face")  # than the paper's
LABELS = ("neutral", "happiness", "sadness", "anger")


def real_face_model() -> MMERForEmotionRecognition:
    """A model of faces whose processor takes real recordings and texts."""
    config = real_input_config()
    torch.manual_seed(0)
    sizes = {name: getattr(config, name) for name in ("hidden_size", "num_attention_heads", "intermediate_size")}
    encoders = {"audio_config": config.audio_config, "text_config": config.text_config}
    return randomize(MMERForEmotionRecognition(FaceConfig(**sizes, **encoders, audio_context="trimmed")))


def face_rows(count: int = 70) -> list[dict]:
    """Rows as a data set has them: faces are a column of vectors, two to four of width 5; each third row lacks one of
    the three modalities."""
    generator = np.random.default_rng(0)
    rows = []
    for i in range(count):
        row = {"utterance_id": f"u{i}", "emotion": LABELS[i // 6 % 4], "sentiment": None, "arousal": 1.0 + i % 7}
        row |= {"audio": None, "text": None if i % 6 == 1 else f"number {i}", "face": None}
        if i % 6 != 3:
            row["audio"] = {"array": generator.normal(size=1600).tolist(), "sampling_rate": 16_000}
        if i % 6 != 5:
            row["face"] = generator.normal(size=(2 + i % 3, WIDTH)).tolist()
        rows.append(row | dict.fromkeys(("valence", "dominance", "start", "end", "text_source")))
    return rows


def test_the_collator_takes_vectors_from_a_column():
    config = real_face_model().config
    collate = MMERCollator(real_input_processor(), config.tasks, modalities=config.modalities)
    rows = face_rows(6)
    batch = collate(rows)
    assert {"input_features", "input_ids", "face_hidden_states", "face_mask"} <= set(batch)
    assert batch["face_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 0], [1] * 4, [1, 1, 0, 0], [1, 1, 1, 0], [0] * 4]
    torch.testing.assert_close(batch["face_hidden_states"][1, 0, :3], torch.tensor(rows[1]["face"]))
    only_faces = collate([{"utterance_id": "f", "face": np.ones((3, WIDTH))}])
    assert set(only_faces) == {"face_hidden_states", "face_mask", "labels"}
    with pytest.raises(ValueError, match="Utterance 'bad': face must be a list of vectors"):
        collate([{"utterance_id": "bad", "text": "a", "face": [[1.0, 2.0], [3.0]]}])
    with pytest.raises(ValueError, match="'wide' has face_hidden_states of shape"):
        collate([*rows[:2], {"utterance_id": "wide", "face": [[1.0] * 6]}])


def test_an_evaluation_has_all_seven_combinations_and_the_report_shows_them(tmp_path, capsys):
    rows = Dataset.from_list(face_rows())
    run = RunArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none", disable_tqdm=True)
    trainer = MMERTrainer(real_face_model(), run, eval_dataset=rows, processing_class=real_input_processor())
    figures, predictions = evaluate_split(trainer, rows)
    assert list(figures) == [*COMBINATIONS, "retrieval"]
    has = {m: np.array([row[m] is not None for row in face_rows()]) for m in ("audio", "text", "face")}
    for name in COMBINATIONS:
        complete = np.all([has[m] for m in name.split("_")], axis=0)
        assert figures[name]["n"] == complete.sum()
        predicted = predictions[name]["emotion"][complete].argmax(-1)
        reference = (np.arange(70) // 6 % 4)[complete]
        recalls = [np.mean(predicted[reference == c] == c) for c in range(4)]
        assert figures[name]["ua"] == pytest.approx(np.mean(recalls))
        assert sum(map(sum, figures[name]["confusion_matrix"]["rows"])) == complete.sum()
    directions = ["audio_to_text", "text_to_audio", "audio_to_face", "face_to_audio", "text_to_face", "face_to_text"]
    assert list(figures["retrieval"]) == ["n", *directions]
    assert measurable(rows, trainer.model) - {"score"} == set(flatten({n: f for n, f in figures.items()}))
    figures["collapse"] = collapse_distances(trainer, rows, seed=0)
    assert list(figures["collapse"]) == ["audio", "text", "face"]

    first = [line.split(" | ")[0] for line in results_table(figures).splitlines()[2:]]
    assert first == ["| " + name.replace("_", " + ") for name in ("audio", "text", "audio_text", *OTHERS)]
    assert "audio → face" in retrieval_line(figures)
    write_predictions(tmp_path / "predictions.parquet", rows, predictions, trainer.model.config)
    assert set(pd.read_parquet(tmp_path / "predictions.parquet")["combination"]) == set(COMBINATIONS)
    trainer.evaluate()
    shown = [line.split("  ")[2].strip() for line in capsys.readouterr().out.splitlines() if line.startswith("    ")]
    assert shown == [*(name.replace("_", " + ") for name in COMBINATIONS), "retrieval"]


def test_the_pipeline_takes_faces_beside_recordings_and_texts():
    model = real_face_model()
    processor = real_input_processor()
    parts = {"processor": processor, "tokenizer": processor.tokenizer}
    pipe = MMERPipeline(model=model, feature_extractor=processor.feature_extractor, **parts)
    face = np.random.default_rng(1).normal(size=(3, WIDTH))
    samples = np.random.default_rng(2).normal(size=16_000).astype(np.float32) * 0.1
    alone, beside, without = pipe([{"face": face}, {"face": face, "audio": samples}, {"audio": samples}], batch_size=3)
    assert (alone["modalities"], beside["modalities"]) == (["face"], ["audio", "face"])
    with torch.no_grad():
        states = torch.tensor(face, dtype=torch.float32)[None, None]
        logits = model(face_hidden_states=states, face_mask=torch.ones(1, 3)).logits[0]
    scores = alone["emotion"]["scores"]
    np.testing.assert_allclose([scores[label] for label in LABELS], logits.softmax(-1).numpy(), atol=1e-5)
    (chunk,) = pipe({"face": face, "audio": samples}, return_timestamps=True)["chunks"]
    assert chunk["modalities"] == ["audio"] and chunk["emotion"]["scores"] == pytest.approx(
        without["emotion"]["scores"]
    )
    assert set(pipe.embed({"face": face, "text": "so"})) == {"text", "face"}
    ranking = pipe.retrieve({"face": face}, [{"text": "so"}, {"text": "no"}])
    assert sorted(found["index"] for found in ranking) == [0, 1]
    with pytest.raises(ValueError, match="Input 0: face must be a list of vectors"):
        pipe({"face": [1.0, 2.0]})
    with pytest.raises(ValueError, match="it has neither audio nor text nor face"):
        pipe({"face": None})
