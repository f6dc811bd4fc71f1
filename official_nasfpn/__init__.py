"""Search, train, measure, export and serve NAS-FPN detectors (Ghiasi, Lin, Le, CVPR 2019)."""

import os

# Model Garden 2.20 is written for Keras 2; the choice must be made before TensorFlow is imported.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
# Leaves TensorFlow's start-up notes out of what a person reads; warnings and errors stay.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")

__version__ = "0.1.0"
