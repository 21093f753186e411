"""The repository root is the package `vitreid`: `model/` imports as `vitreid.model`."""

from setuptools import setup

ROOMS = ["configs", "datasets", "evaluation", "loss", "model", "processor", "solver", "tools"]

setup(
    packages=["vitreid", *(f"vitreid.{room}" for room in ROOMS)],
    package_dir={"vitreid": "."},
    package_data={"vitreid.configs": ["*/*.yml"]},
)
