"""Counting problems."""

from official_nasfpn.data.report import Report, report_table


def test_reports_add_up_and_keep_three_examples():
  first, second = Report(), Report()
  for name in "abcd":
    first.note("images_missing", name)
  second.note("images_missing", "e")
  second.note("boxes_clipped", "f")
  first.add(second)
  assert first.to_json() == {
    "images_missing": {"count": 5, "examples": ["a", "b", "c"]},
    "boxes_clipped": {"count": 1, "examples": ["f"]},
  }


def test_table_says_what_was_done_about_each_problem():
  report = Report()
  for name in "abcd":
    report.note("images_missing", name)
  assert report_table(report.to_json()) == (
    "       4 image files not found: left out  (a, b, c, ...)\n"
  )
  assert report_table({}) == "No problems found.\n"
