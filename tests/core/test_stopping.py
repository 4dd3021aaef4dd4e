"""Signals that this process sends to itself."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial

import pytest

from medseg.core.stopping import SIGNALS, Interrupted, asked, listening, patiently

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


def _send(by: signal.Signals) -> None:
    os.kill(os.getpid(), by)


def _interrupted(work: Callable[[], None]) -> Interrupted:
    """What stops the work, on a command line."""
    with listening(), pytest.raises(Interrupted) as error:
        work()
    return error.value


@pytest.mark.parametrize("by", SIGNALS)
def test_a_signal_interrupts_at_once_and_is_no_exception(by: signal.Signals) -> None:
    def work() -> None:
        try:
            _send(by)
        except Exception:
            pytest.fail("what goes on after an error went on")

    before = signal.getsignal(by)
    stopped = _interrupted(work)
    assert stopped.exit_code == 128 + by
    assert str(stopped) == f"stopped by {by.name}"
    assert signal.getsignal(by) is before


@pytest.mark.parametrize("by", SIGNALS)
def test_a_signal_waits_and_the_second_does_not(by: signal.Signals) -> None:
    reached = []

    def work() -> None:
        with patiently(*SIGNALS):
            _send(by)
            reached.append(asked())
            with pytest.raises(Interrupted):
                _send(by)
            reached.append(asked())

    assert _interrupted(work).by is by
    assert reached == [by, by]
    assert asked() is None


def test_one_of_several_processes_is_asked_by_the_cluster_and_by_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    reached = []
    monkeypatch.setenv("WORLD_SIZE", "2")

    def work() -> None:
        with patiently(*SIGNALS):
            _send(signal.SIGTERM)
            _send(signal.SIGTERM)
            reached.append(asked())
            with pytest.raises(Interrupted):
                _send(signal.SIGINT)
            reached.append(asked())

    assert _interrupted(work).by is signal.SIGTERM
    assert reached == [signal.SIGTERM, signal.SIGTERM]


def test_sigterm_waits_where_ctrl_c_does_not() -> None:
    reached = []

    def work(by: signal.Signals) -> None:
        with patiently(*SIGNALS):
            _send(by)
            with patiently(signal.SIGTERM):
                reached.append(by)

    assert _interrupted(partial(work, signal.SIGTERM)).by is signal.SIGTERM
    assert _interrupted(partial(work, signal.SIGINT)).by is signal.SIGINT
    assert reached == [signal.SIGTERM]


def test_nobody_listens_where_the_command_line_is_not() -> None:
    with patiently(*SIGNALS):
        assert asked() is None
    with pytest.raises(KeyboardInterrupt):
        _send(signal.SIGINT)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("by", SIGNALS)
def test_a_process_that_was_forked_says_nothing(by: signal.Signals, capfd: pytest.CaptureFixture) -> None:
    """As loaders of data are: Ctrl-C in a terminal reaches them too, and each wrote a traceback."""
    with listening():
        child = os.fork()
        if not child:
            try:
                signal.raise_signal(by)
            except BaseException as error:
                print("raised", error, flush=True)
            os._exit(7)
        _, status = os.waitpid(child, 0)
    assert capfd.readouterr().out == ""
    if by is signal.SIGINT:
        assert os.waitstatus_to_exitcode(status) == 7, "the one that listens ends it"
    else:
        assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM, "it was meant"
