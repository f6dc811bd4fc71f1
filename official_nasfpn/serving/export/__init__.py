"""From a run folder to an export: SavedModel, ONNX, TensorFlow Lite, and their check."""
