"""Answers requests of the hub's Inference Endpoints, which load this file from the folder of a model.

The folder has a model of transformers, or ONNX graphs, which need no torch. A request is
`{"inputs": …, "parameters": {…}}`. An input is the bytes of an audio file, these in base64, a text, or a dict with
`audio`, `text` or both, as the pipeline takes it; several may come as a list. Audio is never a path or URL: a request
must not read files of the server, nor let it call others.
"""

import base64
import binascii
import re
import sys
from collections.abc import Callable
from numbers import Real
from pathlib import Path
from typing import Any

BEGINNINGS = (  # of audio files: WAV and its kin, AIFF, FLAC, OGG, MP4, WebM, CAF, AU, AMR, WavPack, WMA, MP3 and AAC
    *(rb"RIFF....WAVE", rb"RF64", rb"riff\x2e\x91\xcf\x11", rb"FORM....AIF[FC]", rb"fLaC", rb"OggS", rb"....ftyp"),
    *(rb"\x1aE\xdf\xa3", rb"caff", rb"\.snd", rb"#!AMR", rb"wvpk", rb"0&\xb2u\x8ef\xcf\x11", rb"ID3"),
    rb"\xff[\xe2-\xe5\xea-\xed\xf0-\xf5\xf8-\xfd]",
)
PARAMETERS = ("top_k", "return_timestamps", "chunk_length_s", "stride_length_s", "channels")


class EndpointHandler:
    """Judges what requests hold with the model in the folder `path`."""

    def __init__(self, path: str = ""):
        self.pipe = load(Path(path or Path(__file__).parent))

    def __call__(self, data: dict[str, Any]) -> list[dict[str, Any]]:
        """The result of each input as the pipeline gives it, or `{"error": message}`."""
        if not isinstance(data, dict) or data.get("inputs") in (None, []):
            return [{"error": 'Give {"inputs": …}: an audio file, a text, or {"audio": …, "text": …}.'}]
        parameters = data.get("parameters") or {}
        if not isinstance(parameters, dict) or (unknown := [name for name in parameters if name not in PARAMETERS]):
            wrong = f"not {', '.join(unknown)}" if isinstance(parameters, dict) else "as a dict"
            return [{"error": f"parameters can be {', '.join(PARAMETERS)}, {wrong}."}]
        inputs = data["inputs"]
        return [self.judge(one, parameters) for one in (inputs if isinstance(inputs, list) else [inputs])]

    def judge(self, given: Any, parameters: dict[str, Any]) -> dict[str, Any]:
        try:
            return self.pipe(as_input(given), **parameters)
        except (ValueError, ImportError) as error:
            return {"error": str(error).removeprefix("Input 0: ")}


def load(folder: Path) -> Callable[..., dict[str, Any]]:
    """What answers one input: the graphs of a folder, or the pipeline of its model."""
    if (folder / "onnx_endpoint.py").is_file():
        sys.path.insert(0, str(folder.resolve()))
        from onnx_endpoint import answer

        return answer
    from transformers import pipeline

    return pipeline("multimodal-emotion-recognition", model=str(folder), trust_remote_code=True)


def as_input(given: Any) -> dict[str, Any]:
    """One input of a request → one of the pipeline.

    Raises:
        ValueError: it is none.
    """
    if isinstance(given, (bytes, bytearray)):
        return {"audio": bytes(given)}
    if isinstance(given, str):
        return {"audio": decode(given)} if is_audio(given) else {"text": given}
    if not isinstance(given, dict):
        raise ValueError(f"an input cannot be a {type(given).__name__}: give an audio file, a text or a dict of both.")
    audio = given.get("audio")
    if isinstance(audio, str):
        return {**given, "audio": decode(audio)}
    if isinstance(audio, list) and not all(isinstance(sample, Real) for sample in audio):
        raise ValueError("a list as audio must hold the samples of one recording, as numbers.")
    if not isinstance(audio, (bytes, list, type(None))):
        raise ValueError(f"audio cannot be a {type(audio).__name__}: give the file's bytes, or these in base64.")
    return given


def is_audio(text: str) -> bool:
    """Whether a string is an audio file in base64, or a data URI."""
    if text.startswith("data:"):
        return True
    try:
        beginning = base64.b64decode("".join(text[:300].split())[:128], validate=True)
    except ValueError:
        return False
    return re.match(b"|".join(BEGINNINGS), beginning, re.DOTALL) is not None


def decode(audio: str) -> bytes:
    """The bytes of an audio file in base64, with or without the head of a data URI.

    Raises:
        ValueError: it is no base64, such as a path or a URL.
    """
    try:
        return base64.b64decode("".join(audio.rpartition(",")[2].split()), validate=True)
    except binascii.Error as error:
        raise ValueError(f"audio must be the bytes of a file in base64, which this is not ({error}).") from error
