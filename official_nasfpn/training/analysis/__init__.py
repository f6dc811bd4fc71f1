"""What a detector gets right and wrong: NumPy over annotated and detected boxes, no TensorFlow."""
