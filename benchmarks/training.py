"""Rows about training: a step against the encoders' forward, its parts, and what saves time."""

import tempfile
from collections.abc import Iterator
from functools import partial

import machine
import torch
from sizes import Size, bare, inputs, labels, mixed_lengths, model
from timing import Clock, Row
from torch import nn

from modeling_mmer.features.shards import Shards
from modeling_mmer.model.transformer import Dropout
from modeling_mmer.training.batching import LengthBucketSampler


def step(built, batch, of_labels):
    """Forward with all terms of Eq. 7 and all passes, and backward."""

    def run() -> None:
        built(**batch, labels=of_labels).loss.backward()
        built.zero_grad()

    return run


def training_model(size: Size, device: str, **options):
    return model(size, device, **options).train()


def states_of(built, batch, dtype=torch.float32) -> dict[str, torch.Tensor]:
    """The inputs of a step from cached states."""
    with torch.no_grad():
        states = built.model.encoders(batch)
    hidden = {f"{m}_hidden_states": values.to(dtype) for m, (values, _) in states.items()}
    return hidden | {f"{m}_mask": mask for m, (_, mask) in states.items()}


def steps(size: Size, clock: Clock) -> Iterator[Row]:
    """(b) A step against the bare encoders' forward, in float32 and bfloat16, and its parts."""
    built = training_model(size, clock.device)
    batch, of_labels = inputs([size.seconds[1]] * size.batch, clock.device), labels(size.batch, clock.device)
    clip = f"batch of {size.batch} clips of {size.seconds[1]:g} s"
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        built.cast_encoders(dtype)
        baseline = f"bare encoders' forward in {name}", bare(built, batch)
        variants = {f"training step, encoders in {name}, {clip}": step(built, batch, of_labels)}
        yield from clock.compare("b", baseline, variants, 3 * clock.rounds)
    yield from parts(built, states_of(built, batch), of_labels, clock)


def parts(built, states, of_labels, clock: Clock) -> Iterator[Row]:
    """What of a step from states each term and the backward pass are."""
    whole = "a step without the encoders", step(built, states, of_labels)

    def of_terms(*terms: str):
        weights = {"lambda_mae": 10 * ("mae" in terms), "lambda_contrastive": 1 * ("contrastive" in terms)}
        run = step(built, states, of_labels)

        def chosen() -> None:
            before = {name: getattr(built.config, name) for name in weights}
            vars(built.config).update(weights)
            run()
            vars(built.config).update(before)

        return chosen

    variants = {
        "… its forward alone": lambda: built(**states, labels=of_labels),
        "… with L_S alone": of_terms(),
        "… with L_S and L_MAE": of_terms("mae"),
        "… with L_S and L_C": of_terms("contrastive"),
    }
    yield from clock.compare("b", whole, variants, 2 * clock.rounds + 1)


def calls(size: Size, clock: Clock) -> Iterator[Row]:
    """(e) All passes in one padded call, and the stock dropout, against what is done on a CPU."""
    own = training_model(size, clock.device)
    batch = inputs(mixed_lengths(size.batch), clock.device)
    states, of_labels = states_of(own, batch), labels(size.batch, clock.device)
    separate, padded, stock = own, training_model(size, clock.device), training_model(size, clock.device)
    for built, one_call in ((separate, False), (padded, True), (stock, False)):
        transformer = built.model.transformer
        transformer.forward = partial(transformer.forward, one_call=one_call)
    for module in list(stock.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Dropout):
                setattr(module, name, nn.Dropout(child.p))
    variants = {
        "step from states, one padded call for all passes": step(padded, states, of_labels),
        "step from states, torch's dropout": step(stock, states, of_labels),
    }
    baseline = "a call for each combination", step(separate, states, of_labels)
    yield from clock.compare("e", baseline, variants, 2 * clock.rounds + 1)
    if clock.device == "cpu":
        yield machine.allocator(clock)


def cached(size: Size, clock: Clock) -> Iterator[Row]:
    """(f) Steps on raw inputs against the same steps on states that are read from the files of the feature cache."""
    built = training_model(size, clock.device)
    batch, of_labels = inputs([size.seconds[1]] * size.batch, clock.device), labels(size.batch, clock.device)
    with tempfile.TemporaryDirectory() as folder:
        shards = Shards(folder)
        whole = states_of(built, batch, torch.float16)
        masks = {name: values for name, values in whole.items() if name.endswith("_mask")}
        for name in whole.keys() - masks.keys():
            shards.write({f"{name}_{row}": of_row.cpu().clone() for row, of_row in enumerate(whole[name])})

        def from_shards() -> None:
            read = {
                name: torch.stack([shards.read(f"{name}_{row}") for row in range(size.batch)]).to(clock.device)
                for name in whole.keys() - masks.keys()
            }
            step(built, read | masks, of_labels)()

        variants = {f"epoch online, batches of {size.batch}": step(built, batch, of_labels)}
        yield from clock.compare("f", ("epoch from cached states (float16, read from a file)", from_shards), variants)


def grouped(size: Size, clock: Clock) -> Iterator[Row]:
    """(g) Batches drawn at random against batches of like length, from states; clips of 2 to 10 s."""
    built = training_model(size, clock.device)
    count = 8 * size.batch
    lengths = [round(50 * seconds) for seconds in mixed_lengths(count)]
    generator = torch.Generator().manual_seed(0)
    width, layers = size.audio[0], size.audio[1] + 1
    frames = torch.randn(1, layers, max(lengths), width, generator=generator).to(clock.device)
    of_labels = labels(size.batch, clock.device)
    orders = {
        "grouped": list(LengthBucketSampler(lengths, size.batch, 0)),
        "shuffled": torch.randperm(count, generator=generator).tolist(),
    }

    def epoch(order: list[int]):
        batches = []
        for start in range(0, count, size.batch):
            own = torch.tensor([lengths[row] for row in order[start : start + size.batch]], device=clock.device)
            longest = int(own.max())
            batches.append((longest, torch.arange(longest, device=clock.device) < own[:, None]))

        def run() -> None:
            for longest, mask in batches:
                states = frames[:, :, :longest].expand(size.batch, -1, -1, -1)
                step(built, {"audio_hidden_states": states, "audio_mask": mask}, of_labels)()

        return run

    variants = {"epoch from states, shuffled": epoch(orders["shuffled"])}
    yield from clock.compare("g", ("epoch from states, grouped by length", epoch(orders["grouped"])), variants)
