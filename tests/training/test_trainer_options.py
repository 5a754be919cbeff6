"""All options of the Trainer work or are refused, and MMERTrainer accepts the arguments of `transformers.Trainer`."""

import math
from copy import copy
from dataclasses import fields
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from conftest import real_input_config, real_input_processor, tiny_model
from datasets import Dataset
from torch import nn
from trainers import collate, toy_rows, toy_trainer
from transformers import TrainingArguments
from transformers.trainer_pt_utils import AcceleratorConfig

from modeling_mmer import MMERForEmotionRecognition, MMERTrainer
from modeling_mmer.training.arguments import RunArguments
from modeling_mmer.training.collator import MMERCollator
from modeling_mmer.training.trainer_options import OF_COMMANDS, OF_OWN_METRICS, OPTIONS, refuse_model

# What transformers does with these is right here too, or `MMERTrainer` sees to it.
WORKING = """
    output_dir per_device_train_batch_size num_train_epochs max_steps learning_rate lr_scheduler_type
    lr_scheduler_kwargs warmup_steps optim optim_args weight_decay adam_beta1 adam_beta2 adam_epsilon
    optim_target_modules gradient_accumulation_steps max_grad_norm label_smoothing_factor bf16 fp16 bf16_full_eval
    fp16_full_eval tf32 activation_checkpointing activation_checkpointing_kwargs gradient_checkpointing
    gradient_checkpointing_kwargs torch_compile torch_compile_backend torch_compile_mode torch_empty_cache_steps
    auto_find_batch_size logging_strategy logging_steps logging_first_step log_on_each_node logging_nan_inf_filter
    log_level log_level_replica disable_tqdm report_to run_name project trackio_space_id trackio_bucket_id
    trackio_static_space_id eval_strategy eval_steps eval_delay per_device_eval_batch_size eval_on_start
    eval_accumulation_steps save_only_model save_strategy save_steps save_on_each_node save_total_limit push_to_hub
    hub_token hub_private_repo hub_model_id hub_strategy hub_always_push hub_revision load_best_model_at_end
    metric_for_best_model greater_is_better ignore_data_skip restore_callback_states_from_checkpoint full_determinism
    seed data_seed use_cpu dataloader_drop_last dataloader_num_workers dataloader_pin_memory
    dataloader_persistent_workers dataloader_prefetch_factor dataloader_multiprocessing_context dataloader_in_order
    train_sampling_strategy length_column_name ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers
    ddp_static_graph ddp_backend ddp_timeout fsdp fsdp_config deepspeed debug skip_memory_metrics do_eval
    resume_from_checkpoint local_rank
""".split()

REFUSED = {
    "average_tokens_across_devices": False,
    "use_liger_kernel": True,
    "liger_kernel_config": {"rope": True},
    "use_cache": True,
    "neftune_noise_alpha": 5.0,
    "include_num_input_tokens_seen": "all",
    "label_names": ["emotion"],
    "eval_do_concat_batches": False,
    "eval_use_gather_object": True,
    "include_for_metrics": ["inputs"],
    "accelerator_config": {"split_batches": True},
    "parallelism_config": SimpleNamespace(),
}
REFUSED_WITH_OUR_FIGURES = {"batch_eval_metrics": True, "include_for_metrics": ["loss"]}
REFUSED_BY_COMMANDS = {
    "do_train": True,
    "do_predict": True,
    "prediction_loss_only": True,
    "remove_unused_columns": True,
    "enable_jit_checkpoint": True,
}


def trainer_with(folder, **options) -> MMERTrainer:
    """A trainer whose arguments are changed once they are made: some ask for what is not installed."""
    args = TrainingArguments(str(folder), use_cpu=True)
    for name, value in options.items():
        setattr(args, name, AcceleratorConfig(**value) if name == "accelerator_config" else value)
    return MMERTrainer(tiny_model(audio_context="trimmed"), args, collate, toy_rows(8), toy_rows(5))


def test_every_option_of_the_trainer_has_been_looked_at():
    names = {f.name for f in fields(TrainingArguments)}
    assert names <= {*WORKING, *OPTIONS, *OF_OWN_METRICS, *OF_COMMANDS}
    assert not {*WORKING} & {*OPTIONS, *OF_OWN_METRICS}
    assert REFUSED.keys() == OPTIONS.keys() and REFUSED_WITH_OUR_FIGURES.keys() == OF_OWN_METRICS.keys()
    assert REFUSED_BY_COMMANDS.keys() == OF_COMMANDS.keys()


def test_no_default_is_refused(tmp_path):
    assert trainer_with(tmp_path).args.output_dir == str(tmp_path)
    assert RunArguments(output_dir=str(tmp_path), use_cpu=True).output_dir == str(tmp_path)


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_change_nothing_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match=f"^{name}=.* is not supported: "):
        trainer_with(tmp_path, **{name: REFUSED[name]})


@pytest.mark.parametrize("config", [{"dispatch_batches": True}, {"even_batches": False}])
def test_batches_are_not_dealt_out_in_other_ways(config, tmp_path):
    with pytest.raises(ValueError, match="^accelerator_config=.*of equally many rows"):
        trainer_with(tmp_path, accelerator_config=config)


