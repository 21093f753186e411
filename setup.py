"""The repository root is the package `vitreid`: `model/` imports as `vitreid.model`."""

from pathlib import Path

from setuptools import setup

ROOMS = [
    "common",
    "configs",
    "datasets",
    "deploy",
    "evaluation",
    "gallery",
    "labels",
    "loss",
    "model",
    "processor",
    "report",
    "solver",
    "tools",
    "tracking",
]
RECIPES = [
    "duke",
    "occ_duke",
    "veri",
    "vehicleid",
    "market",
    "mars",
    "msmt17",
    "synthetic",
]  # folders of YAML files, packages to setuptools
PACKAGES = [
    file.parent.as_posix().replace("/", ".") for room in ROOMS for file in sorted(Path(room).rglob("__init__.py"))
]

setup(
    packages=[
        "vitreid",
        *(f"vitreid.{name}" for name in PACKAGES),
        *(f"vitreid.configs.{folder}" for folder in RECIPES),
        "vitreid.gallery.web.static",
    ],
    package_dir={"vitreid": "."},
    package_data={
        **{f"vitreid.configs.{folder}": ["*.yml"] for folder in RECIPES},
        "vitreid.report.page": ["*.css", "*.j2"],
        "vitreid.gallery.web.static": ["*"],
    },
)
