"""Nothing that Cauda reads can run code: every unpickling call in the product is the one that converts old bundles."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("core", "archive", "pipeline", "models", "worker", "listener", "deploy")
MODULES = {"pickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"}
ALLOWED = {"models/convert.py"}


def unpickling(source: str) -> list[str]:
    """What in a module's text can unpickle, by name."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [one.name for one in node.names if one.name.partition(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in MODULES:
            found.append(str(node.module))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "load":
            owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            named = {one.arg: one.value for one in node.keywords}
            safe = {"torch": ("weights_only", True), "np": ("allow_pickle", False)}.get(owner)
            if safe and not (isinstance(value := named.get(safe[0]), ast.Constant) and value.value is safe[1]):
                found.append(f"{owner}.load without {safe[0]}={safe[1]}")
    return found


def test_only_the_conversion_of_old_bundles_unpickles() -> None:
    modules = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    assert len(modules) > 100
    guilty = {str(path.relative_to(ROOT)): found for path in modules if (found := unpickling(path.read_text()))}
    assert set(guilty) == ALLOWED


@pytest.mark.parametrize(
    "source", ["import pickle", "from joblib import load", "torch.load(path)", "torch.load(path, weights_only=False)",
               "np.load(path)", "np.load(path, allow_pickle=True)"],
)  # fmt: skip
def test_the_search_finds_what_it_looks_for(source: str) -> None:
    assert unpickling(source)
    assert not unpickling("np.load(p, allow_pickle=False); torch.load(p, weights_only=True); safetensors.numpy.load(b)")
