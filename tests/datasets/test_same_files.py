"""Which files are the same, or exact copies, within groups."""

import os

import pytest

from vitreid.datasets import same_files
from vitreid.datasets.same_files import number_contents


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    return write


def test_a_file_and_its_copy_have_one_number(write):
    paths = [write("a", b"one"), write("b", b"two"), write("copy", b"one"), write("long", b"three")]
    assert number_contents([*paths, paths[0]], [7] * 5) == [0, 1, 0, 2, 0]


def test_a_link_is_the_file_it_leads_to(write, tmp_path):
    path = write("a", b"one")
    os.symlink(path, tmp_path / "link")
    assert number_contents([path, str(tmp_path / "link")], [0, 0]) == [0, 0]


def test_copies_in_different_groups_are_not_compared(write, monkeypatch):
    paths = [write("a", b"one"), write("b", b"one")]
    monkeypatch.setattr(same_files, "digest", lambda parts: pytest.fail("read"))
    assert number_contents(paths, ["ann", "bob"]) == [0, 1]


def test_files_of_different_sizes_are_not_read(write, monkeypatch):
    paths = [write("a", b"one"), write("b", b"three")]
    monkeypatch.setattr(same_files, "digest", lambda parts: pytest.fail("read"))
    assert number_contents(paths, [0, 0]) == [0, 1]


def test_files_that_are_not_there_differ(tmp_path):
    paths = [str(tmp_path / "a"), str(tmp_path / "b"), "nul\0"]
    assert number_contents([*paths[:2], paths[0]], [0, 0, 0]) == [0, 1, 0]
