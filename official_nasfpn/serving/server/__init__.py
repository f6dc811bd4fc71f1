"""A small server of an export, for trying: TensorFlow Serving's REST API on this machine."""