@pytest.mark.parametrize("name", REFUSED_WITH_OUR_FIGURES)
def test_our_figures_refuse_what_other_metrics_may_use(name, tmp_path):
    with pytest.raises(ValueError, match=f"^{name}="):
        trainer_with(tmp_path, **{name: REFUSED_WITH_OUR_FIGURES[name]})


@pytest.mark.parametrize("name", REFUSED_BY_COMMANDS)
def test_commands_refuse_the_options_of_other_scripts(name, tmp_path):
    with pytest.raises(ValueError, match=f"^{name}=True is not supported: "):
        RunArguments(output_dir=str(tmp_path), use_cpu=True, **{name: True})


def test_commands_refuse_to_evaluate_never(tmp_path):
    with pytest.raises(ValueError, match="set --eval_strategy"):
        RunArguments(output_dir=str(tmp_path), do_eval=True, eval_strategy="no", load_best_model_at_end=False)


# ── the arguments of the Trainer ────────────────────────────────────────────────────────────────────────────────────


def test_a_loss_of_the_callers_own_is_refused(tmp_path):
    with pytest.raises(ValueError, match="compute_loss_func is not supported"):
        MMERTrainer(tiny_model(), compute_loss_func=lambda outputs, labels, **_: 0.0)


def test_it_takes_no_arguments_and_a_collator_by_position(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer = MMERTrainer(tiny_model(audio_context="trimmed"), None, collate)
    assert trainer.args.output_dir == "tmp_trainer"
    assert trainer.predict(toy_rows(5)).metrics["test_audio_ua"] >= 0


def test_without_a_collator_rows_go_through_the_processor(tmp_path):
    processor = real_input_processor()
    model = MMERForEmotionRecognition(real_input_config(emotion_labels=["low", "high"]))
    args = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    trainer = MMERTrainer(model, args, processing_class=processor)
    assert trainer.data_collator == MMERCollator(processor, model.config.tasks, modalities=model.config.modalities)
    rows = Dataset.from_dict({"text": ["how nice", "oh no"], "emotion": ["high", None]})
    assert trainer.predict(rows).label_ids["emotion"].tolist() == [1, -100]


def test_a_model_is_made_anew_for_each_run(tmp_path):
    made = []

    def model_init():
        made.append(tiny_model(audio_context="trimmed", lambda_mae=0, state_normalization="standardize"))
        return made[-1]

    args = RunArguments(str(tmp_path), use_cpu=True, report_to="none", num_train_epochs=1, eval_strategy="no",
                        load_best_model_at_end=False, save_strategy="no", disable_tqdm=True)  # fmt: skip
    trainer = MMERTrainer(
        args=args, model_init=model_init, data_collator=collate, train_dataset=toy_rows(16), eval_dataset=toy_rows(5)
    )
    trainer.train()
    assert len(made) == 2 and trainer.model is made[1]
    assert not trainer.model.model.masking.mask_token.requires_grad
    assert trainer.model.model.embedders["audio"].standardizer.calibrated
    assert not made[0].model.embedders["audio"].standardizer.calibrated  # nothing was computed for the first


def test_metrics_of_the_callers_own_may_be_of_batches(tmp_path):
    batches = []

    def compute_metrics(prediction, compute_result):
        batches.append(len(prediction.label_ids["emotion"]))
        return {"batches": len(batches)} if compute_result else {}

    args = TrainingArguments(
        str(tmp_path), use_cpu=True, report_to="none", batch_eval_metrics=True, per_device_eval_batch_size=4
    )
    trainer = MMERTrainer(
        tiny_model(audio_context="trimmed"), args, collate, eval_dataset=toy_rows(10), compute_metrics=compute_metrics
    )
    assert trainer.evaluate()["eval_batches"] == 3 and batches == [4, 4, 2]


def test_a_batch_that_does_not_fit_is_halved(tmp_path):
    trainer = toy_trainer(tmp_path, rows=16, auto_find_batch_size=True, num_train_epochs=1, save_strategy="no",
                          load_best_model_at_end=False)  # fmt: skip
    step, sizes = trainer.compute_loss, []

    def compute_loss(model, inputs, *args, **kwargs):
        sizes.append(len(inputs["labels"]["emotion"]))
        if model.training and sizes[-1] > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return step(model, inputs, *args, **kwargs)

    trainer.compute_loss = compute_loss
    trainer.train()
    tried = list(dict.fromkeys(sizes))
    assert tried[0] == 8 and tried == sorted(tried, reverse=True) and trainer.state.global_step == 4
    with pytest.raises(ValueError, match="auto_find_batch_size cannot be used with max_frames"):
        toy_trainer(tmp_path, auto_find_batch_size=True, max_frames_per_batch=100)


@pytest.mark.parametrize("column", ["length", "tokens"])
def test_lengths_are_read_from_the_column_that_is_named(column, tmp_path):
    options = {"train_sampling_strategy": "group_by_length", "length_column_name": column}
    if column == "tokens":
        with pytest.raises(ValueError, match="needs a column `tokens` of the training rows"):
            toy_trainer(tmp_path, **options)
    else:
        toy_trainer(tmp_path, **options)


# ── where it runs, and what it trains ───────────────────────────────────────────────────────────────────────────────


def test_several_gpus_without_a_launcher_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda args: 2))
    with pytest.raises(ValueError, match="sees 2 GPUs.*accelerate launch"):
        trainer_with(tmp_path)
    with pytest.raises(ValueError, match="sees 2 GPUs.*accelerate launch"):
        RunArguments(output_dir=str(tmp_path), use_cpu=True)


