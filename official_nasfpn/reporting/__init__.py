"""What the reports of a search and of a run share: charts, style, page parts, TensorBoard files."""
