"""Windows of any length → batches of windows of like length."""

from collections.abc import Sequence

LEAST_PADDING = {"cpu": 0.1}  # fraction of a batch that may be padding; elsewhere, few large batches count more
PADDING = 0.5


def batches_of_like_length(sizes: Sequence[tuple[int, int]], batch_size: int, padding: float) -> list[list[int]]:
    """Divide windows into batches whose cost is that of the same windows alone, but for a little padding.

    Args:
        sizes: frames and tokens of each window; 0 if it lacks the modality. Windows with other modalities are never in
            one batch: an encoder would run on rows that have nothing for it.
        batch_size: the most windows of a batch.
        padding: the padded frames and tokens of a batch exceed the real ones by at most this fraction.

    Returns:
        The indices of the windows of each batch; the longest windows first, so that memory suffices for all or none.
    """
    order = sorted(range(len(sizes)), key=lambda i: (*_kind(sizes[i]), *sizes[i]), reverse=True)
    batches: list[list[int]] = []
    for i in order:
        if batches and len(batches[-1]) < batch_size:
            together = [sizes[j] for j in (*batches[-1], i)]
            if len({_kind(size) for size in together}) == 1 and _padded(together) <= (1 + padding) * _real(together):
                batches[-1].append(i)
                continue
        batches.append([i])
    return batches


def _kind(size: tuple[int, int]) -> tuple[bool, bool]:
    return size[0] > 0, size[1] > 0


def _padded(sizes: Sequence[tuple[int, int]]) -> int:
    return len(sizes) * sum(map(max, zip(*sizes, strict=True)))


def _real(sizes: Sequence[tuple[int, int]]) -> int:
    return sum(map(sum, sizes))
