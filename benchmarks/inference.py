"""Rows about inference: MMER against its bare encoders, and against what a user would take instead."""

import copy
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from sizes import Size, bare, clip, config, inputs, mixed_lengths, model, pipeline, scored_files
from timing import Clock, Row
from torch import nn
from transformers import (
    AudioClassificationPipeline,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
    WhisperFeatureExtractor,
    WhisperForAudioClassification,
)

from modeling_mmer.scoring import Scorer

COMBINATIONS = {"audio": ("audio",), "text": ("text",), "audio + text": ("audio", "text")}


def forward(built, batch):
    @torch.no_grad()
    def run() -> None:
        built(**batch)

    return run


def alone(built, lengths: list[float]):
    """The bare encoders on each clip alone, one after the other."""
    runs = [bare(built, inputs([seconds], str(built.device))) for seconds in lengths]

    def run() -> None:
        for one in runs:
            one()

    return run


def against_encoders(size: Size, clock: Clock) -> Iterator[Row]:
    """(a) A clip alone, each combination and length; and mixed batches against the same clips alone."""
    built = model(size, clock.device)
    for name, modalities in COMBINATIONS.items():
        for seconds in size.seconds if "audio" in modalities else size.seconds[-1:]:
            batch = inputs([seconds], clock.device, modalities)
            of = f"{seconds:g} s clip" if "audio" in modalities else "text"
            baseline = "its bare encoders", bare(built, batch)
            variants = {f"inference, {name}, {of}": forward(built, batch)}
            yield from clock.compare("a", baseline, variants, 3 * clock.rounds)
    for count, rounds in ((8, 3 * clock.rounds), (32, max(1, clock.rounds - 1))):
        lengths = mixed_lengths(count)
        baseline = "bare encoders on each clip alone, summed", alone(built, lengths)
        variants = {f"inference, batch of {count} clips of 2 to 10 s": forward(built, inputs(lengths, clock.device))}
        yield from clock.compare("a", baseline, variants, rounds)
    yield from through_scorer(built, size, clock)


def through_scorer(built, size: Size, clock: Clock) -> Iterator[Row]:
    """Files of mixed length, read and judged, against the encoders on batches in which no row is padded."""
    lengths = mixed_lengths(size.clips)
    with tempfile.TemporaryDirectory() as folder:
        columns = scored_files(built, lengths, Path(folder))
        how = {"device": clock.device, "num_workers": 1}
        scorer, hearing = Scorer(folder, speech="off", **how), Scorer(folder, **how)
        one = inputs([sum(lengths) / len(lengths)], clock.device)  # as long as the mean: the same frames in all
        sorted_runs = bare(
            built, {name: values.repeat(len(lengths), *[1] * (values.dim() - 1)) for name, values in one.items()}
        )
        baseline = "bare encoders, as many frames, one unpadded batch", sorted_runs
        judged = {
            f"scorer, {size.clips} files of 2 to 10 s": lambda: scorer(columns),
            "… with speech detection": lambda: hearing(columns),
        }
        yield from clock.compare("a", baseline, judged, max(1, clock.rounds - 1))


def contexts(size: Size, clock: Clock) -> Iterator[Row]:
    """(c) The whole window of 30 s against the clip's own frames."""
    trimmed = model(size, clock.device)
    full = copy.copy(trimmed.config), copy.deepcopy(trimmed)
    full[1].config.audio_context = "full"
    full[1].model.encoders["audio"].model_config.audio_context = "full"
    for seconds in size.seconds:
        batch = inputs([seconds], clock.device)
        baseline = "context `trimmed`", forward(trimmed, batch)
        yield from clock.compare("c", baseline, {f"context `full`, {seconds:g} s clip": forward(full[1], batch)})


def precisions(size: Size, clock: Clock) -> Iterator[Row]:
    """(d) The encoders in bfloat16, and on a CPU with weights in int8."""
    exact = model(size, clock.device)
    variants = {"encoders in bfloat16": copy.deepcopy(exact).cast_encoders(torch.bfloat16)}
    if clock.device == "cpu" and (quantized := with_int8_weights(exact)) is not None:
        variants["encoders with int8 weights"] = quantized
    for seconds in size.seconds[:2]:
        batch = inputs([seconds], clock.device)
        runs = {f"{name}, {seconds:g} s clip": forward(built, batch) for name, built in variants.items()}
        yield from clock.compare("d", ("encoders in float32", forward(exact, batch)), runs)


