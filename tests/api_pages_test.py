"""The pages of the public interface: fresh, whole, and each name with a docstring."""

import importlib
import inspect

import pytest

from scripts.api_pages import FOLDER, MODULES, page


@pytest.mark.parametrize("module", MODULES)
def test_the_page_is_fresh(module):
  written = (FOLDER / f"{module}.md").read_text(encoding="utf-8")
  assert written == page(module), "run: ./scripts/docs.sh"


def test_there_are_no_other_pages():
  assert {path.name for path in FOLDER.iterdir()} == {f"{module}.md" for module in MODULES}


@pytest.mark.parametrize("module", MODULES)
def test_every_public_class_and_function_says_what_it_is(module):
  namespace = importlib.import_module(module)
  public = {name: getattr(namespace, name) for name in getattr(namespace, "__all__", ())}
  named = {
    name: value
    for name, value in public.items()
    if inspect.isclass(value) or inspect.isfunction(value)
  }
  # A dataclass without a docstring gets its signature for one.
  assert [
    name
    for name, value in named.items()
    if not value.__doc__ or value.__doc__.startswith(f"{name}(")
  ] == []


def test_a_page_has_signatures_fields_methods_and_sections():
  text = page("official_nasfpn.architecture")
  assert "## pyramid_parameters\n\n```python\ndef pyramid_parameters(" in text
  assert "class MergingCell:\n  inputs: tuple[int, int]\n  level: int\n  op: str\n```" in text
  assert "### PyramidSpec.from_block_specs\n\n```python\n@classmethod\ndef from_" in text
  assert "**Raises:**\n\n - **UserError:**  there is no such name or file" in text
  assert "## MERGE_OPS\n\nA table of `sum`, `global_pool`.\n" in text
