"""The latency in the quickstart's table."""

from official_nasfpn.serving.detectors.latency import measure_latency


def test_times_are_measured_in_milliseconds(export_dir, photo, tmp_path):
  paths = [tmp_path / "a.jpg", tmp_path / "b.png"]
  for path in paths:
    photo(150, 150).save(path)
  # A file, and bytes as prepared data holds them.
  times = measure_latency(export_dir, [paths[0], paths[1].read_bytes()], repeats=4)
  assert times["repeats"] == 4
  assert 0.1 < times["min_ms"] <= times["median_ms"] <= times["p90_ms"] < 10_000
  # The first call optimises the graph and is not timed.
  assert times["first_ms"] > times["min_ms"]
