"""Rows about memory and start-up, and what the machine is."""

import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import torch
import transformers
from sizes import SIZES, Size, inputs, mixed_lengths, model, scored_files
from timing import Clock, Row

from modeling_mmer.scoring import Scorer

STATUS = Path("/proc/self/status")


def peak_of(run: Callable[[], object], device: str) -> float:
    """Bytes that a run needs on top of what is there before it, at its peak."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    before = _in_status("VmRSS")
    return _peak_during(run) - before


def _peak_during(run: Callable[[], object]) -> float:
    """The most bytes of memory that this process has during a run."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is that from here on
    run()
    return _in_status("VmHWM")


def _in_status(name: str) -> float:
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines() if ":" in line)
    return 1024 * float(lines[name].split()[0])


def memory(size: Size, clock: Clock) -> Iterator[Row]:
    """(i) The peak of inference and of a training step against the bare encoders that keep their last state alone."""
    if clock.device == "cpu" and not STATUS.exists():
        return
    built = model(size, clock.device)
    batch = inputs([size.seconds[1]] * 8, clock.device)
    encoders = {m: encoder.encoder for m, encoder in built.model.encoders.items()}

    @torch.no_grad()
    def bare(**how) -> None:
        kept = encoders["audio"](batch["input_features"], **how), encoders["text"](batch["input_ids"], **how)
        del kept

    @torch.no_grad()
    def inference() -> None:
        built(**batch)

    @torch.no_grad()
    def all_states() -> None:
        built.model.encoders(batch)

    what = {
        "peak memory of inference, batch of 8": inference,
        "… of bare encoders that return all states": lambda: bare(output_hidden_states=True),
        "… of all states, stacked, as the feature cache takes them": all_states,
    }
    for run in (bare, *what.values()):
        run()
    found = [
        {name: peak_of(run, clock.device) for name, run in {"": bare, **what}.items()} for _ in range(clock.rounds)
    ]
    for name in what:
        ratios = [of_round[name] / max(of_round[""], 1.0) for of_round in found]
        note = f"{median(r[name] for r in found) / 2**20:.0f} MiB : {median(r[''] for r in found) / 2**20:.0f} MiB"
        yield Row("i", name, "bare encoders that return their last state", ratios, note)
    if clock.device == "cpu":
        yield from long_runs(size)


def long_runs(size: Size) -> Iterator[Row]:
    """Memory of a process that judges many files of mixed length, in its last quarter and in its first."""
    for dtype in ("float32", "bfloat16"):
        first, *_, last = numbers_of(QUARTERS.format(size=size.name, dtype=dtype))
        note = f"{last / 2**20:,.0f} MiB : {first / 2**20:,.0f} MiB"
        what = f"peak memory of the last quarter of {size.files:,} files through the scorer, {dtype}"
        yield Row("i", what, "that of the first quarter", [last / first], note)


def peaks_of_quarters(name: str, dtype: str) -> list[float]:
    """Peaks of this process, in bytes, in each quarter of the files that the scorer judges."""
    size = SIZES[name]
    with tempfile.TemporaryDirectory() as folder:
        columns = scored_files(model(size, "cpu"), mixed_lengths(size.files), Path(folder))
        scorer = Scorer(folder, speech="off", device="cpu", num_workers=1, dtype=dtype)
        quarter, peaks = size.files // 4, []
        for start in range(0, size.files, quarter):
            part = {name: values[start : start + quarter] for name, values in columns.items()}
            peaks.append(_peak_during(lambda part=part: scorer(part)))
    return peaks


QUARTERS = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import machine, torch
torch.set_num_threads(1)
print(*machine.peaks_of_quarters({{size!r}}, {{dtype!r}}))
"""


def start_up(size: Size, clock: Clock) -> Iterator[Row]:
    """(k) Processor time of fresh processes against `import torch, transformers` and against bare Python."""
    programs = {
        "": "import torch, transformers",
        "python": "pass",
        "`import modeling_mmer`": "import modeling_mmer",
        "`mmer --help`": "from modeling_mmer.commands import main\nmain(['--help'])",
        "`from modeling_mmer.scoring import Scorer`": "from modeling_mmer.scoring import Scorer",
    }
    found = [{name: seconds_of_process(code) for name, code in programs.items()} for _ in range(clock.rounds)]
    for name in list(programs)[2:]:
        against = "python" if name == "`mmer --help`" else ""
        ratios = [of_round[name] / of_round[against] for of_round in found]
        note = f"{median(r[name] for r in found):.2f} s : {median(r[against] for r in found):.2f} s"
        yield Row("k", name, "an empty Python program" if against else "`import torch, transformers`", ratios, note)


def allocator(clock: Clock) -> Row:
    """A training step from states with memory that is given back after every tensor. The setting holds for a process,
    so each is one of its own."""
    found = {keep: [numbers_of(STEPS.format(keep=keep))[0] for _ in range(clock.rounds)] for keep in (False, True)}
    ratios = [given_back / kept for given_back, kept in zip(found[False], found[True], strict=True)]
    return Row("e", "step from small states, memory given back after every tensor", "memory kept", ratios)


STEPS = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from dataclasses import replace
import sizes, timing, training
from modeling_mmer.commands.allocator import keep_freed_memory
if {{keep}}:
    keep_freed_memory()
size = replace(sizes.SIZES["small"], audio=(384, 4, 6, 1536), text=(384, 6, 6, 1536))
built, batch = training.training_model(size, "cpu"), sizes.inputs([3.5] * 32, "cpu")
run = training.step(built, training.states_of(built, batch), sizes.labels(32, "cpu"))
print(min(timing.Clock("cpu", 5).side_by_side({{{{"step": run}}}})["step"]))
"""


def numbers_of(code: str) -> list[float]:
    """What a program prints in a process of its own."""
    printed = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout
    return [float(number) for number in printed.split()]


def seconds_of_process(code: str) -> float:
    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = used()
    subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return used() - before


def description(device: str) -> str:
    """The machine and the versions, in a line."""
    if device == "cpu":
        cpuinfo = Path("/proc/cpuinfo")
        names = [
            line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        flags = torch.cpu.get_capabilities()
        has = ", ".join(name for name in ("avx512_f", "avx512_bf16", "amx_bf16") if flags.get(name))
        what = f"{names[0] if names else platform.processor()}, {has}; {torch.get_num_threads()} thread(s)"
    else:
        what = torch.cuda.get_device_name()
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}"
    return f"{what}; {versions}"
