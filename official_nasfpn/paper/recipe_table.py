"""The table of recipes: the size of our models beside the published one."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from official_nasfpn.errors import UserError, nearest_name
from official_nasfpn.modeling.closed_form import total_size
from official_nasfpn.paper.published import TABLE_1, PublishedModel
from official_nasfpn.recipes import recipes_folder
from official_nasfpn.training.experiment import load_experiment

# The published detectors have the 90 classes of COCO's numbering.
_NUM_CLASSES = 90


@dataclasses.dataclass(frozen=True)
class Comparison:
  """One recipe beside its row of Table 1.

  Attributes:
    published: the row of Table 1.
    parameters: number of our parameters in millions.
    flops: our FLOPs in billions: twice the multiply-adds of one image.
  """

  published: PublishedModel
  parameters: float
  flops: float

  @property
  def parameters_difference(self) -> float:
    """Our parameters relative to the published ones, in per cent of these."""
    return 100 * (self.parameters / self.published.parameters - 1)

  @property
  def flops_difference(self) -> float:
    """Our FLOPs relative to the published ones, in per cent of these."""
    return 100 * (self.flops / self.published.flops - 1)


def published_models(name: str) -> tuple[PublishedModel, ...]:
  """Returns the rows that `--recipe` asks for.

  Args:
    name: a recipe in gin/paper/, with or without folder and `.gin`, or `all`.

  Raises:
    UserError: there is no such recipe.
  """
  if name == "all":
    return TABLE_1
  rows = tuple(row for row in TABLE_1 if row.recipe == Path(name).stem)
  if not rows:
    names = [row.recipe for row in TABLE_1]
    nearest = nearest_name(Path(name).stem, names)
    raise UserError(
      f"--recipe {name!r} has no published numbers. Did you mean {nearest}? Known are all, "
      f"{', '.join(names)}."
    )
  return rows


def recipe_file(row: PublishedModel) -> Path:
  """Returns the recipe of a row."""
  return recipes_folder() / "paper" / f"{row.recipe}.gin"


def compare(rows: Iterable[PublishedModel]) -> list[Comparison]:
  """Computes the size of each recipe's detector."""
  comparisons = []
  for row in rows:
    config = load_experiment([recipe_file(row)]).detector
    size = total_size(config, _NUM_CLASSES)
    comparisons.append(Comparison(row, size.parameters / 1e6, 2 * size.multiply_adds / 1e9))
  return comparisons


def as_table(comparisons: Iterable[Comparison]) -> str:
  """Returns the comparisons as text for a person, remarks below."""
  lines = [
    f"{'recipe':36} {'model':30} {'side':>4}  {'parameters, M':^24}  {'FLOPs, B':^26}  {'AP':>5}",
    f"{'':36} {'':30} {'':>4}  {'ours':>7} {'paper':>7} {'':>8}  {'ours':>8} {'paper':>8} {'':>8}"
    f"  {'paper':>5}",
  ]
  remarks: list[str] = []
  for comparison in comparisons:
    row = comparison.published
    mark = ""
    if row.remark:
      if row.remark not in remarks:
        remarks.append(row.remark)
      mark = f" [{remarks.index(row.remark) + 1}]"
    lines.append(
      f"{row.recipe:36} {row.name:30} {row.image_side:>4}  "
      f"{comparison.parameters:>7.2f} {row.parameters:>7.2f} "
      f"{comparison.parameters_difference:>+7.2f}%  "
      f"{comparison.flops:>8.2f} {row.flops:>8.2f} {comparison.flops_difference:>+7.2f}%  "
      f"{row.test_dev_ap:>5.1f}{mark}"
    )
  lines += [f"[{number}] {remark}" for number, remark in enumerate(remarks, start=1)]
  lines.append(
    "FLOPs are the paper's: twice the multiply-adds of one image. AP is the published one, on COCO "
    "test-dev; none of these has been trained by us."
  )
  return "\n".join(lines)


def as_data(comparisons: Iterable[Comparison]) -> list[dict]:
  """Returns the comparisons as dictionaries ready for JSON."""
  return [
    {
      "recipe": comparison.published.recipe,
      "parameters": comparison.parameters,
      "flops": comparison.flops,
      "parameters_difference_percent": comparison.parameters_difference,
      "flops_difference_percent": comparison.flops_difference,
      "published": dataclasses.asdict(comparison.published),
    }
    for comparison in comparisons
  ]