def adapter_of_peft(base: nn.Module) -> nn.Module:
    """What `peft.get_peft_model` puts in the place of a layer, as far as can be told without it."""

    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.base_layer = base

    Linear.__module__ = "peft.tuners.lora.layer"
    return Linear()


def test_adapters_are_refused(tmp_path):
    model = tiny_model()
    model.heads["emotion"][0] = adapter_of_peft(model.heads["emotion"][0])
    for wrapped in (model, adapter_of_peft(tiny_model())):
        with pytest.raises(ValueError, match="PEFT adapters"):
            MMERTrainer(wrapped, TrainingArguments(str(tmp_path), use_cpu=True))
        with pytest.raises(ValueError, match="PEFT adapters"):
            MMERTrainer(None, TrainingArguments(str(tmp_path), use_cpu=True), model_init=partial(copy, wrapped))


def test_a_real_adapter_is_refused():
    peft = pytest.importorskip("peft")
    with pytest.raises(ValueError, match="PEFT adapters"):
        refuse_model(peft.get_peft_model(tiny_model(), peft.LoraConfig(target_modules=["q_proj", "v_proj"])))


def test_other_models_are_refused(tmp_path):
    for model in (tiny_model().model, nn.Linear(2, 2)):
        with pytest.raises(ValueError, match=f"MMERTrainer trains .*not .*{type(model).__name__}"):
            MMERTrainer(model, TrainingArguments(str(tmp_path), use_cpu=True))


# ── what the best model is chosen by ────────────────────────────────────────────────────────────────────────────────


def without_labels(rows: Dataset, *kept: str) -> Dataset:
    nothing = {"emotion": -100, "sentiment": -100, "valence": math.nan, "arousal": math.nan, "dominance": math.nan}
    return rows.map(lambda row: {task: none for task, none in nothing.items() if task not in kept})


def trainer_of(folder, rows, **options):
    args = RunArguments(str(folder), use_cpu=True, **options)
    return MMERTrainer(tiny_model(audio_context="trimmed"), args, collate, toy_rows(8), rows)


def test_a_validation_split_without_labels_is_refused_before_any_work(tmp_path):
    rows = toy_rows(13)
    with pytest.raises(ValueError, match="cannot give score.*hold no label that the model knows.*--column_map"):
        trainer_of(tmp_path, without_labels(rows))
    trainer_of(tmp_path, without_labels(rows, "arousal"))
    trainer_of(tmp_path, without_labels(rows), metric_for_best_model="loss", greater_is_better=False)
    trainer_of(tmp_path, without_labels(rows), metric_for_best_model="eval_loss_mae", greater_is_better=False)


def test_the_figure_that_the_best_model_is_chosen_by_must_be_one_that_the_rows_can_give(tmp_path):
    rows = without_labels(toy_rows(13), "valence")
    trainer_of(tmp_path, rows, metric_for_best_model="eval_text_valence_ccc")
    with pytest.raises(ValueError, match="cannot give audio_ua, .* they give audio_text_valence_ccc, "):
        trainer_of(tmp_path, rows, metric_for_best_model="audio_ua")
    no_audio = rows.map(lambda row: {"audio": None}).filter(lambda row: row["text"] is not None)
    with pytest.raises(ValueError, match="cannot give audio_valence_ccc.*they give score, text_valence_ccc"):
        trainer_of(tmp_path, no_audio, metric_for_best_model="audio_valence_ccc")
    with pytest.raises(ValueError, match="cannot give score"):
        trainer_of(tmp_path, {"a": rows, "b": rows})
    trainer_of(tmp_path, {"a": rows, "b": rows}, metric_for_best_model="b_score")


def test_what_is_said_to_be_measurable_is_what_an_evaluation_measures(tmp_path):
    rows = toy_rows(70, seed=2)
    trainer = trainer_of(tmp_path, rows)
    metrics = {name.removeprefix("eval_") for name in trainer.evaluate()}
    with pytest.raises(ValueError, match="they give") as raised:
        trainer_of(tmp_path, rows, metric_for_best_model="nonsense")
    listed = str(raised.value).partition("they give ")[2].partition(".")[0].split(", ")
    times = {"epoch", "runtime", "samples_per_second", "steps_per_second", "model_preparation_time"}
    assert {*listed} == {name for name in metrics if "loss" not in name} - times
    assert {"score", "audio_ua", "retrieval_audio_to_text"} <= {*listed}
