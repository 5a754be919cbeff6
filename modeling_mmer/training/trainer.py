"""`MMERTrainer`: transformers' Trainer with Eq. 7 as its loss, its terms in the log, and every combination judged at
once.

A batch statistic (CCC, Eq. 6) is that of the global batch over processes; under gradient accumulation it is that of the
micro-batch, for the rows of the other micro-batches are gone by then.
"""

import inspect
import math
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch.utils.data import DataLoader, SequentialSampler
from tqdm.auto import tqdm
from transformers import (
    EvalPrediction,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainingArguments,
    default_data_collator,
)
from transformers.trainer_pt_utils import LengthGroupedSampler, nested_detach
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from ..evaluation.figures import figures_of, measurable
from ..model.embedding import StateMixer
from ..model.losses import total_loss
from .batching import FrameCapBatchSampler, LengthBucketSampler
from .collator import MMERCollator
from .divergence import UTTERANCES, DivergedError, NamingCollator
from .preemption import outlive_termination
from .progress import LogLines, ProgressBar
from .resuming import last_checkpoint, marked_until_whole, remove_broken_off, write_errors_named
from .trainer_options import OF_OWN_METRICS, OPTIONS, refuse_data_parallel, refuse_model, refuse_options

logger = logging.get_logger(__name__)


