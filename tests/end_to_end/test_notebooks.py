"""The notebooks of examples/ run from the first cell to the last, with smaller values, and are stored without results."""

import ast
import json

import matplotlib.pyplot as plt
import pytest
from helpers import ROOT

from vitreid.configs import load_config

NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))


def cells_of(name):
    """Return (source, tags) of the code cells."""
    content = json.loads((ROOT / "examples" / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
    return [
        ("".join(cell["source"]), cell["metadata"].get("tags", []))
        for cell in content["cells"]
        if cell["cell_type"] == "code"
    ]


def execute(name, **values):
    """Run the code cells one after the other; values replace those of the cell of parameters. Return the last values of the cells."""
    names, shown = {}, []
    for source, tags in cells_of(name):
        *statements, last = ast.parse(source).body
        is_value = isinstance(last, ast.Expr)
        exec(compile(ast.Module(statements if is_value else [*statements, last], []), name, "exec"), names)
        if is_value:
            shown.append(eval(compile(ast.Expression(last.value), name, "eval"), names))
        if "parameters" in tags:
            assert values.keys() <= names.keys()
            names.update(values)
    plt.close("all")
    return shown, names


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_results_and_begins_with_its_parameters(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert code[0]["metadata"]["tags"] == ["parameters"]
    assert content["cells"][0]["cell_type"] == "markdown" and (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in content["cells"]}) == len(content["cells"])


def test_there_are_three():
    assert [path.stem for path in NOTEBOOKS] == ["evaluate_embeddings", "search", "train"]


@pytest.mark.slow
def test_train_then_search(tiny, people, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plt.switch_backend("Agg")
    (tmp_path / "data").symlink_to(people)
    place = tiny.index("OUTPUT_DIR")
    options = [*tiny[:place], *tiny[place + 2 :]]
    shown, names = execute("train", EPOCHS=2, OPTIONS=options)
    assert load_config(tmp_path / "logs" / "notebook" / "config.yml").SOLVER.MAX_EPOCHS == 2
    assert shown[0]["Rank-1"].endswith("%") and names["report"].is_file()
    shown, names = execute("search", SOURCE="market1501:gallery", ROOT=str(people / "synthetic"))
    count, columns = shown[0]
    assert count > 0 and "camera" in columns and len(shown[1]) == 6


@pytest.mark.slow
def test_evaluate_embeddings():
    shown, _ = execute("evaluate_embeddings", NUM_PEOPLE=20)
    value, (low, high) = shown[0]["Rank-1"]
    assert low <= value <= high and len(shown[1]) == 5 and 0 <= shown[2]["AUC"] <= 1
    assert shown[-1][0] < 0, "half of the values are worse"