def with_int8_weights(built):
    """A copy whose encoders have linear layers in int8, by torch's dynamic quantization; None where torch lacks it."""
    quantize = getattr(getattr(torch.ao, "quantization", None), "quantize_dynamic", None)
    if quantize is None:
        return None
    quantized = copy.deepcopy(built)
    for encoder in quantized.model.encoders.values():
        quantize(encoder.encoder, {nn.Linear}, dtype=torch.qint8, inplace=True)
    return quantized


def alternatives(size: Size, clock: Clock) -> Iterator[Row]:
    """(h) What a user would take instead, on a clip of the middle length."""
    seconds = size.seconds[1]
    samples = clip(seconds)
    pipe = pipeline(model(size, clock.device))
    width, layers, heads, wide = size.audio
    waveform = Wav2Vec2Config(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=wide,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        conv_bias=True,
    )
    stock = {
        "stock `audio-classification` pipeline, Whisper": AudioClassificationPipeline(
            model=WhisperForAudioClassification(config(size).audio_config).eval(),
            feature_extractor=WhisperFeatureExtractor(),
            device=clock.device,
        ),
        "stock `audio-classification` pipeline, wav2vec2": AudioClassificationPipeline(
            model=Wav2Vec2ForSequenceClassification(waveform).eval(),
            feature_extractor=Wav2Vec2FeatureExtractor(return_attention_mask=True),
            device=clock.device,
        ),
    }
    runs = {f"{name}, {seconds:g} s clip": lambda pipe=pipe: pipe(samples) for name, pipe in stock.items()}
    yield from clock.compare("h", ("MMER pipeline, audio", lambda: pipe({"audio": samples})), runs)
    yield from batch_of_one(pipe, clock)


def batch_of_one(pipe, clock: Clock) -> Iterator[Row]:
    """A loop over processor and model, one clip at a time, against the pipeline in batches of 8."""
    clips = [{"audio": clip(seconds, i)} for i, seconds in enumerate(mixed_lengths(8))]

    @torch.no_grad()
    def loop() -> None:
        for one in clips:
            given = pipe.processor(audio=[one["audio"]], text=[None])
            pipe.model(**{name: values.to(pipe.model.device) for name, values in given.items()})

    baseline = "MMER pipeline, batches of 8", lambda: pipe(clips, batch_size=8)
    yield from clock.compare("h", baseline, {"loop over processor and model, 8 clips of 2 to 10 s": loop})


def growth(size: Size, clock: Clock) -> Iterator[Row]:
    """(j) Time for a clip with the batch, for a second of audio with the length, and for a clip with the layers."""
    built = model(size, clock.device)
    short, middle, *longer = size.seconds
    one = forward(built, inputs([middle], clock.device))
    eight = {f"a clip of a batch of 8, {middle:g} s": forward(built, inputs([middle] * 8, clock.device))}
    yield from clock.compare("j", ("the clip alone", one), eight, units=dict.fromkeys(eight, 8.0))
    long = longer[0] if longer else 2 * middle
    name = f"a second of a {long:g} s clip"
    run = {name: forward(built, inputs([long], clock.device))}
    first = f"a second of a {short:g} s clip", forward(built, inputs([short], clock.device))
    yield from clock.compare("j", first, run, units={name: long / short})
    deep = model(size, clock.device, num_hidden_layers=4 * size.shared_layers)
    deeper = {f"{4 * size.shared_layers} shared layers, {middle:g} s": forward(deep, inputs([middle], clock.device))}
    yield from clock.compare("j", (f"{size.shared_layers} shared layers", one), deeper)


def cost(size: Size, clock: Clock) -> Iterator[Row]:
    """(l) Hours of this device for 1,000 hours of audio with text, as a multiple of those of the bare encoders."""
    seconds = size.seconds[1]
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        built = model(size, clock.device).cast_encoders(dtype)
        batch = inputs([seconds] * 4, clock.device)
        found = clock.side_by_side(
            {"ours": forward(built, batch), "bare": bare(built, batch)}, max(1, clock.rounds - 1)
        )
        ratios = [ours / alone for ours, alone in zip(found["ours"], found["bare"], strict=True)]
        hours = sorted(found["ours"])[len(found["ours"]) // 2] / (4 * seconds) * 1000
        where = "core" if clock.device == "cpu" else "device"
        yield Row(
            "l", f"1,000 hours of audio + text, {name}", "the bare encoders", ratios, f"{hours:,.1f} {where} hours"
        )
