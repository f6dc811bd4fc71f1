r"""Prints parameters and multiply-adds of each part of a detector, given in the paper's notation.

    nasfpn describe --model "R-50, 7 @ 256" --image_size 640
    nasfpn describe --model "R-18, 3 @ 64" --image_size 320 \
        --architecture runs/search/best_architecture.gin --diagram pyramid.png
    nasfpn describe --recipe all
"""

import json
import re
from pathlib import Path

from absl import flags

from official_nasfpn import configuration
from official_nasfpn.architecture import Architecture, PyramidSpec, pyramid_name
from official_nasfpn.disk import check_picture_path, disk_errors
from official_nasfpn.errors import UserError, refuse_positional_arguments, run_program
from official_nasfpn.modeling import DetectorConfig
from official_nasfpn.modeling.closed_form import detector_size
from official_nasfpn.modeling.layer_sizes import Size
from official_nasfpn.paper import recipe_table

_MODEL = flags.DEFINE_string(
  "model",
  "R-50, 7 @ 256",
  "The model as the paper writes it: backbone, repeats of the pyramid @ its width. A backbone "
  'alone, "R-50", is the FPN baseline: one FPN of width 256.',
)
_IMAGE_SIZE = flags.DEFINE_string(
  "image_size", "640", "Side of the square input in pixels, or HEIGHTxWIDTH."
)
_ARCHITECTURE = flags.DEFINE_string(
  "architecture",
  None,
  "Name of the pyramid in the catalogue, or a .gin or .json file. Default: nas_fpn, or fpn where "
  "--model is a backbone alone.",
)
_NUM_CLASSES = flags.DEFINE_integer(
  "num_classes", 90, "Object classes. The published detectors have the 90 of COCO's numbering."
)
_RECIPE = flags.DEFINE_string(
  "recipe",
  None,
  "A recipe of gin/paper/, or `all`: prints parameters and FLOPs next to the published ones.",
)
_FORMAT = flags.DEFINE_enum("format", "text", ["text", "json"], "A table, or JSON for programs.")
_DIAGRAM = flags.DEFINE_string(
  "diagram", None, "Drawing of the pyramid to write, .png, .svg or .pdf."
)


def parse_model(notation: str) -> tuple[str, int | None, int | None]:
  """Reads the paper's notation of a model.

  Args:
    notation: `R-50, 7 @ 256`, or a backbone alone.

  Returns:
    The backbone's name, the number of repeats and the width; None, None for a backbone alone.

  Raises:
    UserError: it is neither.
  """
  match = re.fullmatch(r"\s*([^\s,@]+)\s*(?:,\s*(\d+)\s*@\s*(\d+)\s*)?", notation)
  if not match:
    raise UserError(
      f'--model {notation!r} is not in the paper\'s notation "BACKBONE, REPEATS @ WIDTH", '
      'for example "R-50, 7 @ 256".'
    )
  backbone, num_repeats, num_filters = match.groups()
  if num_repeats is None:
    return backbone, None, None
  return backbone, int(num_repeats), int(num_filters)


def parse_image_size(text: str) -> tuple[int, int]:
  """Reads `640` or `512x768` as (height, width).

  Raises:
    UserError: it is neither.
  """
  match = re.fullmatch(r"(\d+)(?:x(\d+))?", text.strip())
  if not match:
    raise UserError(f"--image_size {text!r} must be a number of pixels, or HEIGHTxWIDTH.")
  height, width = match.groups()
  return int(height), int(width or height)


def detector_config(model: str, architecture: str | None, image_size: str) -> DetectorConfig:
  """Returns the config that the flags of the same names describe.

  Raises:
    UserError: a flag cannot be read, or names what does not exist or cannot be built.
  """
  backbone, num_repeats, num_filters = parse_model(model)
  if num_repeats is None:
    architecture = architecture or "fpn"
    num_repeats, num_filters = 1, 256
  return configuration.build(
    DetectorConfig,
    backbone=backbone,
    architecture=architecture or "nas_fpn",
    num_repeats=num_repeats,
    num_filters=num_filters,
    image_size=parse_image_size(image_size),
  )


