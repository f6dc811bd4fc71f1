"""The check of a dataset as one function: read, look, find, and write the page."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from official_nasfpn.data.doctor.examination import examine
from official_nasfpn.data.doctor.findings import Finding, find
from official_nasfpn.data.doctor.page import class_rows, render_page, split_rows, verdict
from official_nasfpn.data.formats.reading import FORMATS
from official_nasfpn.data.formats.source import read_source
from official_nasfpn.data.preparation import threads_to_use
from official_nasfpn.data.report import Report
from official_nasfpn.disk import disk_errors, write_text
from official_nasfpn.errors import UserError

_MARK = "official_nasfpn dataset check"


@dataclass(frozen=True)
class DatasetCheck:
  """What `check_dataset` found.

  Attributes:
    page: the HTML file; None where none was asked for.
    read_as: a line on each annotation file that was read.
    verdict: a sentence on the whole.
    findings: the worst first.
    num_images: by split.
    num_boxes: by class and split.
  """

  page: Path | None
  read_as: Sequence[str]
  verdict: str
  findings: Sequence[Finding]
  num_images: Mapping[str, int]
  num_boxes: Mapping[str, Mapping[str, int]]

  def table(self) -> str:
    """Returns what was found as text for a terminal."""
    splits = list(self.num_images)
    width = max([5, *(len(name) for name in self.num_boxes)])
    lines = [*self.read_as, "", f"{'class':{width}s} " + " ".join(f"{s:>8s}" for s in splits)]
    for name, counts in self.num_boxes.items():
      lines.append(f"{name:{width}s} " + " ".join(f"{counts[s]:8d}" for s in splits))
    images = " ".join(f"{self.num_images[s]:8d}" for s in splits)
    lines += [f"{'images':{width}s} {images}", ""]
    for finding in self.findings:
      examples = ", ".join(finding.examples[:2])
      lines.append(f"{finding.grade.value:10s} {finding.count:6d} {finding.title}  ({examples})")
    return "\n".join([*lines, "", self.verdict])


def check_dataset(
  annotations: str | Path,
  images: str | Path | None = None,
  *,
  val_annotations: str | Path | None = None,
  val_images: str | Path | None = None,
  format: str | None = None,
  output: str | Path | None = None,
  num_threads: int | None = None,
) -> DatasetCheck:
  """Looks at all images and boxes of a dataset, and says what is wrong with it.

  Nothing is prepared. The arguments are those of `prepare_dataset`; all splits that a folder has
  are looked at, its test split too.

  Args:
    annotations: a file or a folder in any format that is read.
    images: the folder of the images; None where they lie beside the annotations.
    val_annotations: likewise of another split.
    val_images: the folder of its images; default: `images`.
    format: of the annotations; None to tell by what is there.
    output: HTML file to write; None for none. An earlier check is written over, nothing else is.
    num_threads: images decoded at the same time; default: one per processor.

  Raises:
    UserError: the annotations cannot be read, an argument is out of range, or `output` cannot be
      written.
  """
  if output is not None:
    _refuse_output(Path(output))
  threads = threads_to_use(num_threads)
  report = Report()
  source = read_source(annotations, images, val_annotations, val_images, format, report)
  examination = examine(source, threads, report)
  findings = find(examination)
  read_as = [
    f"read as {FORMATS[split.format].title}: {split.origin}, images in {split.images_dir}"
    for split in (*source.splits, *source.others)
  ]
  read_as = list(dict.fromkeys(read_as))
  if output is not None:
    title = Path(os.path.abspath(annotations)).name
    page = render_page(title, read_as, examination, findings, time.time())
    with disk_errors(Path(output), "The dataset is untouched: choose another --output."):
      write_text(Path(output), page)
  return DatasetCheck(
    Path(output) if output is not None else None,
    read_as,
    verdict(findings),
    findings,
    {name: number for name, number, *_ in split_rows(examination)},
    {
      name: {split: boxes for split, (boxes, _) in zip(examination.splits, counts, strict=True)}
      for name, counts, _ in class_rows(examination)
    },
  )


def _refuse_output(output: Path) -> None:
  if output.suffix.lower() not in (".html", ".htm"):
    raise UserError(f"--output={output} is not an HTML file; give a name that ends in .html.")
  if output.is_dir() or not output.absolute().parent.is_dir():
    raise UserError(f"--output={output} cannot be written: there is no folder for it.")
  if output.exists() and _MARK not in output.read_text(encoding="utf-8", errors="replace")[:4000]:
    raise UserError(f"--output={output} is another file already; choose another name.")
