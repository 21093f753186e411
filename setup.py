"""The repository root is the package `vitreid`: `model/` imports as `vitreid.model`."""

from setuptools import setup

ROOMS = [
    "benchmarks",
    "configs",
    "datasets",
    "datasets.checks",
    "evaluation",
    "gallery",
    "gallery.web",
    "loss",
    "model",
    "processor",
    "processor.ship",
    "report",
    "solver",
    "tools",
]
RECIPES = ["duke", "market", "msmt17", "synthetic"]  # folders of YAML files, packages in setuptools' eyes

setup(
    packages=["vitreid", *(f"vitreid.{room}" for room in ROOMS), *(f"vitreid.configs.{folder}" for folder in RECIPES)],
    package_dir={"vitreid": "."},
    package_data={
        **{f"vitreid.configs.{folder}": ["*.yml"] for folder in RECIPES},
        "vitreid.report": ["*.css"],
        "vitreid.gallery.web": ["*.css", "*.html", "*.js", "*.svg"],
    },
)
