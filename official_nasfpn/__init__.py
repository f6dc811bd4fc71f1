"""Search, train, measure, export and serve NAS-FPN detectors (Ghiasi, Lin, Le, CVPR 2019)."""

import os

# Model Garden 2.20 is written for Keras 2; the choice must be made before TensorFlow is imported.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
# On a machine without a GPU TensorFlow's C++ side logs CUDA "errors" that are none, through the
# middle of progress bars. What really fails reaches Python as an exception.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

__version__ = "0.1.0"
