"""How a GPU is shared between trials, in numbers. Neither Ray nor torch here."""

from __future__ import annotations

# What CUDA itself holds for each process (context, loaded kernels), which torch's allocator, and so
# the cap on it, does not count. Measured sizes are 0.3 to 0.6 GB, by card and driver.
CONTEXT_BYTES = 600_000_000


def memory_fraction(share: float, total_bytes: int) -> float:
    """Return the part of a GPU's memory that one trial's allocator may take.

    The trial's share without the memory that CUDA itself needs for the process, so that trials on
    one GPU cannot crowd each other out: the one that asks for too much fails by itself.

    Args:
        share: of the GPU, in (0, 1].
        total_bytes: memory of the GPU.

    Returns:
        In (0, 1]; half of the share where the GPU is so small that little would be left.
    """
    return max(share - CONTEXT_BYTES / total_bytes, share / 2)
