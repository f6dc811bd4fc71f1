"""How long one image takes through an export, decoding and non-maximum suppression included."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from official_nasfpn.data.image_encoding import encode_image
from official_nasfpn.serving.detectors.detector import Detector


def measure_latency(
  export_dir: str | Path, images: Sequence[str | Path | bytes], repeats: int = 50
) -> dict[str, float | int]:
  """Times single images, one after another.

  Real images and trained weights are needed: random ones hide the cost of non-maximum suppression.

  Args:
    export_dir: the export, in any format.
    images: image files, or what prepared data holds of them, taken in turn.
    repeats: number of timed images.

  Returns:
    `median_ms`, `p90_ms`, `min_ms`: milliseconds per image; `first_ms`: the first image, during
    which TensorFlow optimises its graph; `repeats`.
  """
  detector = Detector(export_dir)
  encoded = [
    image if isinstance(image, bytes) else encode_image(Path(image).read_bytes(), None).data
    for image in images
  ]

  def measure(image: bytes) -> float:
    start = time.perf_counter()
    detector([image])
    return 1000 * (time.perf_counter() - start)

  first = measure(encoded[0])
  measure(encoded[0])  # The second call may still be slower than the rest.
  times = [measure(encoded[index % len(encoded)]) for index in range(repeats)]
  return {
    "median_ms": float(np.median(times)),
    "p90_ms": float(np.percentile(times, 90)),
    "min_ms": min(times),
    "first_ms": first,
    "repeats": repeats,
  }
