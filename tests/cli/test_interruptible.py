"""Commands that Ctrl-C ends clean up, and say nothing of how."""

from __future__ import annotations

import asyncio
import signal
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from historian.cli.interruptible import run_interruptible


def test_the_result_comes_back_and_the_handler_goes() -> None:
    async def work() -> int:
        return await asyncio.to_thread(lambda: 7)

    assert run_interruptible(work()) == 7
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_it_raises_is_raised() -> None:
    async def work() -> None:
        raise LookupError("of its own")

    async def cancelled() -> None:
        raise asyncio.CancelledError

    with pytest.raises(LookupError, match="of its own"):
        run_interruptible(work())
    # nobody pressed Ctrl-C
    with pytest.raises(asyncio.CancelledError):
        run_interruptible(cancelled())


class Interrupting(Future[object]):
    """The answer of a thread, amid whose handing over somebody presses Ctrl-C."""

    def exception(self, timeout: float | None = None) -> BaseException | None:
        signal.raise_signal(signal.SIGINT)
        return super().exception(timeout)


class Interrupted(ThreadPoolExecutor):
    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        future = super().submit(*args, **kwargs)
        future.__class__ = Interrupting
        return future


def test_an_interrupt_amid_the_answer_of_a_thread_is_not_reported_by_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    cleaned: list[bool] = []

    async def work() -> None:
        asyncio.get_running_loop().set_default_executor(Interrupted())
        try:
            await asyncio.to_thread(int)
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    with pytest.raises(KeyboardInterrupt):
        run_interruptible(work())
    assert cleaned == [True]
    assert not caplog.records


def test_a_second_interrupt_does_not_wait_for_the_cleaning() -> None:
    async def work() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
            await asyncio.Event().wait()
        finally:
            signal.raise_signal(signal.SIGINT)
            await asyncio.Event().wait()

    with pytest.raises(KeyboardInterrupt):
        run_interruptible(work())
