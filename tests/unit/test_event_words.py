"""Every kind of event that the code can record has words on a study's page, and no words stand for nothing.

The kinds are read from the calls of `record` in the source: a constant, a name that the function binds or is given by
its callers, or an f-string over one. What cannot be followed fails, so that no kind slips by.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import pytest

from cauda.core import schema
from cauda.listener import phrases

ROOT = Path(__file__).parents[2]
SOURCES = [
    path for part in ("core", "pipeline", "worker", "listener", "deploy") for path in ROOT.glob(f"{part}/**/*.py")
]


class Call(NamedTuple):
    """A call, the functions around it (innermost first), and its module."""

    node: ast.Call
    inside: tuple[ast.FunctionDef, ...]
    module: ast.Module


def calls(module: ast.Module, named: str) -> Iterator[Call]:
    def below(node: ast.AST, inside: tuple[ast.FunctionDef, ...]) -> Iterator[Call]:
        if isinstance(node, ast.FunctionDef):
            inside = (node, *inside)
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == named:
            yield Call(node, inside, module)
        for child in ast.iter_child_nodes(node):
            yield from below(child, inside)

    return below(module, ())


def values(expression: ast.expr, call: Call) -> Iterator[str]:
    """Every value that an expression can have in a call's arguments."""
    match expression:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=[ast.Constant(value=str(head)), ast.FormattedValue(value=tail)]):
            yield from (head + text for text in values(tail, call))
        case ast.Attribute(value=ast.Name(id=enum), attr=member) if hasattr(schema, enum):
            yield str(getattr(schema, enum)[member])
        case ast.IfExp(body=one, orelse=other):
            yield from values(one, call)
            yield from values(other, call)
        case ast.Name(id=name):
            yield from bound(name, call)
        case _:
            pytest.fail(f"line {expression.lineno}: cannot tell what kind of event {ast.unparse(expression)} is")


def bound(name: str, call: Call) -> Iterator[str]:
    """What a name is bound to in the function around the call, or by those who call that function."""
    function = call.inside[0]
    found = [
        node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id == name for to in node.targets)
    ]
    if found:
        for value in found:
            yield from values(value, call)
        return
    given = {one.arg: one.annotation for one in (*function.args.args, *function.args.kwonlyargs)}
    annotation = getattr(schema, ast.unparse(given[name] or ast.Constant("")), None)
    place = [one.arg for one in function.args.args].index(name) if name in {a.arg for a in function.args.args} else None
    if function.name.startswith("_") and place is not None:  # nobody outside calls it
        for caller in calls(call.module, function.name):
            yield from values(caller.node.args[place], caller)
    elif isinstance(annotation, type) and issubclass(annotation, StrEnum):
        yield from (str(member) for member in annotation)
    else:
        pytest.fail(f"{function.name}: cannot tell what {name} can be")


def recorded() -> set[str]:
    """Every kind that some call of `record` can write."""
    modules = [ast.parse(path.read_text()) for path in SOURCES]
    return {kind for module in modules for call in calls(module, "record") for kind in values(call.node.args[2], call)}


def test_every_kind_of_event_that_the_code_can_record_has_its_words() -> None:
    """A kind without words would stand on the page as the program spells it."""
    kinds = recorded()
    assert {"study_opened", "delivery_refused", "peer_forbid", "delivery_again", "commitment_told"} <= kinds
    assert kinds - set(phrases.EVENTS) == set()


def test_no_words_stand_for_an_event_that_nothing_records() -> None:
    assert set(phrases.EVENTS) - recorded() == set()