def describe(config: DetectorConfig, num_classes: int) -> dict:
  """Counts what a detector costs; nothing is built.

  Args:
    config: what it is made of.
    num_classes: object classes, without a background class.

  Returns:
    A dictionary ready for JSON, with `parameters` and `multiply_adds` (for one image) of each part
    under `parts` and of all under `total`.
  """
  parts = detector_size(config, num_classes)
  return {
    "model": f"{config.backbone}, {config.num_repeats} @ {config.num_filters}",
    "architecture": pyramid_name(config.architecture),
    "image_size": list(config.image_size),
    "num_classes": num_classes,
    "parts": {part: vars(size) for part, size in parts.items()},
    "total": vars(sum(parts.values(), Size())),
  }


def as_table(description: dict) -> str:
  """Returns a description as text for a person."""
  height, width = description["image_size"]
  rows = [
    (part.replace("_", " "), size["parameters"], size["multiply_adds"])
    for part, size in [*description["parts"].items(), ("total", description["total"])]
  ]
  lines = [
    f"{description['model']} with {description['architecture']} at {height} x {width} pixels, "
    f"{description['num_classes']} classes",
    f"{'':20} {'parameters':>12} {'multiply-adds':>14}",
    *(
      f"{part:20} {parameters / 1e6:>10.2f} M {multiply_adds / 1e9:>12.2f} B"
      for part, parameters, multiply_adds in rows
    ),
    "Multiply-adds of the convolutions for one image; the paper's FLOPs are twice as many.",
  ]
  return "\n".join(lines)


def write_diagram(architecture: Architecture, path: str) -> None:
  """Draws a pyramid.

  Raises:
    UserError: it has no merging cells, or the file cannot be written.
  """
  if not isinstance(architecture, PyramidSpec):
    raise UserError(
      f"--diagram draws merging cells, and {pyramid_name(architecture)} has none. For a "
      "drawing of FPN's wiring take --architecture fpn_like."
    )
  from official_nasfpn.architecture.diagram import draw_pyramid

  check_picture_path("--diagram", path)
  with disk_errors(Path(path), "Choose another --diagram."):
    draw_pyramid(architecture, path, title=pyramid_name(architecture))


def print_recipes(name: str, output_format: str) -> None:
  """Prints recipes next to what is published about them.

  Args:
    name: a recipe in gin/paper/, or `all`.
    output_format: `text` or `json`.

  Raises:
    UserError: there is no such recipe.
  """
  rows = recipe_table.published_models(name)
  comparisons = recipe_table.compare(rows)
  if output_format == "json":
    print(json.dumps(recipe_table.as_data(comparisons), indent=2))
  else:
    print(recipe_table.as_table(comparisons))


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  if _RECIPE.value:
    others = (_MODEL, _ARCHITECTURE, _IMAGE_SIZE, _NUM_CLASSES, _DIAGRAM)
    if given := [other.name for other in others if other.present]:
      raise UserError(f"--recipe says all of a model: leave --{given[0]} out.")
    print_recipes(_RECIPE.value, _FORMAT.value)
    return
  if _NUM_CLASSES.value < 1:
    raise UserError(f"--num_classes must be at least 1, not {_NUM_CLASSES.value}.")
  config = detector_config(_MODEL.value, _ARCHITECTURE.value, _IMAGE_SIZE.value)
  if _DIAGRAM.value:
    write_diagram(config.architecture, _DIAGRAM.value)
  description = describe(config, _NUM_CLASSES.value)
  if _FORMAT.value == "json":
    print(json.dumps({**description, "diagram": _DIAGRAM.value}, indent=2))
    return
  print(as_table(description))
  if _DIAGRAM.value:
    print(f"{pyramid_name(config.architecture)} is drawn in {_DIAGRAM.value}")


if __name__ == "__main__":
  run_program(main)
