"""Emotion from speech, text or both with onnxruntime, tokenizers: python onnx_inference.py a.wav --text "…" """

import argparse
import functools
import json
import wave
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

FOLDER = Path(__file__).parent
CONFIG = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
RATE, N_FFT, HOP, WINDOW = (CONFIG[name] for name in ("sampling_rate", "n_fft", "hop_length", "window_samples"))
FILTERS = np.load(FOLDER / "mel_filters.npy")  # (N_FFT / 2 + 1, mels)
TOKENIZER = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
graph = functools.cache(lambda name: onnxruntime.InferenceSession(FOLDER / f"{name}.onnx"))


def read_wav(path):
    """A WAV file of integers → samples (n,) in [-1, 1], channels averaged."""
    with wave.open(str(path)) as file:
        channels, width, rate, content = *file.getparams()[:3], file.readframes(file.getnframes())
    if rate != RATE:
        raise ValueError(f"{path} has {rate} Hz and the model hears {RATE} Hz: ffmpeg -i {path} -ar {RATE} new.wav")
    pcm = np.zeros((len(content) // width, 4), np.uint8)
    pcm[:, 4 - width :] = np.frombuffer(content, np.uint8, pcm.shape[0] * width).reshape(-1, width)
    pcm[:, 3] ^= 128 * (width == 1)  # 8 bits are unsigned
    return (pcm.view("<i4") / 2**31).reshape(-1, channels).mean(axis=1).astype(np.float32)


def log_mel(samples):
    """Whisper's features (mels, frames) of at most a window: decades of power, cut off 8 below the loudest."""
    padded = np.pad(np.pad(samples, (0, min(N_FFT, WINDOW - len(samples)))), N_FFT // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP][:-1] * np.hanning(N_FFT + 1)[:-1]
    mel = np.log10(np.maximum(np.abs(np.fft.rfft(frames)) ** 2 @ FILTERS, 1e-10))
    return ((np.maximum(mel, mel.max() - 8) + 4) / 4)[: -(-len(samples) // HOP)].T.astype(np.float32)


def judge(samples=None, text=None, windows=None):
    """samples (n,), mono, at RATE, and a text → emotion, sentiment, dimensions: the mean of (first, last, weight)."""
    given = [*(["audio"] if samples is not None and len(samples) else []), *(["text"] if text and text.strip() else [])]
    if not given:
        raise ValueError("Give a recording, a text or both; neither may be empty.")
    session, inputs, seen, answer = graph("_".join(given)), {}, [], {"modalities": given}
    if "text" in given:
        inputs = {"input_ids": (ids := np.array([TOKENIZER.encode(text).ids])), "attention_mask": np.ones_like(ids)}
    n = len(samples) if "audio" in given else 1  # the last window is as long as the others; what is new in it counts
    cut = [(max(0, min(at, n - WINDOW)), at + WINDOW, min(WINDOW, n - at)) for at in range(0, n, WINDOW)]
    for first, last, weight in windows or cut:
        if "audio" in given:
            mel = log_mel(samples[first:last])[None]
            inputs |= {"input_features": mel, "input_features_mask": np.ones(mel[:, 0].shape, np.int64)}
        seen.append((weight, session.run(None, inputs)))
    for place, task in enumerate(output.name for output in session.get_outputs()):
        mean = np.average([outputs[place][0] for _, outputs in seen], axis=0, weights=[weight for weight, _ in seen])
        if task in CONFIG["classes"]:
            scores = dict(sorted(zip(CONFIG["classes"][task], mean.tolist(), strict=True), key=lambda score: -score[1]))
            answer[task] = {"label": next(iter(scores)), "score": max(scores.values()), "scores": scores}
        else:
            answer[task] = float(np.clip(mean, *CONFIG["label_scale"]))
    return answer


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("audio", nargs="?", help=f"WAV file of integers, {RATE} Hz")
    parser.add_argument("--text")
    asked = parser.parse_args()
    print(json.dumps(judge(asked.audio and read_wav(asked.audio), asked.text), indent=2, ensure_ascii=False))
