"""Progress bars: late, on stderr, and not too many lines where there is no terminal."""

import pytest
import typer

from etsdm.cli import waiting
from etsdm.cli.waiting import goes_on, progress_bar


def test_quick_work_shows_no_progress(capsys):
    with progress_bar("m1", 3, "batches", of="abc") as bar:
        assert list(bar) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")


def test_slow_work_shows_progress_on_stderr(capsys, monkeypatch):
    monkeypatch.setattr(waiting, "BAR_DELAY_S", 0.0)
    monkeypatch.setattr(waiting, "LOG_INTERVAL_S", 0.0)
    with progress_bar("m1", 300, "images", initial=100) as bar:
        bar.update(50)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "m1: 150/300 [" in shown.err
    assert "images/s]" in shown.err


def test_without_a_terminal_updates_are_rare(capsys, monkeypatch):
    monkeypatch.setattr(waiting, "BAR_DELAY_S", 0.0)
    with progress_bar("m1", 3000, "batches", of=range(3000)) as bar:
        assert sum(bar) == 2999 * 1500
    shown = capsys.readouterr().err
    assert shown.count("m1:") <= 2
    assert shown.endswith("\n")


def test_ctrl_c_ends_resumable_work_with_a_hint(capsys):
    with pytest.raises(typer.Exit) as stopped, goes_on():
        raise KeyboardInterrupt
    assert stopped.value.exit_code == 130
    assert "run the same command again" in capsys.readouterr().err
