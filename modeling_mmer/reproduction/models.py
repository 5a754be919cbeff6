"""Builds the model of a run."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from ..baselines import CIFMMIN, BaselineConfig, Cascade, CIFMMINTeacher, LateFusion, LinearProbe, SeparateModel
from ..baselines.cif_mmin_training import IMAGINATION_STAGE, TEACHER_STAGE
from ..model.configuration_mmer import MMERConfig
from ..model.modeling_mmer import MMERForEmotionRecognition
from .systems import RIVAL, Run

STAGES = {"cif_mmin_teacher": TEACHER_STAGE, "cif_mmin": IMAGINATION_STAGE}  # systems with their own training procedure
SYSTEMS = {
    "mmer": MMERForEmotionRecognition,
    "probe": LinearProbe,
    "cascade": Cascade,
    "separate": SeparateModel,
    "late_fusion": LateFusion,
    "cif_mmin_teacher": CIFMMINTeacher,
    "cif_mmin": CIFMMIN,
}
EMOTION_ONLY = {"dimensions": []}  # CIF-MMIN is a classifier


def build_model(
    run: Run, encoders: tuple[str, str], fields: Mapping[str, Any], trained: Callable[[str], Path]
) -> PreTrainedModel:
    """Build the model of a run, without encoders: its inputs are encoder states.

    Args:
        encoders: names of the audio and the text encoder.
        fields: fields of the model's config, including those of the run.
        trained: maps the name of a run that this one starts from to the folder of its model.
    """
    if run.system == "mmer":
        return MMERForEmotionRecognition(MMERConfig.from_audio_text_pretrained(*encoders, **fields))
    if run.system == "late_fusion":
        return LateFusion.from_unimodal(
            *(SeparateModel.from_pretrained(trained(name), with_encoders=False) for name in run.needs)
        )
    if run.system == "cif_mmin":
        return CIFMMIN.from_teacher(CIFMMINTeacher.from_pretrained(trained(run.needs[0]), with_encoders=False))
    fields = {**fields, **RIVAL}
    if run.system == "cif_mmin_teacher":
        fields |= EMOTION_ONLY
    if run.combination is not None:
        fields["combination"] = run.combination
    return SYSTEMS[run.system](BaselineConfig.from_audio_text_pretrained(*encoders, **fields))
