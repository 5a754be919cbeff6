"""Rows about memory and start-up, and what the machine is."""

import platform
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import torch
import transformers
from sizes import Size, inputs, model
from timing import Clock, Row

STATUS = Path("/proc/self/status")


def peak_of(run: Callable[[], object], device: str) -> float:
    """Bytes that a run needs on top of what is there before it, at its peak."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")  # the peak is that from here on
    before = _in_status("VmRSS")
    run()
    return _in_status("VmHWM") - before


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
    found = {keep: [float(output_of(STEPS.format(keep=keep))) for _ in range(clock.rounds)] for keep in (False, True)}
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


def output_of(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout


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
