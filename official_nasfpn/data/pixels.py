"""Pictures of any depth and mode as 8-bit RGB, in one way for training, detection and drawing."""

import numpy as np
from PIL import ExifTags, Image


class BrokenImageError(Exception):
  """Neither TensorFlow nor Pillow can decode the image, or it has too many pixels."""


def to_rgb(image: Image.Image) -> Image.Image:
  """Returns 8-bit RGB pixels; of 16 bits the upper 8, as TensorFlow does.

  What is transparent gets the colour that the file has for it.

  Raises:
    BrokenImageError: its numbers have no known range.
  """
  # Netpbm's files say how much is white, and Pillow makes it 65535.
  if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
    image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
  if image.mode in ("I", "F"):
    raise BrokenImageError(
      "pixels of 32 bits have no agreed reading as 8 bits; save it with 8 or 16 bits"
    )
  if "transparency" in image.info:
    image = image.convert("RGBA")
  return image.convert("RGB")


def orientation_of(image: Image.Image) -> int:
  """Returns what EXIF says: 1 (upright) to 8; 5 to 8 exchange width and height."""
  orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
  return orientation if orientation in range(1, 9) else 1


def must_turn(
  orientation: int, size: tuple[int, int], annotated_size: tuple[int, int] | None
) -> bool:
  """Returns whether an image is turned as EXIF says.

  It is not where the annotations show that boxes were drawn on the pixels as they lie in the file.

  Args:
    orientation: of EXIF, 1 to 8.
    size: width and height in the file.
    annotated_size: those by the annotations, if they tell.
  """
  sides_tell = orientation >= 5 and size[0] != size[1]
  return orientation != 1 and not (sides_tell and annotated_size == size)
