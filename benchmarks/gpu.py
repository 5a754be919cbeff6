"""What to run where a GPU is at hand for a quarter of an hour: one script of under 8 minutes, with all that it needs.

    python benchmarks/gpu.py --output gpu.md [--device cuda] [--size paper] [--minutes 8]

It runs the tests that are marked `gpu`, the table of `run.py`, the gradients of one NCCL process against those of none,
200 training steps on made-up states in bf16 and in fp16, and extrapolates an epoch of the paper from a step. Parts that
no time is left for are named and left out. `--device cpu --size small` runs the same on a CPU, with gloo.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import machine
import run
import torch
import torch.distributed as dist
from sizes import SIZES, Size, inputs, labels
from timing import Clock
from training import states_of, step, training_model
from transformers.utils import logging

from modeling_mmer.files import write_text

STEPS = 200
PAPER_ROWS = 84_030  # training utterances of MSP-Podcast 1.11
TABLE = ("a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "l")  # start-up does not depend on a GPU


def marked_tests(size: Size, device: str) -> str:
    """The tests that are marked `gpu`, in this process."""
    import pytest

    tests = Path(__file__).parent.parent / "tests"
    with tempfile.TemporaryDirectory() as cache:
        status = pytest.main(["-q", "-m", "gpu", "-p", "no:cacheprovider", "-o", f"cache_dir={cache}", str(tests)])
    said = {0: "passed", 5: "there are none"}
    return f"Tests marked `gpu`: {said.get(int(status), f'FAILED (status {int(status)})')}."


def one_process(size: Size, device: str) -> str:
    """The gradients of a step in a process group of one, over NCCL or gloo, against those without a group."""
    backend = "nccl" if device != "cpu" else "gloo"
    torch.manual_seed(0)
    built = training_model(size, device, dropout=0.0)
    batch, of_labels = states_of(built, inputs([2.0] * 8, device)), labels(8, device)

    def gradients(module) -> list[torch.Tensor]:
        torch.manual_seed(1)
        built.zero_grad()
        module(**batch, labels=of_labels).loss.backward()
        return [parameter.grad.clone() for parameter in built.parameters() if parameter.grad is not None]

    alone = gradients(built)
    where = {"device_id": torch.device(device, 0)} if device != "cpu" else {}
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1, **where)
    try:
        wrapped = torch.nn.parallel.DistributedDataParallel(built, find_unused_parameters=True)
        together = gradients(wrapped)
    finally:
        dist.destroy_process_group()
    greatest = max((a - b).abs().max().item() for a, b in zip(alone, together, strict=True))
    return f"DDP over {backend} with one process: gradients differ by at most {greatest:.1e}."


def half_precision(size: Size, device: str, steps: int = STEPS) -> str:
    """Training on made-up states, whose emotion is their mean, in float32, bf16 and fp16: the loss at both ends."""
    found = []
    for name in ("float32", "bfloat16", "float16"):
        first, last, seconds = train_on_made_up_states(size, device, getattr(torch, name), steps)
        found.append(f"| {name} | {first:.3f} | {last:.3f} | {seconds:.1f} s |")
    head = [f"{steps} training steps on made-up states:", "", "| autocast | first loss | last loss | time |"]
    return "\n".join([*head, "|---|---|---|---|", *found])


def train_on_made_up_states(size: Size, device: str, dtype: torch.dtype, steps: int) -> tuple[float, float, float]:
    """The loss of the first ten and of the last ten steps, and seconds.

    Raises:
        ValueError: a loss is not finite, or the last ones are not lower than the first.
    """
    built = training_model(size, device, dropout=0.1)
    scaler = torch.amp.GradScaler(device, enabled=dtype == torch.float16)
    optimizer = torch.optim.AdamW([p for p in built.parameters() if p.requires_grad], lr=1e-3)
    generator = torch.Generator(device).manual_seed(0)
    losses, start = [], time.perf_counter()
    for _ in range(steps):
        batch, of_labels = made_up(built, 16, device, generator)
        with torch.autocast(device, dtype=dtype, enabled=dtype != torch.float32):
            loss = built(**batch, labels=of_labels).loss
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        losses.append(loss.detach())
    losses = torch.stack(losses).tolist()  # the host waits once, at the end
    ends = max(1, min(10, steps // 2))
    first, last = sum(losses[:ends]) / ends, sum(losses[-ends:]) / ends
    if not last < first:
        raise ValueError(f"Training in {dtype} does not learn made-up states: the loss was {first} and is {last}.")
    return first, last, time.perf_counter() - start


def made_up(built, rows: int, device: str, generator: torch.Generator):
    """States of `rows` utterances around one of four points of their encoder, which is their emotion."""
    emotion = torch.randint(0, 4, (rows,), generator=generator, device=device)
    batch = {}
    for modality, frames in (("audio", 60), ("text", 12)):
        number, width = built.config.states_shape(modality)
        noise = torch.randn(rows, number, frames, width, generator=generator, device=device)
        points = torch.eye(4, device=device).repeat_interleave(width // 4, dim=1)  # (4, D)
        batch[f"{modality}_hidden_states"] = noise + 2 * points[emotion][:, None, None]
    dimensions = {name: 1.0 + 2.0 * emotion.float() for name in ("valence", "arousal", "dominance")}
    return batch, {"emotion": emotion, "sentiment": emotion.clamp(max=2), **dimensions}


def paper_epoch(size: Size, device: str) -> str:
    """An epoch of the paper's corpus, extrapolated from steps on batches of 32 clips of 6 s, encoders in bfloat16."""
    rows = 32 if size.name == "paper" else 4
    built = training_model(size, device).cast_encoders(torch.bfloat16)
    batch, of_labels = inputs([6.0] * rows, device), labels(rows, device)
    seconds = sorted(Clock(device, 3).side_by_side({"step": step(built, batch, of_labels)})["step"])[1]
    hours = seconds / rows * PAPER_ROWS / 3600
    return (
        f"A step on {rows} clips of 6 s takes {seconds:.3g} s, so an epoch over {PAPER_ROWS:,} of them takes "
        f"{hours:.2f} hours on this device, online; from cached states it is shorter by row (f)."
    )


