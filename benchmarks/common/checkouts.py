"""Other projects' checkouts: single files imported by path, compiled where they have Cython; nothing in them is changed."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from vitreid.benchmarks.common.isolated_process import last_line

_SETUP = """
import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
parts = [Extension("rank_cy", ["rank_cy.pyx"], include_dirs=[numpy.get_include()])]
setup(name="rank_cy", ext_modules=cythonize(parts), script_args=["--quiet", "build_ext", "--inplace"])
"""


@dataclass(frozen=True)
class Checkout:
    """A project's root folder, and the folder that holds its compiled `rank_cy`, if that was built."""

    folder: Path
    compiled: Path | None = None

    def load(self, name: str, compiled: str = "", stubs: Sequence[str] = ()) -> ModuleType:
        """Import the module `name`, e.g. "utils.metrics", without running its packages' __init__ files.

        Args:
            compiled: the package that shall hold the compiled module; empty without a compiled folder.
            stubs: modules of no importance here, replaced by empty ones where they are not installed.
        """
        parts = name.split(".")[:-1]
        for depth in range(1, len(parts) + 1):
            _bare_package(".".join(parts[:depth]), self.folder.joinpath(*parts[:depth]))
        if compiled:
            _bare_package(compiled, self.compiled or self.folder / "not-compiled")
        return _import(name, stubs)


def _bare_package(name: str, folder: Path) -> None:
    """Register a package that only says where its modules are; once, and never in place of another."""
    if name not in sys.modules:
        package = ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package


def _import(name: str, stubs: Sequence[str]) -> ModuleType:
    sys.dont_write_bytecode = True  # no __pycache__ in other people's folders
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name in sys.modules or error.name not in stubs:
            raise
        sys.modules[error.name] = _Stub(error.name)
    return _import(name, stubs)


class _Stub(ModuleType):
    """Has every public name, each an empty class."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def compile_ranks(source: Path, folder: Path) -> Path:
    """Compile a copy of the file `source` (rank_cy.pyx) in `folder`, and return `folder`.

    Raises:
        RuntimeError: Cython or a compiler is missing, or the code does not compile; says which.
    """
    folder.mkdir(parents=True)
    shutil.copy(source, folder / "rank_cy.pyx")
    done = subprocess.run([sys.executable, "-c", _SETUP], cwd=folder, capture_output=True, text=True)
    if done.returncode or not list(folder.glob("rank_cy*.so")) + list(folder.glob("rank_cy*.pyd")):
        raise RuntimeError(f"could not compile {source.name}: {last_line(done.stderr)}")
    return folder
