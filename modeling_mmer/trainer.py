"""`MMERTrainer`: transformers' Trainer with Eq. 7 as its loss, its terms in the log, and every combination judged at
once.

A batch statistic (CCC, Eq. 6) is that of the global batch over processes; under gradient accumulation it is that of the
micro-batch, for the rows of the other micro-batches are gone by then.
"""

from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch.utils.data import DataLoader, SequentialSampler
from tqdm.auto import tqdm
from transformers import EvalPrediction, Trainer
from transformers.trainer_pt_utils import LengthGroupedSampler, nested_detach
from transformers.utils import logging

from .batching import FrameCapBatchSampler, LengthBucketSampler
from .evaluation import judge
from .losses import total_loss
from .metrics import flatten, score

logger = logging.get_logger(__name__)


class MMERTrainer(Trainer):
    """Trains the trainable parts of a [`MMERForEmotionRecognition`] or of a rival (`baselines/`).

    Takes the arguments of `transformers.Trainer`.

    Logs, beside the Trainer's own figures, the mean of every loss term since the last log (`loss_supervised`,
    `loss_mae`, `loss_contrastive`, `loss_emotion`, …; `eval_loss_…` in an evaluation) and, per combination of
    modalities, `eval_audio_ua`, `eval_audio_text_valence_ccc`, …, `eval_retrieval_audio_to_text` and `eval_score`, the
    mean of every UA and CCC.
    """

    def __init__(self, model, args, **kwargs):
        kwargs.setdefault("compute_metrics", self._figures)
        if args.ddp_find_unused_parameters is None:
            args.ddp_find_unused_parameters = True  # a batch without text, say, leaves its embedder unused
        super().__init__(model, args, **kwargs)
        self._terms: dict[str, tuple[torch.Tensor, int]] = {}  # sum and count since the last log
        model.freeze_untrained()

    def trainable_parameters(self) -> int:
        """How many parameters the objective trains; those of a term with λ = 0 are not among them."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    def train(self, resume_from_checkpoint=None, **kwargs):
        if not resume_from_checkpoint:  # a checkpoint brings its statistics
            self._calibrate()
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)

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
            raise ValueError("The model predicts NaN or infinity: it has diverged. Try a lower learning rate.")
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
        """Tells the samplers their epoch: accelerate does not where it shares out the batches of a resumed run."""
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
        """`dataloader_drop_last` is for training: an evaluation counts every row."""
        asked = self.args.dataloader_drop_last
        try:
            self.args.dataloader_drop_last = asked and is_training
            return super()._get_dataloader(*args, is_training=is_training, **kwargs)
        finally:
            self.args.dataloader_drop_last = asked

    def evaluation_loop(self, *args, **kwargs):
        training_terms, self._terms = self._terms, {}
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
