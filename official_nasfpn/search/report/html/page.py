"""The whole report as one file."""

from pathlib import Path

from markupsafe import Markup

from official_nasfpn.architecture.layout import legend_entries
from official_nasfpn.disk import disk_errors, write_text
from official_nasfpn.reporting.code_version import code_version
from official_nasfpn.reporting.templates import content_policy, style, templates
from official_nasfpn.search.confirmation import can_be_confirmed, missing_confirmations
from official_nasfpn.search.front import non_dominated
from official_nasfpn.search.proxy_check.noise import Noise
from official_nasfpn.search.recipe import SearchRecipe, read_recipe
from official_nasfpn.search.report.found import (
  FoundSearch,
  best_trials,
  failed_confirmations_in_words,
  in_words,
  read_search,
)
from official_nasfpn.search.report.html import charts
from official_nasfpn.search.report.html.drawing import draw_pyramid_svg
from official_nasfpn.search.report.html.table import (
  COLUMNS,
  PAGE_ROWS,
  costs_detector,
  millions,
  packed,
  table_data,
  trial_rows,
)
from official_nasfpn.search.report.noise import (
  ConfirmedNoise,
  noise_of_confirmations,
  read_noise,
)
from official_nasfpn.search.report.results import bests_so_far, spread
from official_nasfpn.search.report.reward_curve import reward_curve
from official_nasfpn.search.report.setup_in_words import facts, reward_in_words
from official_nasfpn.search.report.shares import (
  MIN_ARCHITECTURES,
  has_best_quarter,
  shares_of_the_best,
)
from official_nasfpn.search.report.summary import cost_by_worker, group_failures, summarize
from official_nasfpn.search.report.trade_offs import size_names, text_of, trade_offs
from official_nasfpn.search.report.verdict import next_steps, verdict
from official_nasfpn.search.storage import stored_recipe
from official_nasfpn.search.store.trial import DONE, FAILED

_HERE = Path(__file__).parent
_NUM_DRAWINGS = 6


def write_report(
  search_dir: Path,
  output: Path,
  now: float,
  store: str | None = None,
  check_dir: Path | None = None,
) -> None:
  """Writes the report of a search, running or not.

  Args:
    search_dir: of the search; nothing but `output` is written.
    output: the file.
    now: Unix time.
    store: the `confirmed` address of `storage.store_place`.
    check_dir: of a proxy check of the search's recipe, which has measured the noise of a reward.

  Raises:
    UserError: there is no search, or no such check, or the file cannot be written.
  """
  recipe = read_recipe([stored_recipe(search_dir)])
  found = read_search(search_dir, store)
  noise: Noise | ConfirmedNoise | None = noise_of_confirmations(found.trials)
  if check_dir:
    noise = read_noise(check_dir, recipe.proxy.mode) or noise
  report = render_report(search_dir, found, recipe, noise, now)
  with disk_errors(output, "The search is untouched: choose another --output."):
    write_text(output, report)


def render_report(
  search_dir: Path,
  found: FoundSearch,
  recipe: SearchRecipe,
  noise: Noise | ConfirmedNoise | None,
  now: float,
) -> str:
  """Returns the report of a search, complete in itself.

  Args:
    search_dir: of the search, as commands are to name it.
    found: what its store holds.
    recipe: of the search.
    noise: of a reward; None where it is unknown.
    now: Unix time.
  """
  trials, metrics = found.trials, found.metrics
  confirmations, ranking = found.confirmations, best_trials(trials)
  missing = _num_missing(found, recipe)
  summary = summarize(trials, recipe.search.num_trials, now, confirmations, missing)
  failed = [trial for trial in confirmations if trial.state == FAILED]
  rows = trial_rows(trials, recipe)
  drawn = {row.trial.number: row for row in rows if row.spec is not None}
  costed = [row for row in rows if row.rank is not None and row.multiply_adds is not None]
  points = [(row.trial.reward, -row.multiply_adds) for row in costed]
  front = sorted(non_dominated(points), key=lambda index: costed[index].multiply_adds)
  found_front = trade_offs(trials, recipe.search.objectives)
  bests = [
    drawn[t.number] for t in spread(bests_so_far(trials), _NUM_DRAWINGS) if t.number in drawn
  ]
  # Where all rewards are 0 nothing was learnt, and none is the best.
  best = drawn.get(summary.best.number) if summary.best and summary.best.reward > 0 else None
  rewarded = [row for row in rows if row.trial.state == DONE and row.spec is not None]
  ranked = [row.spec for row in rewarded]
  rewards = [row.trial.mean_reward for row in rewarded]
  is_tied = len(ranked) >= MIN_ARCHITECTURES and not has_best_quarter(rewards)
  curve = reward_curve(trials)
  of_pyramid = "all pyramids" if recipe.space.num_repeats else "one pyramid"
  of_what = "the whole detector" if costs_detector(trials) else of_pyramid
  search = search_dir.resolve().name
  script = (_HERE / "report.js").read_text(encoding="utf-8")
  data = table_data(rows, search, recipe.search.algorithm_name)
  packed_data = packed(data)
  return _TEMPLATES.get_template("page.html").render(
    # Nothing is loaded, and no script runs but ours.
    policy=content_policy(script),
    style=style(_HERE / "report.css"),
    script=Markup(script),
    data=Markup(packed_data or data),
    is_packed=packed_data is not None,
    search=search,
    summary=summary,
    reward=reward_in_words(recipe),
    facts=list(facts(recipe)),
    recipe=recipe.to_gin(),
    now=now,
    version=code_version(),
    damage=in_words(found.damaged) if found.damaged else None,
    verdict=verdict(trials, metrics, recipe, noise, found_front, found.reward_curves),
    next_steps=next_steps(summary, recipe, noise, search_dir, found_front),
    best=best,
    bests=bests,
    reward_chart=charts.reward_chart(curve, summary, noise),
    # A search with several objectives has its own front.
    cost_chart=None if found_front else charts.cost_chart(costed, front, of_what),
    trade_offs=found_front,
    front_sizes=size_names(found_front.on_front) if found_front else [],
    front_charts=charts.front_charts(found_front) if found_front else [],
    of_what=of_what,
    of_pyramid=of_pyramid,
    front=[costed[index] for index in front],
    num_ranked=len(ranked),
    is_tied=is_tied,
    shares=[] if is_tied else shares_of_the_best(ranked, recipe.space),
    counts_chart=charts.counts_chart(curve, summary),
    controller_charts=charts.controller_charts(metrics, recipe.space, curve),
    rows=rows,
    failures=group_failures(trials),
    workers=cost_by_worker([*trials, *confirmations]),
    confirmed=[trial for trial in ranking if trial.further_rewards],
    failed_confirmations=failed_confirmations_in_words(failed) if failed else None,
  )


def _num_missing(found: FoundSearch, recipe: SearchRecipe) -> int:
  """Returns how many confirmations are still to be proposed, with the best as they now are."""
  candidates = sorted(
    filter(can_be_confirmed, found.trials), key=lambda trial: (-trial.reward, trial.number)
  )
  return len(missing_confirmations(recipe.search, candidates, found.confirmations))


_TEMPLATES = templates(_HERE)
_TEMPLATES.filters["millions"] = millions
_TEMPLATES.globals |= {
  "text_of": text_of,
  "COLUMNS": COLUMNS,
  "PAGE_ROWS": PAGE_ROWS,
  "MIN_ARCHITECTURES": MIN_ARCHITECTURES,
  "draw_pyramid": draw_pyramid_svg,
  "legend_entries": legend_entries,
}
