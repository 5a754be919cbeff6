"""From a run to the model that it trains, and to what trains it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from ..baselines import CIFMMIN, BaselineConfig, Cascade, CIFMMINTeacher, LateFusion, LinearProbe, SeparateModel
from ..baselines.cif_mmin_training import IMAGINATION_STAGE, TEACHER_STAGE
from ..model.configuration_mmer import MMERConfig
from ..model.modeling_mmer import MMERForEmotionRecognition
from .systems import SUPERVISED, Run

STAGES = {"cif_mmin_teacher": TEACHER_STAGE, "cif_mmin": IMAGINATION_STAGE}  # of systems with a recipe of their own
SYSTEMS = {
    "mmer": MMERForEmotionRecognition,
    "probe": LinearProbe,
    "cascade": Cascade,
    "separate": SeparateModel,
    "late_fusion": LateFusion,
    "cif_mmin_teacher": CIFMMINTeacher,
    "cif_mmin": CIFMMIN,
}
EMOTION_ALONE = {"dimensions": []}  # CIF-MMIN is a classifier


def build_model(
    run: Run, encoders: tuple[str, str], fields: Mapping[str, Any], trained: Callable[[str], Path]
) -> PreTrainedModel:
    """The model of a run, without encoders: it reads states.

    Args:
        encoders: names of the audio and the text encoder.
        fields: of the model's config, those of the run among them.
        trained: the name of a run that is needed → the folder of its model.
    """
    if run.system == "mmer":
        return MMERForEmotionRecognition(MMERConfig.from_audio_text_pretrained(*encoders, **fields))
    if run.system == "late_fusion":
        return LateFusion.from_unimodal(
            *(SeparateModel.from_pretrained(trained(name), with_encoders=False) for name in run.needs)
        )
    if run.system == "cif_mmin":
        return CIFMMIN.from_teacher(CIFMMINTeacher.from_pretrained(trained(run.needs[0]), with_encoders=False))
    fields = {**fields, **SUPERVISED}
    if run.system == "cif_mmin_teacher":
        fields |= EMOTION_ALONE
    if run.combination is not None:
        fields["combination"] = run.combination
    return SYSTEMS[run.system](BaselineConfig.from_audio_text_pretrained(*encoders, **fields))
