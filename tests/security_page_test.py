"""SECURITY.md names the tests that stand behind it, and they are there."""

import ast
import re

from tests.program_process import REPOSITORY

TEXT = (REPOSITORY / "SECURITY.md").read_text(encoding="utf-8")


def test_every_test_that_is_named_is_there():
  named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)
  assert len(named) > 15
  for path, name in named:
    tree = ast.parse((REPOSITORY / path).read_text(encoding="utf-8"))
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert name in functions, f"{path} has no {name}"


def test_no_pickle_is_read():
  """Only `torch.load` reads one, and takes numbers alone; NumPy is told not to."""
  for path in (REPOSITORY / "official_nasfpn").rglob("*.py"):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
      if isinstance(node, ast.Import):
        assert not {name.name for name in node.names} & {"pickle", "dill", "joblib", "shelve"}, path
      if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        continue
      called = ast.unparse(node.func)
      options = {option.arg: ast.unparse(option.value) for option in node.keywords}
      if called == "np.load":
        assert options.get("allow_pickle") == "False", path
      if called == "torch.load":
        assert options.get("weights_only") == "True", path
      assert not called.startswith(("pickle.", "marshal.", "yaml.load")), path
