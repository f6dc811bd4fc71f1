"""Lists where weights of backbones can be had: address, licence, size, checksum, and the setting.

    nasfpn weights
    nasfpn weights --backbone R-50

Training.backbone_weights = 'imagenet' fetches the first one of its backbone into the folder that is
printed; a file that is put there by hand is taken as well.
"""

from absl import flags

from official_nasfpn.errors import UserError, nearest_name, refuse_positional_arguments, run_program
from official_nasfpn.modeling.backbones import BACKBONES
from official_nasfpn.modeling.imagenet_weights import PUBLISHED_FILES, PublishedFile, fits
from official_nasfpn.modeling.weights_cache import FOLDER_VARIABLE, cache_folder

_BACKBONE = flags.DEFINE_string("backbone", None, "Lists those of this backbone alone.")


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  name = _BACKBONE.value
  if name is not None and name not in BACKBONES:
    nearest = nearest_name(name, BACKBONES)
    raise UserError(f"--backbone {name}: there is no such backbone. Did you mean {nearest}?")
  files = [file for file in PUBLISHED_FILES if name is None or fits(file, name)]
  if not files:
    raise UserError(f"There are no published weights for {name}.")
  print("\n\n".join(map(_entry, files)))
  print(
    f"\nFolder of fetched files: {cache_folder()} ({FOLDER_VARIABLE} names another one).\n"
    "Training.backbone_weights = 'imagenet' takes the first file of a backbone."
  )


def _entry(file: PublishedFile) -> str:
  """Returns the lines on a file."""
  size = "size not stated" if file.megabytes is None else f"{file.megabytes} MB"
  needs = "; needs PyTorch (pip install torch)" if file.needs_torch else ""
  rows = [
    ("from", file.url or file.place),
    ("file", f"{file.file}, {size}{needs}"),
    ("checksum", file.checksum_text),
    ("licence", file.licence),
    ("setting", f"Training.backbone_weights = '{file.setting}'"),
  ]
  lines = [f"{file.backbone}: {file.name}", *(f"  {name:8}  {text}" for name, text in rows)]
  return "\n".join(lines)


if __name__ == "__main__":
  run_program(main)
