"""Pictures of any depth and mode as 8-bit RGB, in one way for training, detection and drawing."""

import numpy as np
from PIL import Image


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
