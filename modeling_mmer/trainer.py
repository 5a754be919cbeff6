"""`MMERTrainer`: transformers' Trainer with Eq. 7 as its loss, its terms in the log, and every combination judged at
once.

A batch statistic (CCC, Eq. 6) is that of the global batch over processes; under gradient accumulation it is that of the
micro-batch, for the rows of the other micro-batches are gone by then.
"""

import math
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch.utils.data import DataLoader, SequentialSampler
from tqdm.auto import tqdm
from transformers import EvalPrediction, PrinterCallback, ProgressCallback, Trainer
from transformers.trainer_pt_utils import LengthGroupedSampler, nested_detach
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from .batching import FrameCapBatchSampler, LengthBucketSampler
from .divergence import UTTERANCES, DivergedError, NamingCollator
from .embedding import StateMixer
from .evaluation import judge
from .losses import total_loss
from .metrics import flatten, score
from .preemption import outlive_termination
from .progress import LogLines, ProgressBar
from .resuming import last_checkpoint, marked_until_whole, remove_broken_off, write_errors_named

logger = logging.get_logger(__name__)


class MMERTrainer(Trainer):
    """Trains the trainable parts of a [`MMERForEmotionRecognition`] or of a rival (`baselines/`).

    Takes the arguments of `transformers.Trainer`.

    Logs, beside the Trainer's own figures, the mean of every loss term since the last log (`loss_supervised`,
    `loss_mae`, `loss_contrastive`, `loss_emotion`, …; `eval_loss_…` in an evaluation) and, per combination of
    modalities, `eval_audio_ua`, `eval_audio_text_valence_ccc`, …, `eval_retrieval_audio_to_text` and `eval_score`, the
    mean of every UA and CCC; and, with every evaluation of a training run, the layer-mix weights w^m of Eq. 1,
    `audio_layer_0`, `text_layer_0`, …

    A run that is resumed equals the uninterrupted one, on a CPU bit for bit.

    Raises:
        DivergedError: a loss, a gradient or a prediction is NaN or infinite; the message names the batch's utterances.
        WriteError: a checkpoint cannot be written.
    """

    def __init__(self, model, args, **kwargs):
        kwargs.setdefault("compute_metrics", self._figures)
        if args.ddp_find_unused_parameters is None:
            args.ddp_find_unused_parameters = True  # a batch without text, say, leaves its embedder unused
        super().__init__(model, args, **kwargs)
        if self.pop_callback(PrinterCallback) or self.pop_callback(ProgressCallback):
            self.add_callback(LogLines if args.disable_tqdm else ProgressBar)
        self._terms: dict[str, tuple[torch.Tensor, int]] = {}  # sum and count since the last log
        self._utterances: list[str] = []  # of the batch
        self._of_step: list[str] = []  # of all batches since the last step
        model.freeze_untrained()

    def trainable_parameters(self) -> int:
        """How many parameters the objective trains; those of a term with λ = 0 are not among them."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    def train(self, resume_from_checkpoint=None, **kwargs):
        if resume_from_checkpoint is True:
            resume_from_checkpoint = last_checkpoint(self.args.output_dir)
        if self.args.should_save:
            remove_broken_off(self.args.output_dir)
        if not resume_from_checkpoint:  # a checkpoint brings its statistics
            self._calibrate()
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)

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
        with torch.random.fork_rng(devices=[]):  # a data loader draws, and training is to go on as without evaluation
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
        results = judge(prediction.predictions, prediction.label_ids, self.model.config.dimensions)
        figures = flatten(results)
        overall = score(results)
        return figures if overall is None else figures | {"score": overall}

    def _calibrate(self):
        """Set the statistics of `state_normalization="standardize"` from the training set, once."""
        core = self.model.base_model
        standardizers = [e.standardizer for e in core.embedders.values() if e.standardizer is not None]
        if all(standardizer.calibrated for standardizer in standardizers):
            return
        logger.info("Calibrating the state normalization on the training utterances")
        lengths = self.train_dataset["length"] if "length" in getattr(self.train_dataset, "column_names", ()) else None
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
