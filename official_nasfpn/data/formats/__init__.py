"""Formats of annotations, all read as the structure of COCO JSON, so that checks are the same."""
