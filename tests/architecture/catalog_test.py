"""The published pyramids."""

import pytest

from official_nasfpn.architecture import CATALOG, architecture_by_name, pyramid_parameters
from official_nasfpn.errors import UserError


def test_names_lead_to_pyramids():
  assert list(CATALOG) == ["nas_fpn", "fpn"]
  for name, spec in CATALOG.items():
    assert architecture_by_name(name) is spec


@pytest.mark.parametrize(
  ("name", "nearest"), [("nasfpn", "nas_fpn"), ("FPN", "fpn"), ("", "nas_fpn")]
)
def test_an_unknown_name_leads_to_the_nearest_one(name, nearest):
  with pytest.raises(UserError, match=rf"'{name}'.*\(nas_fpn, fpn\).*Did you mean {nearest}"):
    architecture_by_name(name)


def test_fpn_passes_every_level_down_to_the_next():
  spec = CATALOG["fpn"]
  assert [cell.level for cell in spec.cells] == [7, 6, 5, 4, 3]
  for cell, above in zip(spec.cells[1:], spec.cells, strict=False):
    levels = [spec.level_of(candidate) for candidate in cell.inputs]
    assert sorted(levels) == [cell.level, above.level]


@pytest.mark.parametrize("num_filters", [64, 256])
def test_fpn_has_the_parameters_of_retinanets_fpn(num_filters):
  # Three 3x3 convolutions on the outputs, two that make P6 and P7, each with bias and batch norm.
  expected = (3 + 2) * (9 * num_filters**2 + num_filters + 2 * num_filters)
  assert pyramid_parameters(CATALOG["fpn"], num_filters) == expected
