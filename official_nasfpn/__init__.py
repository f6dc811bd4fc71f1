"""Search, train, measure, export and serve NAS-FPN detectors (Ghiasi, Lin, Le, CVPR 2019)."""

# An old Python must be able to read this file, so that it can say that it is too old.
import os
import sys

__version__ = "0.1.0"

if not (3, 10) <= sys.version_info[:2] <= (3, 13):
  _refusal = ImportError(
    "official_nasfpn needs Python 3.10 to 3.13, and this is %d.%d." % sys.version_info[:2]  # noqa: UP031
  )
  # So named, `python -m official_nasfpn` shows the sentence alone, without a traceback.
  _refusal.name = __name__
  raise _refusal

# Model Garden 2.20 is written for Keras 2; the choice must be made before TensorFlow is imported.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
# On a machine without a GPU TensorFlow's C++ side logs CUDA "errors" that are none, through the
# middle of progress bars. What really fails reaches Python as an exception.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
