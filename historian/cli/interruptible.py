"""`asyncio.run` for commands that Ctrl-C ends."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


def run_interruptible(work: Coroutine[Any, Any, Result]) -> Result:
    """The coroutine's result. Raises KeyboardInterrupt after Ctrl-C, when the coroutine has cleaned up; a second Ctrl-C does not wait for that.

    asyncio's own handler cancels wherever the interpreter happens to be: in the middle of handing a thread's result to the task that waits for it too, which
    the loop then reports with a traceback. The loop's handler comes between two callbacks.
    """
    interrupted = False

    async def interruptible() -> Result:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def interrupt() -> None:
            nonlocal interrupted
            interrupted = True
            loop.remove_signal_handler(signal.SIGINT)
            task.cancel()

        try:
            loop.add_signal_handler(signal.SIGINT, interrupt)
        except (NotImplementedError, RuntimeError, ValueError):
            # Windows, or a thread that is not the main one: there asyncio does what it can
            return await work
        try:
            return await work
        finally:
            loop.remove_signal_handler(signal.SIGINT)

    try:
        return asyncio.run(interruptible())
    except asyncio.CancelledError:
        if interrupted:
            raise KeyboardInterrupt from None
        raise
