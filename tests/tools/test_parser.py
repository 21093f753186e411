"""What all commands share: their exit status and messages."""

import pytest

from vitreid.tools.cli.parser import command, new_parser


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