class MMERTrainer(Trainer):
    """Trains the trainable parts of a [`MMERForEmotionRecognition`] or of a rival (`baselines/`).

    Takes the arguments of `transformers.Trainer`, with these differences. Without a `data_collator`, rows are collated
    by an [`MMERCollator`] around `processing_class`, an [`MMERProcessor`]. Rows reach the collator whole, whatever
    `remove_unused_columns` says. `label_smoothing_factor` smooths the labels of emotion and sentiment. These are
    refused: `compute_loss_func`, the options listed in `trainer_options.py`, adapters of PEFT, and several GPUs without
    a launcher.

    Logs, beside the Trainer's own figures, the mean of every loss term since the last log (`loss_supervised`,
    `loss_mae`, `loss_contrastive`, `loss_emotion`, …; `eval_loss_…` in an evaluation) and, per combination of
    modalities, `eval_audio_ua`, `eval_audio_text_valence_ccc`, …, `eval_retrieval_audio_to_text` and `eval_score`, the
    mean of every UA and CCC; and, with every evaluation of a training run, the layer-mix weights w^m of Eq. 1,
    `audio_layer_0`, `text_layer_0`, …

    A run that is resumed equals the uninterrupted one, on a CPU bit for bit.

    Raises:
        ValueError: an argument is refused, or the validation rows cannot give the figure that the best model is chosen
            by.
        DivergedError: a loss, a gradient or a prediction is NaN or infinite; the message names the batch's utterances.
        WriteError: a checkpoint cannot be written.
    """

    def __init__(self, *args, **kwargs):
        self._starts_anew = False  # only in `train`, and there not of a checkpoint
        arguments = inspect.signature(Trainer.__init__).bind(self, *args, **kwargs).arguments
        arguments.pop("self")
        if arguments.get("compute_loss_func") is not None:
            raise ValueError("compute_loss_func is not supported: the loss is the model's own (Eq. 7).")
        if arguments.get("args") is None:
            arguments["args"] = TrainingArguments("tmp_trainer")  # as the Trainer has it
        if arguments.get("compute_metrics") is None:
            arguments["compute_metrics"] = self._figures
            refuse_options(arguments["args"], OF_OWN_METRICS)
        self._settle(arguments["args"])
        if arguments.get("model") is not None:
            refuse_model(arguments["model"])
        super().__init__(**arguments)
        refuse_data_parallel(self.args)  # now that the Trainer knows whether the model is spread over the GPUs
        self._settle_data()
        self._require_selection()
        if self.pop_callback(PrinterCallback) or self.pop_callback(ProgressCallback):
            self.add_callback(LogLines if self.args.disable_tqdm else ProgressBar)
        self._terms: dict[str, tuple[torch.Tensor, int]] = {}  # sum and count since the last log
        self._utterances: list[str] = []  # of the batch
        self._of_step: list[str] = []  # of all batches since the last step
        self.model.freeze_untrained()

    @staticmethod
    def _settle(args: TrainingArguments):
        """Refuse options that would change nothing, and set those that there is no choice of."""
        refuse_options(args, OPTIONS)
        if args.auto_find_batch_size and getattr(args, "max_frames_per_batch", None) is not None:
            raise ValueError("auto_find_batch_size does not go with max_frames_per_batch, which sizes the batches.")
        if args.ddp_find_unused_parameters is None:
            args.ddp_find_unused_parameters = True  # a batch without text, say, leaves its embedder unused
        args.remove_unused_columns = False  # the collator reads columns that the model never sees

    def _settle_data(self):
        """A collator, and lengths where batches are made by them."""
        processor, config = self.processing_class, self.model.config
        if self.data_collator is default_data_collator and hasattr(processor, "encode_audio"):
            labels = (config.emotion_labels, config.sentiment_labels, config.dimensions)
            self.data_collator = MMERCollator(processor, *labels)
        by_length = self.args.train_sampling_strategy == "group_by_length"
        columns = getattr(self.train_dataset, "column_names", None)
        capped = getattr(self.args, "max_frames_per_batch", None) is not None
        if by_length and not capped and columns is not None and self.args.length_column_name not in columns:
            raise ValueError(
                f"train_sampling_strategy='group_by_length' needs a column `{self.args.length_column_name}` of the "
                "training rows: `batching.with_lengths` adds `length`."
            )

    def call_model_init(self, trial=None):
        """A model from `model_init`, ready to be trained as one that was given."""
        model = super().call_model_init(trial)
        refuse_model(model)
        model.freeze_untrained()
        if self._starts_anew:
            self._calibrate(model)
        return model

    def trainable_parameters(self) -> int:
        """How many parameters the objective trains; those of a term with λ = 0 are not among them."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    def train(self, resume_from_checkpoint=None, *args, **kwargs):
        if resume_from_checkpoint is True:
            resume_from_checkpoint = last_checkpoint(self.args.output_dir)
        if self.args.should_save:
            remove_broken_off(self.args.output_dir)
        self._starts_anew = not resume_from_checkpoint  # a checkpoint brings its statistics
        if self._starts_anew and self.model_init is None:
            self._calibrate(self.model)
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def training_step(self, model, inputs, *args, **kwargs):
        loss = super().training_step(model, inputs, *args, **kwargs)
        if not loss.isfinite():
            terms = [name for name, (total, _) in self._terms.items() if not total.isfinite()]
            what = f"The loss is {loss.item()} (its terms: {', '.join(terms)})"
            raise DivergedError(what, self.state.global_step + 1, self._utterances)
        self._of_step += self._utterances
        return loss

    def _get_grad_norm(self, *args, **kwargs):
        norm = super()._get_grad_norm(*args, **kwargs)
        # A gradient scaler meets infinite gradients on its way to a good scale, and skips the step.
        if self.accelerator.scaler is None and norm is not None and not math.isfinite(norm):
            what = f"The norm of the gradient is {float(norm)}"
            raise DivergedError(what, self.state.global_step + 1, self._of_step)
        self._of_step = []
        return norm

    def _prepare_inputs(self, inputs):
        """Puts the utterances' ids aside: they are for messages, not for the model."""
        self._utterances = inputs.get(UTTERANCES, [])
        return super()._prepare_inputs({name: value for name, value in inputs.items() if name != UTTERANCES})

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Eq. 7: L_S + λ_MAE L_MAE + λ_C L_C, with the λs of the model's config; or a rival's terms and weights."""
        if self.args.label_smoothing_factor:
            inputs = {**inputs, "smoothing": self.args.label_smoothing_factor}
        outputs = model(**inputs)
        loss = total_loss(outputs.losses, self.model.loss_weights)
        for name, term in outputs.losses.items():
            total, count = self._terms.get(name, (0.0, 0))
            self._terms[name] = (total + term.detach().float(), count + 1)
        return (loss, outputs) if return_outputs else loss

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """One forward judges every combination, so each encoder runs once."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
        if not outputs.logits.isfinite().all():  # every row has some modality, so this is no absence
            raise DivergedError("The model predicts NaN or infinity", self.state.global_step, self._utterances)
        predictions: dict[str, Any] = dict(outputs.combinations)
        if outputs.audio_embeds is not None:
            predictions["embeds"] = {"audio": outputs.audio_embeds, "text": outputs.text_embeds}
        if prediction_loss_only:
            return loss, None, None
        return loss, nested_detach(predictions), nested_detach(inputs["labels"])

    def create_model_card(self, *args, **kwargs):
        """The card of the measured results (`report.write_card`), where there is one, is not written over by a push."""
        if not Path(self.args.output_dir, "README.md").is_file():
            super().create_model_card(*args, **kwargs)

    def _get_train_sampler(self, train_dataset=None):
        args = self.args
        seed = args.seed if args.data_seed is None else args.data_seed
        if (cap := getattr(args, "max_frames_per_batch", None)) is not None:
            if "frames" not in self.train_dataset.column_names:
                raise ValueError("A cap of frames needs a column `frames`: `batching.with_lengths` adds it.")
            by_length = args.train_sampling_strategy == "group_by_length"
            return FrameCapBatchSampler(
                self.train_dataset["frames"], cap, seed, by_length, args.world_size, args.process_index
            )
        sampler = super()._get_train_sampler(train_dataset)
        if not isinstance(sampler, LengthGroupedSampler):
            return sampler
        return LengthBucketSampler(sampler.lengths, sampler.batch_size, seed)

    def _run_epoch(self, *args, epoch, train_dataloader, **kwargs):
        """Tells the samplers their epoch: accelerate does not where it shares out the batches of a resumed run. And a
        run that was resumed at its end takes no further step."""
        if self.control.should_training_stop or self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        sampler = train_dataloader.batch_sampler
        while sampler is not None:
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(epoch)
            sampler = getattr(sampler, "batch_sampler", getattr(sampler, "sampler", None))
        super()._run_epoch(*args, epoch=epoch, train_dataloader=train_dataloader, **kwargs)

    def _get_eval_sampler(self, eval_dataset):
        """The corpus's own order: predictions stay joined to their rows, and retrieval groups are always the same."""
        return SequentialSampler(eval_dataset)

    def _get_dataloader(self, *args, is_training=False, **kwargs):
        """`dataloader_drop_last` is for training: an evaluation counts every row. Batches know their utterances."""
        drop_last, collator = self.args.dataloader_drop_last, self.data_collator
        try:
            self.args.dataloader_drop_last = drop_last and is_training
            self.data_collator = NamingCollator(collator)
            loader = super()._get_dataloader(*args, is_training=is_training, **kwargs)
        finally:
            self.args.dataloader_drop_last, self.data_collator = drop_last, collator
        base = getattr(loader, "base_dataloader", loader)
        base.worker_init_fn = partial(outlive_termination, base.worker_init_fn)
        return loader

    def _save_checkpoint(self, model, trial):
        folder = Path(self._get_output_dir(trial), f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")
        with marked_until_whole(folder) if self.args.should_save else write_errors_named(folder):
            super()._save_checkpoint(model, trial)

    def _save_rng_state(self, output_dir):
        """The last that other processes write: a checkpoint is whole with `trainer_state.json`, which follows."""
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()

    def _evaluate(self, *args, **kwargs):
        metrics = super()._evaluate(*args, **kwargs)
        if not self.is_fsdp_enabled:  # a process then holds no whole parameter
            self.log(layer_weights(self.model))
        return metrics

    def evaluation_loop(self, *args, **kwargs):
        training_terms, self._terms = self._terms, {}
        device = self.args.device
        own = {"devices": [] if device.type in ("cpu", "mps") else [device], "device_type": device.type}
        with torch.random.fork_rng(**own):  # a data loader draws, and training is to go on as without evaluation
            output = super().evaluation_loop(*args, **kwargs)
        prefix = kwargs.get("metric_key_prefix", "eval")
        output.metrics.update({f"{prefix}_loss_{name}": mean for name, mean in self._mean_terms().items()})
        self._terms = training_terms
        return output

    def log(self, logs, start_time=None):
        if "loss" in logs:  # a step of training; an evaluation has added its own terms
            logs |= {f"loss_{name}": mean for name, mean in self._mean_terms().items()}
            self._terms.clear()
        super().log(logs, start_time)

    def _mean_terms(self) -> dict[str, float]:
        """The mean of each term since the last log, over all processes."""
        own = {name: (float(total), count) for name, (total, count) in self._terms.items()}
        sums = defaultdict(lambda: (0.0, 0))
        for of_process in gather_object([own]):
            for name, (total, count) in of_process.items():
                sums[name] = (sums[name][0] + total, sums[name][1] + count)
        return {name: total / count for name, (total, count) in sums.items()}

    def _figures(self, prediction: EvalPrediction) -> dict[str, float]:
        return figures_of(prediction.predictions, prediction.label_ids, self.model.config.dimensions)

    def _require_selection(self):
        """Raise a ValueError, before any work, if no evaluation can give `metric_for_best_model`."""
        metric, figures = self.args.metric_for_best_model, self.compute_metrics
        if metric is None or self.args.eval_strategy == "no" or "loss" in metric or figures != self._figures:
            return
        splits = self.eval_dataset if isinstance(self.eval_dataset, dict) else {"": self.eval_dataset}
        known = set()
        for name, rows in splits.items():
            of_split = set() if self.args.prediction_loss_only else measurable(rows, self.model)
            if of_split is None:
                return  # nobody knows what a collator makes of these rows
            known |= {f"{name}_{figure}" if name else figure for figure in of_split}
        if metric.removeprefix("eval_") not in known:
            given = f"give {', '.join(sorted(known))}" if known else "hold no label that the model knows"
            raise ValueError(
                f"The validation rows cannot give {metric}, by which the best model is chosen: they {given}. Map the "
                "columns and classes of their labels (--column_map, --label_map, --emotion_labels), or choose by the "
                "loss (--metric_for_best_model loss --greater_is_better false)."
            )

    def _calibrate(self, model):
        """Set the statistics of `state_normalization="standardize"` from the training set, once."""
        core = model.base_model
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
    """w^m of Eq. 1 of every mixer in a model: `audio_layer_0`, …, numbered as the encoder's layers."""
    weights = {}
    for name, mixer in model.named_modules():
        if isinstance(mixer, StateMixer):
            path = "_".join(part for part in name.split(".") if part not in ("model", "embedders"))
            layers = getattr(model.config, f"{name.rpartition('.')[2]}_layers", None) or range(mixer.states_shape[0])
            values = mixer.layer_weights.detach().tolist()
            weights |= {f"{path}_layer_{n}": value for n, value in zip(layers, values, strict=False)}
    return weights
