"""Exports in use: `detector.Detector`, and below it a runtime for each format."""
