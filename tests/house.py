"""The source of vitreid as data: files, imports, classes and functions, read with `ast` for end_to_end/test_house.py."""

import ast
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from helpers import ROOT

ROOMS = tuple(sorted(file.parent.name for file in ROOT.glob("*/__init__.py")))


class Import(NamedTuple):
    """An import of ours, and whether a function makes it."""

    module: str  # below `vitreid`
    names: tuple[str, ...]
    in_function: bool


@dataclass(frozen=True)
class Source:
    """A Python file of a room."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @property
    def room(self) -> str:
        return self.name.split("/")[0]

    @property
    def module(self) -> str:
        """The dotted name below `vitreid`."""
        return self.name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def imports(self) -> list[Import]:
        inside = {
            id(node)
            for function in ast.walk(self.tree)
            if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
            for node in ast.walk(function)
        }
        found = []
        for node in ast.walk(self.tree):
            if not isinstance(node, ast.ImportFrom):
                continue
            if node.level:
                folders = self.name.split("/")[:-1]
                base = [*folders[: len(folders) - node.level + 1], *filter(None, [node.module])]
            elif (node.module or "").split(".")[0] == "vitreid":
                base = (node.module or "").split(".")[1:]
            else:
                continue
            names = tuple(alias.name for alias in node.names)
            found.append(Import(".".join(base), names, id(node) in inside))
        return found

    @cached_property
    def prose(self) -> list[tuple[int, str]]:
        """Docstrings and comments, as (line, text)."""
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        nodes = [node for node in ast.walk(self.tree) if isinstance(node, documented)]
        found = [(node.body[0].lineno, ast.get_docstring(node, clean=False)) for node in nodes]
        comments = [(number, line.partition("# ")[2]) for number, line in enumerate(self.text.splitlines(), 1)]
        return [(line, text) for line, text in [*found, *comments] if text]

    def imported_modules(self, modules: dict[str, "Source"], deferred: bool = True) -> set[str]:
        """The files of ours that this one imports, by module name."""
        found = set()
        for one in self.imports:
            if one.in_function and not deferred:
                continue
            for name in one.names:
                below = f"{one.module}.{name}".lstrip(".")
                found.add(below if below in modules else one.module)
        return (found & modules.keys()) - {self.module}


SOURCES = [
    Source(path) for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")) if "__pycache__" not in path.parts
]
TESTS = [Source(path) for path in sorted((ROOT / "tests").rglob("*.py"))]
MODULES = {source.module: source for source in SOURCES}


def circles() -> list[list[str]]:
    """Groups of files that import each other in a loop (strongly connected components of more than one file)."""
    arrows = {name: source.imported_modules(MODULES) for name, source in MODULES.items()}
    order: list[str] = []
    seen: set[str] = set()
    for start in arrows:
        stack = [(start, iter(arrows[start]))] if start not in seen else []
        seen.add(start)
        while stack:
            name, following = stack[-1]
            following_one = next((other for other in following if other not in seen), None)
            if following_one is None:
                order.append(name)
                stack.pop()
            else:
                seen.add(following_one)
                stack.append((following_one, iter(arrows[following_one])))
    back: dict[str, set[str]] = {name: set() for name in arrows}
    for name, others in arrows.items():
        for other in others:
            back[other].add(name)
    groups, placed = [], set()
    for start in reversed(order):
        group, todo = [], [start]
        while todo:
            name = todo.pop()
            if name not in placed:
                placed.add(name)
                group.append(name)
                todo += back[name]
        if len(group) > 1:
            groups.append(sorted(group))
    return groups
