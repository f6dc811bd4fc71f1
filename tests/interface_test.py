"""The names that `official_nasfpn` itself offers: there, typed, documented, imported when used."""

import inspect
import subprocess
import sys

import pytest

import official_nasfpn


def test_every_name_is_where_it_says():
  assert sorted(official_nasfpn.__all__) == sorted(official_nasfpn._MODULES)
  for name, module in official_nasfpn._MODULES.items():
    value = getattr(official_nasfpn, name)
    assert (value.__module__, value.__name__) == (module, name)
    assert inspect.getdoc(value), name
  assert set(official_nasfpn.__all__) <= set(dir(official_nasfpn))


@pytest.mark.parametrize("name", [name for name in official_nasfpn.__all__ if name[0].islower()])
def test_functions_are_typed(name):
  signature = inspect.signature(getattr(official_nasfpn, name))
  assert signature.return_annotation is not inspect.Signature.empty
  for parameter in signature.parameters.values():
    assert parameter.annotation is not inspect.Parameter.empty, parameter


def test_no_other_name_is_there():
  with pytest.raises(AttributeError, match="has no attribute 'train_detecter'"):
    official_nasfpn.train_detecter  # noqa: B018


def test_reading_recipes_and_data_needs_no_tensorflow():
  code = (
    "import sys, official_nasfpn as nasfpn\n"
    "nasfpn.read_recipe(['gin/quickstart_search.gin'])\n"
    "nasfpn.load_experiment(['gin/quickstart.gin'])\n"
    "nasfpn.Search, nasfpn.prepare_dataset, nasfpn.train_detector, nasfpn.export_detector\n"
    "sys.exit('tensorflow' in sys.modules)"
  )
  subprocess.run([sys.executable, "-c", code], check=True)
