"""What mypyc makes of valid Python, and must not be given: see ``COMPILED`` in setup.py."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SETUP = (ROOT / "setup.py").read_text()
COMPILED = re.findall(r'"(\w+/\w+)"', SETUP[SETUP.index("COMPILED = (") : SETUP.index("def ext")])

HARMLESS = {"len", "min", "max", "find", "rfind"}
"""Functions that may be called twice."""


@pytest.fixture(params=COMPILED)
def module(request: pytest.FixtureRequest) -> ast.Module:
    return ast.parse((ROOT / "siger_gateway" / f"{request.param}.py").read_text())


def test_in_a_function_a_caught_exception_has_a_name_of_its_own(module: ast.Module) -> None:
    """A variable has one type there, that of the first handler: others raise TypeError instead."""
    for function in ast.walk(module):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            types: defaultdict[str, set[str]] = defaultdict(set)
            for node in ast.walk(function):
                if isinstance(node, ast.ExceptHandler) and node.name and node.type:
                    types[node.name].add(ast.unparse(node.type))
            assert all(len(caught) == 1 for caught in types.values()), function.name


def test_nothing_is_called_within_a_slice(module: ast.Module) -> None:
    """It is called twice there."""
    for node in ast.walk(module):
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
            for part in ast.walk(node.slice):
                if isinstance(part, ast.Call):
                    called = ast.unparse(part.func).rpartition(".")[2]
                    assert called in HARMLESS, f"line {node.lineno}: {ast.unparse(node)}"
