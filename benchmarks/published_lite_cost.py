"""Finds heads that fit the published cost of FPNLite and NAS-FPNLite, which the paper leaves open.

    python -m benchmarks.published_lite_cost

Counts parameters and FLOPs of every combination of `CHOICES`, in closed form at 320 x 320 pixels,
and prints the closest ones to Table 1, with the largest of their four differences.
"""

import itertools
from collections.abc import Iterator

from absl import app

# By level: the positions of a map, and the channels of MobileNetV2's maps.
_POSITIONS = {3: 1600, 4: 400, 5: 100, 6: 25, 7: 9}
_CHANNELS = {3: 32, 4: 96, 5: 320}
_TRUNK_MULTIPLY_ADDS = 570.2528e6
_TRUNK_PARAMETERS = {False: 1.811712e6, True: 1.843264e6}

# (width, repeats): millions of parameters, billions of FLOPs. With 0 repeats it is an FPN.
PUBLISHED = {
  "FPNLite": {(64, 0): (2.02, 1.51), (128, 0): (2.20, 2.03)},
  "NAS-FPNLite": {(48, 3): (2.16, 1.52), (64, 7): (2.62, 1.96)},
}

CHOICES = {
  "classes": (90, 91),
  "anchors": (3, 6, 9),
  "max_level": (6, 7),
  "class_and_box_share_a_tower": (False, True),
  "convolutions_in_a_tower": (0, 1, 2, 3, 4),
  "prediction": ("separable", "1x1", "3x3"),
  "predictions_differ_by_level": (False, True),
  "top_levels": ("max_pool", "separable", "3x3", "3x3 of C5", "1x1 of C5"),
  "moving_statistics_counted": (False, True),
  "fpn_output_convolutions": (2, 3),
}


def cost(width: int, repeats: int, choice: dict) -> tuple[float, float]:
  """Returns millions of parameters and billions of FLOPs of a detector.

  Args:
    width: channels of pyramid and heads.
    repeats: repeats of NAS-FPNLite; 0 for FPNLite.
    choice: one value for each of `CHOICES`.
  """
  norm = 4 if choice["moving_statistics_counted"] else 2
  separable = (9 + width) * width
  levels = range(3, choice["max_level"] + 1)
  parameters: float = _TRUNK_PARAMETERS[choice["moving_statistics_counted"]]
  multiply_adds = _TRUNK_MULTIPLY_ADDS

  def add(kernel: int, others: int, positions: int, copies: int = 1) -> None:
    nonlocal parameters, multiply_adds
    parameters += copies * (kernel + others)
    multiply_adds += kernel * positions

  for level, channels in _CHANNELS.items():
    add(channels * width, (1 + norm) * width, _POSITIONS[level])
  if repeats:
    # 15 cells: 11 intermediate ones at level 4, and an output at each level.
    positions = 11 * _POSITIONS[4] + sum(_POSITIONS[level] for level in (3, 4, 5, 6))
    parameters += repeats * 15 * (separable + (1 + norm) * width)
    multiply_adds += repeats * separable * positions
  else:
    for level in (3, 4, 5)[: choice["fpn_output_convolutions"]]:
      add(separable, (1 + norm) * width, _POSITIONS[level])
  for level in range(6, choice["max_level"] + 1):
    below = 320 if level == 6 else width
    kernels = {
      "separable": separable,
      "3x3": 9 * width**2,
      "3x3 of C5": 9 * below * width,
      "1x1 of C5": below * width,
    }
    if choice["top_levels"] in kernels:
      add(kernels[choice["top_levels"]], (1 + norm) * width, _POSITIONS[level])
  positions = sum(_POSITIONS[level] for level in levels)
  for _ in range(1 if choice["class_and_box_share_a_tower"] else 2):
    for _ in range(choice["convolutions_in_a_tower"]):
      # All levels share a convolution; each has its own batch norm.
      add(separable, len(levels) * norm * width + width, positions)
  for outputs in (choice["classes"] * choice["anchors"], 4 * choice["anchors"]):
    kernels = {
      "separable": (9 + outputs) * width,
      "1x1": outputs * width,
      "3x3": 9 * outputs * width,
    }
    copies = len(levels) if choice["predictions_differ_by_level"] else 1
    add(kernels[choice["prediction"]], outputs, positions, copies)
  return parameters / 1e6, 2 * multiply_adds / 1e9


def all_choices() -> Iterator[dict]:
  """Yields every combination of `CHOICES`."""
  for values in itertools.product(*CHOICES.values()):
    yield dict(zip(CHOICES, values, strict=True))


def largest_difference(name: str, choice: dict) -> float:
  """Returns the largest difference to the published numbers of a model, in per cent."""
  return max(
    100 * abs(ours / theirs - 1)
    for (width, repeats), published in PUBLISHED[name].items()
    for ours, theirs in zip(cost(width, repeats, choice), published, strict=True)
  )


def main(argv: list[str]) -> None:
  del argv
  choices = list(all_choices())
  print(f"{len(choices):,} combinations")
  for name in PUBLISHED:
    print(f"{name}, largest of four differences:")
    for choice in sorted(choices, key=lambda choice: largest_difference(name, choice))[:5]:
      text = ", ".join(f"{key} {value}" for key, value in choice.items())
      print(f"  {largest_difference(name, choice):.2f} %: {text}")


if __name__ == "__main__":
  app.run(main)
