"""What all commands share: their exit status and messages."""

import pytest
import torch

from vitreid.common.machine.processor_share import Share
from vitreid.tools import export_model, search, summary, train
from vitreid.tools import gallery as gallery_tool
from vitreid.tools.cli import parser
from vitreid.tools.cli.parser import command, new_parser
from vitreid.tools.published import reproduce


class ClosedPipe:
    """Standard output that nobody reads any more, as after `vitreid search … | head -1`."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")

    def flush(self) -> None:
        """Nothing is waiting."""


def test_a_closed_pipe_is_a_message(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout", ClosedPipe())
    assert command(lambda: new_parser("Say it."), lambda args: "text")([]) == 2
    assert "error: [Errno 32] Broken pipe" in capsys.readouterr().err


@pytest.mark.parametrize("result, status", [("text", 0), (None, 0), (True, 0), (False, 1)])
def test_only_false_is_a_failure(result, status):
    assert command(lambda: new_parser("Say it."), lambda args: result)([]) == status


def test_threads_hold_for_the_command_and_no_longer(monkeypatch):
    import os

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before, seen = torch.get_num_threads(), []
    main = command(
        lambda: new_parser("Count."), lambda args: seen.append((torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]))
    )
    assert main(["--threads", "3"]) == 0 and seen == [(3, "3")]
    assert torch.get_num_threads() == before and "OMP_NUM_THREADS" not in os.environ


def test_the_default_is_what_the_machine_leaves_free(monkeypatch):
    """A training does not measure the load: the number of threads changes its last bits."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(parser, "measured_share", lambda load: Share(4, busy=3.0 * load))
    with parser.threads(None) as number:
        assert number == 1
    with parser.threads(None, steady=True) as number:
        assert number == 4
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # said by the user, or by torchrun
    with parser.threads(None) as number:
        assert number == 2


@pytest.mark.parametrize(
    ("tool", "words"),
    [
        (train, ["--overwrit"]),
        (train, ["--prof", "3"]),
        (search, ["--gallery", "g", "--weights", "w", "--query", "q", "--top", "3"]),
        (gallery_tool, ["info", "g", "--jso"]),
        (gallery_tool, ["compress", "g", "h", "--int", "--over"]),
    ],
)
def test_options_are_written_in_full(tool, words, capsys):
    """`--overwrit` is a mistake, and with an option of a later version it might mean something else."""
    with pytest.raises(SystemExit) as status:
        tool.main(words)
    assert status.value.code == 2 and "unrecognized arguments: --" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("tool", "words", "message"),
    [
        (summary, ["--cameras", "-1"], "--cameras: a whole number, 1 or more, got '-1'"),
        (summary, ["--views", "0"], "--views: a whole number, 1 or more, got '0'"),
        (summary, ["--views", "inf"], "--views: a whole number, 1 or more, got 'inf'"),
        (
            export_model,
            ["--weights", "w", "--output", "m.onnx", "--threads", "0"],
            "--threads: a whole number, 1 or more",
        ),
        (reproduce, ["evaluation", "--seeds", "1", "-1"], "--seeds: a whole number, 0 or more, got '-1'"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(tool, words, message, capsys):
    with pytest.raises(SystemExit) as status:
        tool.main(words)
    assert status.value.code == 2 and message in capsys.readouterr().err
