"""The options as JSON Schema: it accepts what the recipes hold and refuses what they refuse."""

import json
import re
from pathlib import Path

import pytest
import yaml
from helpers import ROOT

import vitreid.configs
from vitreid.configs import OPTIONS
from vitreid.configs.json_schema import json_schema
from vitreid.tools.cli.main import main

jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema")


@pytest.fixture(scope="module")
def validator():
    jsonschema.Draft202012Validator.check_schema(json_schema())
    return jsonschema.Draft202012Validator(json_schema())


RECIPES = sorted(Path(vitreid.configs.__file__).parent.glob("*/*.yml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_fits(validator, recipe):
    validator.validate(yaml.safe_load(recipe.read_text()))


def test_the_defaults_fit(validator):
    values = {}
    for key, option in OPTIONS.items():
        section, _, name = key.rpartition(".")
        default = list(option.default) if isinstance(option.default, tuple) else option.default
        (values.setdefault(section, {}) if section else values)[name] = default
    validator.validate(values)


@pytest.mark.parametrize(
    "wrong",
    [
        {"SOLVER": {"BASE_RL": 0.1}},
        {"SOLVER": {"BASE_LR": -1}},
        {"SOLVER": {"PRECISION": "int4"}},
        {"INPUT": {"SIZE_TRAIN": [256]}},
        {"SOLVER": {"EMA": "much"}},
        {"TYPO": {}},
    ],
)
def test_what_a_recipe_refuses_the_schema_refuses(validator, wrong):
    assert list(validator.iter_errors(wrong))


def test_the_command_prints_the_schema(capsys):
    assert main(["options", "--json-schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(json_schema()))


@pytest.mark.clone
def test_the_map_for_language_models_names_every_page_and_nothing_else():
    """docs/llms.txt, in the form of llmstxt.org: a heading, a summary, then sections of links."""
    text = (ROOT / "docs" / "llms.txt").read_text()
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert set(re.findall(r"\]\((\S+)\)", text)) == pages
    assert re.match(r"# vitreid\n\n> .+\n\n", text)
    extras = set(re.search(r"extras (.+)\.\n", text)[1].replace("`", "").split(", "))
    known = re.search(
        r"^\[project.optional-dependencies\]\n(.*?)^\[", (ROOT / "pyproject.toml").read_text(), re.M | re.S
    )[1]
    assert extras == set(re.findall(r"^(\w+) = ", known, re.M)) - {"test", "docs", "dev"}
