"""Augmentations of detection: what training sees of its images. See `composition.py` first."""
