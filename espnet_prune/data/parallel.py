"""Map a function over items with several processes and a progress bar."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")


def parallel_map(
    function: Callable[[Item], Result], items: list[Item], num_workers: int, title: str
) -> Iterator[Result]:
    """Results of ``function`` on the items, in their order, with a progress bar.

    A worker that was killed is a ValueError, as is ``num_workers`` < 1.
    """
    if num_workers < 1:
        raise ValueError(f"--nj {num_workers}: 1 or more is wanted")
    num_workers = min(num_workers, len(items))
    if num_workers <= 1:
        yield from tqdm(map(function, items), title, len(items), mininterval=2)
        return
    # spawn: a fork of a process in which torch has started threads may hang.
    context = multiprocessing.get_context("spawn")
    chunk = max(1, min(32, len(items) // (4 * num_workers)))
    with ProcessPoolExecutor(num_workers, context, initializer=_end_with_parent) as pool:
        try:
            results = pool.map(function, items, chunksize=chunk)
            yield from tqdm(results, title, len(items), mininterval=2)
        except BrokenProcessPool:
            advice = "run it again with a smaller --nj, what is written is kept"
            text = f"a worker was killed, perhaps for want of memory; {advice}"
            raise ValueError(f"{title}: {text}") from None


def _end_with_parent() -> None:
    """End this worker when its parent is killed: else it would wait for work for ever."""

    def watch() -> None:
        multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
