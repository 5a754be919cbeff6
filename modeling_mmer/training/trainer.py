"""`MMERTrainer`: trains with Eq. 7, logs its terms, and evaluates all combinations of modalities in one pass.

Losses over a batch (CCC, Eq. 6) use the global batch of all processes. With gradient accumulation, they use the
micro-batch.
"""

import inspect
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import (
    EvalPrediction,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainingArguments,
    default_data_collator,
)
from transformers.trainer_pt_utils import nested_detach
from transformers.utils import logging

from ..evaluation.figures import figures_of, measurable
from ..model.embedding import StateMixer
from .collator import MMERCollator
from .gradients import gradient_figures, refuse_gradients
from .progress import LogLines, ProgressBar
from .resumable_trainer import DivergedError, ResumableTrainer, split_ids
from .trainer_options import OF_OWN_METRICS, OPTIONS, refuse_data_parallel, refuse_model, refuse_options

logger = logging.get_logger(__name__)


class MMERTrainer(ResumableTrainer):
    """Trains a [`MMERForEmotionRecognition`] or a baseline (`baselines/`).

    Takes the arguments of `transformers.Trainer`, with these differences: The default `data_collator` is an
    [`MMERCollator`] with `processing_class`, an [`MMERProcessor`]. The collator always gets all columns, as if
    `remove_unused_columns` were false. `label_smoothing_factor` applies to all class tasks. Not supported are
    `compute_loss_func`, the options in `trainer_options.py`, PEFT adapters, and several GPUs without a launcher.

    In addition to what the Trainer logs, it logs:

    - the mean of each loss term since the last log: `loss_supervised`, `loss_mae`, `loss_contrastive`, `loss_emotion`,
      …, and `eval_loss_…` in an evaluation;
    - the metrics of each combination of modalities: `eval_audio_ua`, `eval_audio_text_valence_ccc`, …,
      `eval_retrieval_audio_to_text`, and `eval_score`, the mean of all UA and CCC;
    - with `log_gradients`, the gradient of each term on the shared transformer (`gradients.py`): `grad_norm_mae`,
      `grad_cosine_mae`, …, means since the last log;
    - with each evaluation during training, the layer weights w^m of Eq. 1: `audio_layer_0`, `text_layer_0`, …

    Raises:
        ValueError: an argument is not supported, or the validation rows cannot give `metric_for_best_model`.
        DivergedError: a loss, gradient or prediction is NaN or infinite. The message names the utterances of the batch.
        WriteError: a checkpoint cannot be written.
    """

    def __init__(self, *args, **kwargs):
        self._terms: dict[
            str, tuple[torch.Tensor, torch.Tensor]
        ] = {}  # figure of the log → sum and count since the last one
        self._measured_step = -1  # the last whose gradients were measured
        arguments = inspect.signature(Trainer.__init__).bind(self, *args, **kwargs).arguments
        arguments.pop("self")
        if arguments.get("compute_loss_func") is not None:
            raise ValueError("compute_loss_func is not supported: the loss is the model's own (Eq. 7).")
        if arguments.get("args") is None:
            arguments["args"] = TrainingArguments("tmp_trainer")  # as the Trainer has it
        if arguments.get("compute_metrics") is None:
            arguments["compute_metrics"] = self._figures
            refuse_options(arguments["args"], OF_OWN_METRICS)
        self._check_options(arguments["args"])
        if arguments.get("model") is not None:
            refuse_model(arguments["model"])
        super().__init__(**arguments)
        if getattr(self.args, "log_gradients", 0):
            refuse_gradients(self)
        refuse_data_parallel(self.args)  # the Trainer has decided about model parallelism by now
        self._check_data()
        self._require_selection()
        if self.pop_callback(PrinterCallback) or self.pop_callback(ProgressCallback):
            self.add_callback(LogLines if self.args.disable_tqdm else ProgressBar)
        self.model.freeze_untrained()

    @staticmethod
    def _check_options(args: TrainingArguments):
        """Refuse options that are not supported, and set those that must have a certain value."""
        refuse_options(args, OPTIONS)
        if args.auto_find_batch_size and getattr(args, "max_frames_per_batch", None) is not None:
            raise ValueError("auto_find_batch_size cannot be used with max_frames_per_batch.")
        if args.ddp_find_unused_parameters is None:
            args.ddp_find_unused_parameters = True  # a batch without text does not use the text embedder
        args.remove_unused_columns = False  # the collator needs columns that are not inputs of the model

    def _check_data(self):
        """Set the default collator, and require the column that batches by length need."""
        processor = self.processing_class
        if self.data_collator is default_data_collator and hasattr(processor, "encode_audio"):
            config = self.model.config
            self.data_collator = MMERCollator(processor, config.tasks, modalities=config.modalities)
        by_length = self.args.train_sampling_strategy == "group_by_length"
        columns = getattr(self.train_dataset, "column_names", None)
        capped = getattr(self.args, "max_frames_per_batch", None) is not None
        if by_length and not capped and columns is not None and self.args.length_column_name not in columns:
            raise ValueError(
                f"train_sampling_strategy='group_by_length' needs a column `{self.args.length_column_name}` of the "
                "training rows: add `length` with `batching.with_lengths`."
            )

    def call_model_init(self, trial=None):
        """Without it, models from `model_init` would not be checked, and would train parts without a loss."""
        model = super().call_model_init(trial)
        refuse_model(model)
        model.freeze_untrained()
        return model

    def trainable_parameters(self) -> int:
        """Number of trained parameters, without those of a term with λ = 0."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    def get_train_dataloader(self):
        """Without it, `state_normalization="standardize"` would have no statistics in the first batch."""
        loader = super().get_train_dataloader()
        if self.resumed_from is None:  # otherwise the checkpoint has the statistics
            self.calibrate()
        return loader

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Without it, the terms of Eq. 7 would not be logged, and label smoothing would expect one label tensor."""
        if self.args.label_smoothing_factor:
            inputs = {**inputs, "smoothing": self.args.label_smoothing_factor}
        outputs = model(**inputs)
        figures = {f"loss_{name}": term for name, term in outputs.losses.items()}
        if model.training and self._is_measured():
            core = self.accelerator.unwrap_model(model)
            figures |= gradient_figures(outputs.losses, core.loss_weights, core.base_model.transformer)
        for name, figure in figures.items():
            total, count = self._terms.get(name, (0.0, 0))
            figure = figure.detach().float()
            judged = ~figure.isnan()  # a task of which the batch has no label has no mean
            self._terms[name] = (total + torch.where(judged, figure, 0.0), count + judged)
        # The model has weighted and summed the terms: the λs are in its config, and any other Trainer needs `loss`.
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def _is_measured(self) -> bool:
        """Whether the gradients of this batch are measured: the first of every `log_gradients`-th step."""
        step, every = self.state.global_step, getattr(self.args, "log_gradients", 0)
        if not every or step % every or step == self._measured_step:
            return False
        self._measured_step = step
        return True

    def loss_details(self) -> str:
        terms = [name.removeprefix("loss_") for name, (total, _) in self._terms.items() if not total.isfinite()]
        return f" (its terms: {', '.join(terms)})"

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Without it, only the fullest combination would be evaluated. One forward pass gives all of them."""
        ids, inputs = split_ids(inputs)
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
        if not outputs.logits.isfinite().all():  # not a missing modality: each row has at least one
            raise DivergedError("The model predicts NaN or infinity", self.state.global_step, ids)
        predictions: dict[str, Any] = dict(outputs.combinations)
        embeds = {m: outputs.get(f"{m}_embeds") for m in self.model.config.modalities}
        if None not in embeds.values():
            predictions["embeds"] = embeds
        if prediction_loss_only:
            return loss, None, None
        return loss, nested_detach(predictions), nested_detach(inputs["labels"])

    def create_model_card(self, *args, **kwargs):
        """Without it, a push would overwrite the model card with the results (`report.write_card`)."""
        if not Path(self.args.output_dir, "README.md").is_file():
            super().create_model_card(*args, **kwargs)

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):
        """Without it, the layer weights would not be logged."""
        metrics = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        # Once for several evaluation sets; and under FSDP no process has the full parameters.
        if self.is_in_train and metric_key_prefix == "eval" and not self.is_fsdp_enabled:
            self.log(layer_weights(self.model))
        return metrics

    def evaluation_loop(self, *args, **kwargs):
        """Without it, the loss terms of an evaluation would be added to those of training."""
        training_terms, self._terms = self._terms, {}
        output = super().evaluation_loop(*args, **kwargs)
        prefix = kwargs.get("metric_key_prefix", "eval")
        output.metrics.update({f"{prefix}_{name}": mean for name, mean in self._mean_terms().items()})
        self._terms = training_terms
        return output

    def log(self, logs, start_time=None):
        """Without it, the log would only have the sum of the terms of Eq. 7."""
        if "loss" in logs:  # of training: `evaluation_loop` adds the terms of an evaluation
            logs |= self._mean_terms()
            self._terms.clear()
        super().log(logs, start_time)

    def _mean_terms(self) -> dict[str, float]:
        """The mean of each term and of each figure of gradients since the last log, over all processes."""
        own = {name: (float(total), int(count)) for name, (total, count) in self._terms.items()}
        sums = defaultdict(lambda: (0.0, 0))
        for of_process in gather_object([own]):
            for name, (total, count) in of_process.items():
                sums[name] = (sums[name][0] + total, sums[name][1] + count)
        return {name: total / count for name, (total, count) in sums.items() if count}

    def _figures(self, prediction: EvalPrediction) -> dict[str, float]:
        return figures_of(prediction.predictions, prediction.label_ids, self.model.config.trained_tasks)

    def _require_selection(self):
        """Raise a ValueError if an evaluation cannot give `metric_for_best_model`."""
        metric, figures = self.args.metric_for_best_model, self.compute_metrics
        if metric is None or self.args.eval_strategy == "no" or "loss" in metric or figures != self._figures:
            return
        splits = self.eval_dataset if isinstance(self.eval_dataset, dict) else {"": self.eval_dataset}
        known = set()
        for name, rows in splits.items():
            of_split = set() if self.args.prediction_loss_only else measurable(rows, self.model)
            if of_split is None:
                return  # unknown: the labels are not in columns of a `Dataset`
            known |= {f"{name}_{figure}" if name else figure for figure in of_split}
        if metric.removeprefix("eval_") not in known:
            given = f"give {', '.join(sorted(known))}" if known else "hold no label that the model knows"
            raise ValueError(
                f"The validation rows cannot give {metric}, which selects the best model: they {given}. Map their "
                "labels (--column_map, --label_map, --emotion_labels), or select by the loss (--metric_for_best_model "
                "loss --greater_is_better false)."
            )

    def calibrate(self):
        """Compute the statistics of `state_normalization="standardize"` from the training set, if there are none."""
        core = self.model.base_model
        standardizers = [e.standardizer for e in core.embedders.values() if e.standardizer is not None]
        if all(standardizer.calibrated for standardizer in standardizers):
            return
        logger.info("Calibrating the state normalization on the training utterances")
        by = self.args.length_column_name
        lengths = self.train_dataset[by] if by in (getattr(self.train_dataset, "column_names", None) or ()) else None
        order = range(len(self.train_dataset)) if lengths is None else torch.tensor(lengths).argsort(stable=True)
        rank, world = self.args.process_index, self.args.world_size
        loader = DataLoader(
            self.train_dataset,
            batch_size=self.args.per_device_train_batch_size,
            sampler=[int(i) for i in order][rank::world],
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
        )
        core.to(self.args.device).calibrate(
            {k: v for k, v in self._prepare_inputs(batch).items() if k != "labels"}
            for batch in tqdm(loader, desc="Calibrating", disable=self.args.disable_tqdm or rank != 0)
        )


def layer_weights(model) -> dict[str, float]:
    """The layer weights w^m of Eq. 1: `audio_layer_0`, …, numbered like the layers of the encoder."""
    weights = {}
    for name, mixer in model.named_modules():
        if isinstance(mixer, StateMixer):
            path = "_".join(part for part in name.split(".") if part not in ("model", "embedders"))
            layers = getattr(model.config, f"{name.rpartition('.')[2]}_layers", None) or range(mixer.states_shape[0])
            values = mixer.layer_weights.detach().tolist()
            weights |= {f"{path}_layer_{n}": value for n, value in zip(layers, values, strict=False)}
    return weights
