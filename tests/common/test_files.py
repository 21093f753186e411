"""An output file that could not be written is refused before the work."""

import pytest

from vitreid.common.errors import UserError
from vitreid.common.files import check_output_file


@pytest.mark.parametrize(
    ("name", "overwrite", "error", "message"),
    [
        ("no/file.json", True, FileNotFoundError, "--json.*/no .*exist"),
        ("folder", True, UserError, "--json.*/folder .*a folder"),
        ("there.json", False, FileExistsError, r"--json.*there\.json.*--overwrite"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused(tmp_path, name, overwrite, error, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "there.json").touch()
    with pytest.raises(error, match=message):
        check_output_file("--json", tmp_path / name, overwrite)


def test_a_new_file_and_one_to_be_replaced_pass(tmp_path, monkeypatch):
    (tmp_path / "there.json").touch()
    monkeypatch.chdir(tmp_path)
    assert check_output_file("--json", "new.json", False).name == "new.json"
    assert check_output_file("--json", tmp_path / "there.json") == tmp_path / "there.json"
