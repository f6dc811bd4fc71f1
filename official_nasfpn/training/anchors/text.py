"""The report on anchors as text for a person."""

from collections.abc import Callable, Iterator, Sequence

from official_nasfpn.training.anchors.fit import note_on
from official_nasfpn.training.anchors.report import TINY_SIDE, AnchorReport, Candidate

# Classes with the lowest shares are listed, in datasets of many.
_MAX_CLASSES = 20


def as_text(report: AnchorReport) -> str:
  """Returns the report as lines of at most 100 columns, but for names of classes and files."""
  sections = (_head, _levels, _classes, _tiny, _candidates, _suggestion)
  return "\n\n".join(text for section in sections if (text := "\n".join(section(report))))


def _head(report: AnchorReport) -> Iterator[str]:
  sample = f" ({report.num_sampled:,} of them looked at)"
  yield (
    f"{report.num_boxes:,} boxes{sample if report.num_sampled < report.num_boxes else ''} of train "
    f"and holdout in {report.data_dir},"
  )
  yield f"for a network's input of {_size(report.candidates[0])} pixels."
  low, high = report.scales
  scaled = f"scaled by {low:g} to {high:g}" if low < high else f"scaled by {low:g}"
  yield f"A box is reached if an anchor has an IoU of {report.match_iou:g} or more with it; others"
  yield "are learnt from one anchor alone, their best. Shares and IoUs are of images"
  yield f"{scaled}, as in training; sizes are at scale 1, as in evaluation."


def _levels(report: AnchorReport) -> Iterator[str]:
  yield "level   anchors' sides   best for boxes   with sides of (median)   width / height (median)"
  for row in report.levels:
    line = f"P{row.level:<4} {_span(row.anchor_sides):>16} {row.num_boxes:>16,}"
    if row.box_sides and row.box_ratios:
      low, middle, high = row.box_sides
      line += f"   {_span((low, high)) + f' ({middle:.0f})':>22}"
      low, middle, high = row.box_ratios
      line += f"   {f'{low:.2f} to {high:.2f} ({middle:.2f})':>23}"
    yield line


def _classes(report: AnchorReport) -> Iterator[str]:
  rows = sorted(report.fit.classes, key=lambda row: row.reached)
  width = max(5, *(len(row.name) for row in rows[:_MAX_CLASSES]))
  yield f"{'class':{width}} {'boxes':>9} {'median size':>13} {'reached':>9} {'median IoU':>12}"
  for row in rows[:_MAX_CLASSES]:
    size = f"{row.median_height:.0f} x {row.median_width:.0f}"
    yield (
      f"{row.name:{width}} {row.num_boxes:>9,} {size:>13} {_percent(row.reached):>9} "
      f"{row.median_iou:>12.2f}"
    )
  if (more := len(rows) - _MAX_CLASSES) > 0:
    yield f"and {more} classes of which more is reached"


def _tiny(report: AnchorReport) -> Iterator[str]:
  if not report.tiny:
    return
  yield f"Too small: a side below {TINY_SIDE:g} pixels after scaling"
  for row in report.tiny:
    dropped = (
      f", {row.num_dropped:,} of them dropped at scale {report.scales[0]:g}"
      if row.num_dropped
      else ""
    )
    yield f"  {row.num_boxes:,} of {row.class_name}{dropped} ({', '.join(row.examples)})"


def _candidates(report: AnchorReport) -> Iterator[str]:
  yield (
    f"{'anchor_size':>11}  {'aspect_ratios':22} {'image_size':11} {'all':>7} {'class mean':>11}"
    f" {'least':>7}"
  )
  for row in sorted(report.candidates, key=_order_by(report.candidates[0])):
    marks = [
      mark
      for mark, other in (
        ("now", report.candidates[0]),
        ("suggested", report.suggestion),
        ("slower", report.larger),
      )
      if row is other and not (mark == "suggested" and row is report.candidates[0])
    ]
    size = "its own" if row.anchor_size is None else f"{row.anchor_size:g}"
    yield (
      f"{size:>11}  {_ratios(row.aspect_ratios):22} {_size(row):11} {_percent(row.reached):>7} "
      f"{_percent(row.mean_reached):>11} {_percent(row.worst_reached):>7} of {row.worst_class}"
      f"{'  <- ' + ', '.join(marks) if marks else ''}"
    )


def _order_by(now: Candidate) -> Callable[[Candidate], tuple]:
  """Returns a key: other sizes first, then other ratios, then larger images."""

  def key(row: Candidate) -> tuple:
    is_alike = (row.image_size, row.aspect_ratios) == (now.image_size, now.aspect_ratios)
    return (row.image_size, not is_alike, row.anchor_size or 0 if is_alike else 0)

  return key


def _suggestion(report: AnchorReport) -> Iterator[str]:
  now, suggestion, larger = report.candidates[0], report.suggestion, report.larger
  if suggestion is now:
    fit = "do not fit" if note_on(report.fit, report.match_iou) else "fit"
    share = f"{_percent(now.mean_reached)} in the mean of the classes"
    yield f"The anchors {fit}: they reach {share}, and at this image size"
    yield "no others reach much more."
  else:
    yield f"Suggestion, {_gain(now, suggestion)}:"
    yield from report.suggested_gin.splitlines()
  if larger:
    yield ""
    yield f"Larger images, {_gain(suggestion, larger)}; they take {_cost(now, larger)}:"
    yield from report.gin_of(larger).splitlines()


def _gain(before: Candidate, after: Candidate) -> str:
  return (
    f"{_percent(before.mean_reached)} -> {_percent(after.mean_reached)} in the mean of the classes"
  )


def _cost(before: Candidate, after: Candidate) -> str:
  pixels = [height * width for height, width in (before.image_size, after.image_size)]
  return f"{pixels[1] / pixels[0]:.2g} times as long"


def _percent(share: float) -> str:
  return f"{100 * share:.1f} %"


def _span(sides: Sequence[float]) -> str:
  return f"{sides[0]:.0f} to {sides[1]:.0f}"


def _size(row: Candidate) -> str:
  return "{} x {}".format(*row.image_size)


def _ratios(ratios: Sequence[float] | None) -> str:
  return "its own" if ratios is None else ", ".join(f"{ratio:g}" for ratio in ratios)
