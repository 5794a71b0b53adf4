"""Processes that are connected as those that torchrun starts."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable

import torch
from ports import reserve_port

from models import processes

PATIENCE_S = 120


def together(count: int, work: Callable[[], None], connect: bool = True) -> None:
    """Run this in so many processes. connect: else the work itself does it."""
    port = reserve_port()
    # Forked: what a test has imported and prepared is there at once.
    context = multiprocessing.get_context("fork")
    started = []
    for rank in range(count):
        process = context.Process(target=member, args=(rank, count, port, work, connect))
        process.start()
        started.append(process)
    for process in started:
        process.join(PATIENCE_S)
        process.kill()
    assert [process.exitcode for process in started] == [0] * count


def member(rank: int, count: int, port: int, work: Callable[[], None], connect: bool) -> None:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    os.environ |= {name: str(number) for name, number in place.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    # Threads that the parent has started are not in this process, which would wait for them.
    torch.set_num_threads(1)
    try:
        if connect:
            with processes.connected():
                work()
        else:
            work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)  # without what belongs to the parent, such as its fixtures
