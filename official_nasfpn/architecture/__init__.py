"""What a pyramid is: specs, their search space and their cost, in plain Python.

Drawings are made by `official_nasfpn.architecture.diagram`, which is not imported here because it
loads matplotlib.
"""

from official_nasfpn.architecture.baselines import BASELINES, Baseline, Fpn, Ssdlite
from official_nasfpn.architecture.canonical import canonical_form, canonical_hash
from official_nasfpn.architecture.catalog import (
  CATALOG,
  Architecture,
  architecture_by_name,
  pyramid_name,
)
from official_nasfpn.architecture.cost import pyramid_multiply_adds, pyramid_parameters
from official_nasfpn.architecture.formats import (
  SEARCHED_FILES,
  from_gin,
  from_json,
  names_a_file,
  resolve_architecture,
  to_gin,
  to_json,
)
from official_nasfpn.architecture.merge_ops import MERGE_OPS, MergeOp
from official_nasfpn.architecture.search_space import Decision, SearchSpace
from official_nasfpn.architecture.spec import MergingCell, PyramidSpec
from official_nasfpn.architecture.wiring import (
  coarse_and_fine,
  inputs_are_ordered,
  unconsumed_inputs,
)

__all__ = [
  "BASELINES",
  "CATALOG",
  "MERGE_OPS",
  "SEARCHED_FILES",
  "Architecture",
  "Baseline",
  "Decision",
  "Fpn",
  "MergeOp",
  "MergingCell",
  "PyramidSpec",
  "SearchSpace",
  "Ssdlite",
  "architecture_by_name",
  "canonical_form",
  "canonical_hash",
  "coarse_and_fine",
  "from_gin",
  "from_json",
  "inputs_are_ordered",
  "names_a_file",
  "pyramid_multiply_adds",
  "pyramid_name",
  "pyramid_parameters",
  "resolve_architecture",
  "to_gin",
  "to_json",
  "unconsumed_inputs",
]
