"""The published pyramids."""

import csv
from pathlib import Path

import pytest

from official_nasfpn.architecture import (
  BASELINES,
  CATALOG,
  SearchSpace,
  architecture_by_name,
  canonical_hash,
  from_gin,
  pyramid_parameters,
  unconsumed_inputs,
)
from official_nasfpn.errors import UserError


def test_names_lead_to_pyramids():
  assert list(CATALOG) == ["nas_fpn", "nas_fpnlite_ours", "fpn_like", "panet", "bifpn_like"]
  assert list(BASELINES) == ["fpn", "ssdlite"]
  for name, spec in [*CATALOG.items(), *BASELINES.items()]:
    assert architecture_by_name(name) is spec


@pytest.mark.parametrize(
  ("name", "nearest"), [("nasfpn", "nas_fpn"), ("FPN", "fpn"), ("PANet", "panet"), ("", "ssdlite")]
)
def test_an_unknown_name_leads_to_the_nearest_one(name, nearest):
  names = r"\(nas_fpn, nas_fpnlite_ours, .*, fpn, ssdlite\)"
  with pytest.raises(UserError, match=rf"'{name}'.*{names}.*Did you mean {nearest}"):
    architecture_by_name(name)


def test_fpn_like_passes_every_level_down_to_the_next():
  spec = CATALOG["fpn_like"]
  assert [cell.level for cell in spec.cells] == [7, 6, 5, 4, 3]
  for cell, above in zip(spec.cells[1:], spec.cells, strict=False):
    levels = [spec.level_of(candidate) for candidate in cell.inputs]
    assert sorted(levels) == [cell.level, above.level]


def sources(spec):
  """Returns, for every cell, whether its inputs are inputs (C) or cells (T, P) of which level."""
  return [
    {("C" if index < len(spec.levels) else "cell", spec.level_of(index)) for index in cell.inputs}
    for cell in spec.cells
  ]


def test_panet_goes_down_and_up_again():
  spec = CATALOG["panet"]
  assert [cell.level for cell in spec.cells] == [6, 5, 4, 3, 4, 5, 6, 7]
  assert sources(spec) == [
    {("C", 6), ("C", 7)},
    {("C", 5), ("cell", 6)},
    {("C", 4), ("cell", 5)},
    {("C", 3), ("cell", 4)},
    {("cell", 4), ("cell", 3)},
    {("cell", 5), ("cell", 4)},
    {("cell", 6), ("cell", 5)},
    {("C", 7), ("cell", 6)},
  ]


def test_bifpn_like_sees_the_input_of_every_middle_level_again():
  spec = CATALOG["bifpn_like"]
  down, again, up = spec.cells[:3], spec.cells[3:6], spec.cells[6:]
  assert [cell.level for cell in down] == [6, 5, 4]
  assert [cell.level for cell in again] == [4, 5, 6]
  assert [cell.level for cell in up] == [3, 4, 5, 6, 7]
  for cell in again:
    assert {spec.level_of(index) for index in cell.inputs} == {cell.level}
    assert min(cell.inputs) == cell.level - 3  # C of its level.
  for cell, below in zip(up[1:4], up, strict=False):
    first, second = cell.inputs
    assert spec.cells[first - len(spec.levels)] in again
    assert spec.cells[second - len(spec.levels)] is below


def test_no_input_of_these_is_added_by_the_rule_for_unconsumed_ones():
  for name in ("fpn_like", "panet", "bifpn_like"):
    assert not any(unconsumed_inputs(CATALOG[name])), name


@pytest.mark.parametrize("num_filters", [64, 256])
def test_fpn_like_has_the_parameters_of_retinanets_fpn(num_filters):
  # Three 3x3 convolutions on the outputs, two that make P6 and P7, each with bias and batch norm.
  expected = (3 + 2) * (9 * num_filters**2 + num_filters + 2 * num_filters)
  assert pyramid_parameters(CATALOG["fpn_like"], num_filters) == expected


def test_our_nas_fpnlite_is_what_its_search_found():
  folder = Path(__file__).parents[2] / "docs" / "nas_fpnlite_search"
  spec = CATALOG["nas_fpnlite_ours"]
  assert from_gin((folder / "best_architecture.gin").read_text()) == spec
  with (folder / "trials.csv").open() as file:
    trials = list(csv.DictReader(file))
  best = max(trials, key=lambda trial: float(trial["reward"]))
  assert best["architecture_hash"] == canonical_hash(spec)
  space = SearchSpace(3, 6, 11, intermediate_levels=(4,))
  assert space.decode([int(choice) for choice in best["choices"].split()]) == spec
  # 15 separable blocks; the paper's Figure 9b leaves about 75 k for a repeat @ 64.
  assert spec.num_cells == 15
  assert pyramid_parameters(spec, 64, separable=True) == 72_960
