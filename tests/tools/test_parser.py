"""What all commands share: their exit status and messages."""

import pytest

from vitreid.tools import export_model, search, summary, train
from vitreid.tools import gallery as gallery_tool
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