PARTS: dict[str, Callable[[Size, str], str]] = {
    "the tests marked gpu": marked_tests,
    "one process": one_process,
    "half precision": half_precision,
    "the epoch of the paper": paper_epoch,
}


def parse_options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--size", choices=SIZES, default="paper")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=8.0, help="no part begins once this time is up")
    parser.add_argument("--output", type=Path, required=True, help="the Markdown file")
    options = parser.parse_args(argv)
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here: --device cpu --size small runs the same on a CPU")
    return options


def main(argv: list[str]) -> int:
    options = parse_options(argv)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    end = time.monotonic() + 60 * options.minutes
    size, clock = SIZES[options.size], Clock(options.device, options.rounds)
    said, failed, rows = [f"Machine: {machine.description(options.device)}."], False, []

    def write() -> None:
        write_text(options.output, "\n\n".join([run.document(rows, clock).rstrip(), "## Checks", *said]) + "\n")

    for name, part in PARTS.items():
        if time.monotonic() > end:
            said.append(f"No time was left for {name}.")
            continue
        try:
            said.append(part(size, options.device))
        except Exception as error:  # the other parts are worth having
            said.append(f"{name} FAILED: {type(error).__name__}: {error}")
        failed = failed or "FAILED" in said[-1]
        print(said[-1], file=sys.stderr, flush=True)
        write()
    for letter in TABLE:
        if time.monotonic() > end:
            said.append(f"No time was left for the rows ({letter}).")
            continue
        rows = run.measure([letter], options.size, clock, rows, output=None)
        write()
    write()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
