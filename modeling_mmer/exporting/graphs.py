"""A model → an ONNX graph for each combination of modalities, which share one file of weights.

Inputs of a graph are those of the model, for its modalities. Its outputs are named after the tasks: probabilities
(B, K) of classes, and dimensions (B,) on the scale of the model. B, frames and tokens may be any numbers within the
encoders' windows. Every row must have all modalities of the graph.
"""

import hashlib
import logging
import warnings
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from ..model.configuration_mmer import MMERConfig
from ..model.mixing import Stack
from ..model.modeling_mmer import MMERForEmotionRecognition
from ..model.transformer import show

OPSET = 17  # of onnxruntime 1.13 and newer
WEIGHTS = "weights.bin"
SMALLEST = 1024  # bytes; smaller tensors stay in the graph
ALIGNMENT = 64
ENCODER = "/encoder/"  # how the names of an encoder's nodes begin
AXES = {"audio": {0: "batch", -1: "frames"}, "text": {0: "batch", -1: "tokens"}}


def require_exportable(config: MMERConfig) -> None:
    """Raise a ValueError if there are no graphs for models of this config."""
    if config.audio_config.model_type != "whisper" or set(config.modalities) != set(AXES):
        raise ValueError(
            "--format onnx is for models of audio and text with a Whisper-shaped audio encoder. This one has "
            f"{', '.join(config.modalities)} and a {config.audio_config.model_type} encoder: leave --format out."
        )


class Graph(nn.Module):
    """The forward of a model for rows that all have the same modalities: no step of it depends on values."""

    def __init__(self, model: MMERForEmotionRecognition, modalities: tuple[str, ...]):
        super().__init__()
        self.model, self.modalities = model, modalities
        self.eval()

    @property
    def input_names(self) -> list[str]:
        return [name for modality in self.modalities for name in self.model.model.encoders[modality].inputs]

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Raw inputs and mask of each modality in turn → predictions of the tasks, in order."""
        core, tokens = self.model.model, {}
        for modality, raw, mask in zip(self.modalities, inputs[::2], inputs[1::2], strict=True):
            encoder, stack, mask = core.encoders[modality], Stack(), mask.bool()
            encoder.run(raw, mask, stack.add)
            states = stack.result() if encoder.layers is None else stack.result()[:, encoder.layers]
            tokens[modality] = core.embedders[modality](states, mask[:, ::2] if modality == "audio" else mask)
        output = core.transformer({"all": show(tokens, self.modalities)}, one_call=True)["all"]
        predictions = self.model.heads(self.model.readout(output))
        tasks = self.model.config.tasks
        return tuple(predictions[t.name].softmax(-1) if t.is_class else predictions[t.name] for t in tasks)


def example_inputs(config: MMERConfig, modalities: Iterable[str]) -> tuple[torch.Tensor, ...]:
    """Raw inputs and masks of three rows of different lengths."""
    inputs = []
    for modality in modalities:
        length = 41 if modality == "audio" else 9
        mask = (torch.arange(length) < torch.tensor([[length], [length - 4], [1]])).long()
        if modality == "audio":
            inputs += [torch.randn(3, config.audio_config.num_mel_bins, length), mask]
        else:
            inputs += [torch.randint(3, config.text_config.vocab_size, (3, length)), mask]
    return tuple(inputs)


def write_graphs(model: MMERForEmotionRecognition, folder: Path) -> None:
    """Write `audio.onnx`, `text.onnx`, `audio_text.onnx` and their weights into a folder."""
    with TemporaryDirectory(dir=folder) as drafts:
        for name, modalities in model.config.combinations.items():
            write_graph(model, modalities, Path(drafts) / f"{name}.onnx")
        share_weights(Path(drafts), folder)


def write_graph(model: MMERForEmotionRecognition, modalities: tuple[str, ...], file: Path) -> None:
    """Trace the forward of some modalities into a file.

    The exporter is the older of torch's two. The newer one cannot express any number of frames (it wants whole windows
    of the convolution), and takes 40 times as long. What could be lost in a trace, such as a length that has become a
    constant, is found by comparing the graph with the model over random shapes.
    """
    graph = Graph(model, modalities)
    axes = {
        name: {axis % (3 if name == "input_features" else 2): called for axis, called in AXES[modality].items()}
        for modality in modalities
        for name in model.model.encoders[modality].inputs
    }
    tasks = [task.name for task in model.config.tasks]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of a deprecated exporter, and of lengths that are compared with limits
        torch.onnx.export(
            graph,
            example_inputs(model.config, modalities),
            str(file),
            dynamo=False,
            opset_version=OPSET,
            input_names=graph.input_names,
            output_names=tasks,
            dynamic_axes=axes | {task: {0: "batch"} for task in tasks},
        )


def share_weights(drafts: Path, folder: Path) -> None:
    """Write the graphs of one folder to another with their weights in one file, in which equal ones lie once."""
    import onnx
    from onnx.external_data_helper import set_external_data

    places: dict[bytes, int] = {}
    with (folder / WEIGHTS).open("wb") as file:
        for draft in sorted(drafts.glob("*.onnx")):
            graph = onnx.load(draft)
            for tensor in graph.graph.initializer:
                content = onnx.numpy_helper.to_array(tensor).tobytes()
                if len(content) < SMALLEST:
                    continue
                key = hashlib.sha256(content).digest()
                if key not in places:
                    file.write(bytes(-file.tell() % ALIGNMENT))
                    places[key] = file.tell()
                    file.write(content)
                replace_content(tensor, content)
                set_external_data(tensor, WEIGHTS, offset=places[key], length=len(content))
                tensor.ClearField("raw_data")
            (folder / draft.name).write_bytes(graph.SerializeToString())


def replace_content(tensor, content: bytes) -> None:
    """Let a tensor hold raw bytes, and none of the typed fields that it may hold instead."""
    for field in ("float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
        tensor.ClearField(field)
    tensor.raw_data = content


def quantize(folder: Path) -> None:
    """Let the graphs of a folder have int8 weights, and the encoders' products be of integers.

    Weights have 7 bits and a scale for each column: processors without VNNI add up pairs of products in 16 bits, which
    8 bits would overflow. What is above the encoders stays as it is; it is a hundredth of the whole.
    """
    with TemporaryDirectory(dir=folder) as drafts:
        for file in sorted(folder.glob("*.onnx")):
            quantize_graph(file, Path(drafts) / file.name)
        share_weights(Path(drafts), folder)


def quantize_graph(file: Path, quantized: Path) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    nodes = onnx.load(file, load_external_data=False).graph.node
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it advises a step that these graphs do without
    try:
        quantize_dynamic(
            file,
            quantized,
            op_types_to_quantize=["MatMul", "Gather"],
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            nodes_to_exclude=[node.name for node in nodes if not node.name.startswith(ENCODER)],
        )
    finally:
        logging.disable(disabled)
