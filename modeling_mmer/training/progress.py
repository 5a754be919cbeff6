"""A readable training log, with a small table for each evaluation."""

from collections.abc import Collection, Iterator, Mapping

from transformers import ProgressCallback, TrainerCallback, TrainerState

INDENT = " " * 4


class ProgressBar(ProgressCallback):
    """The progress bar of transformers, with log lines above it."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        if state.is_world_process_zero and self.training_bar is not None:
            for line in lines(logs, state, kwargs["model"].config.combinations):
                self.training_bar.write(line)


class LogLines(TrainerCallback):
    """Log lines without a progress bar."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        if state.is_world_process_zero:
            for line in lines(logs, state, kwargs["model"].config.combinations):
                print(line, flush=True)  # so that a file has them if the run is killed


def lines(logs: Mapping[str, float], state: TrainerState, combinations: Collection[str]) -> Iterator[str]:
    """The lines of one log entry. Entries for plots only, such as the layer-mix weights, have none."""
    where = f"step {state.global_step:>{len(str(state.max_steps))}}/{state.max_steps}  epoch {state.epoch or 0:.2f}"
    if "loss" in logs:
        rate, norm = logs["learning_rate"], logs.get("grad_norm")
        yield f"{where}  {losses(logs, 'loss')}  lr {rate:.2e}" + (f"  grad {norm:.3g}" if norm is not None else "")
    elif "eval_loss" in logs:
        score = f"  score {logs['eval_score']:.4f}" if "eval_score" in logs else ""
        yield f"{where}  validation{score}  {losses(logs, 'eval_loss')}"
        titles = {group: group.replace("_", " + ") for group in (*combinations, "retrieval")}
        for group, title in titles.items():
            if figures := group_figures(logs, f"eval_{group}_", combinations):
                yield INDENT + title.ljust(2 + max(map(len, titles.values()))) + "  ".join(figures)
    elif "train_runtime" in logs:
        yield f"{where}  trained in {logs['train_runtime']:.0f} s, {logs['train_samples_per_second']:.1f} rows a second"


def losses(logs: Mapping[str, float], total: str) -> str:
    """The total and its terms: `loss 21.3  supervised 1.2  mae 1.9 …`."""
    terms = {name.removeprefix(f"{total}_"): value for name, value in logs.items() if name.startswith(f"{total}_")}
    return "  ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in {"loss": logs[total], **terms}.items())


def group_figures(logs: Mapping[str, float], prefix: str, combinations: Collection[str]) -> list[str]:
    """The figures of one combination or of retrieval: fractions in percent, CCC as numbers."""
    others = tuple(f"eval_{name}_" for name in combinations if len(name) + 6 > len(prefix))  # audio_text is not audio
    figures = {
        name.removeprefix(prefix).replace("_", " "): value
        for name, value in logs.items()
        if name.startswith(prefix) and not name.startswith(others)
    }
    return [f"{n} {v:6.3f}" if n.endswith("ccc") else f"{n} {100 * v:5.1f} %" for n, v in figures.items()]
