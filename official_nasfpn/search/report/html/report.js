"use strict";
// The table of all trials: order, filter, pages, drawings. What stands in the page without this
// script is the same for the first rows, and is written by page.html and drawing.py beside it.

(async () => {
  const PAGE_ROWS = 50; // As in table.py.
  const MOST_ROWS = 1000; // At a time, so that the page stays quick.
  const NOTHING = "—";
  const SVG = "http://www.w3.org/2000/svg";

  // Where a row has what, and how each column of the table sorts and shows it.
  const [RANK, TRIAL, UPDATE, STATE, REWARD, MULTIPLY_ADDS, PARAMETERS, SECONDS, ATTEMPTS, WORKER,
    REUSED_FROM, REASON, CELLS, NUM_REPEATS, NUM_FILTERS] = Array(15).keys();

  // Those of a long search are packed; until they are unpacked, the page shows its first rows.
  async function unpacked(text) {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).text();
  }

  const source = document.getElementById("data");
  const data = JSON.parse(
    "packed" in source.dataset ? await unpacked(source.textContent) : source.textContent);
  data.rows = data.columns[TRIAL].map((_, row) => data.columns.map((column) => column[row]));
  const [minLevel, maxLevel] = data.levels;
  const numInputs = maxLevel - minLevel + 1;
  const rowOf = new Map(data.rows.map((row) => [row[TRIAL], row]));
  const numbers = (digits) => new Intl.NumberFormat("en-US",
    { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const whole = numbers(0), tenths = numbers(1);

  const sortKeys = {
    [STATE]: (row) => data.states[row[STATE]],
    [WORKER]: (row) => (row[WORKER] === null ? null : data.workers[row[WORKER]]),
  };
  const shown = {
    [STATE]: (row) => data.states[row[STATE]],
    [REWARD]: (row) => row[REWARD].toFixed(4),
    [MULTIPLY_ADDS]: (row) => millions(row[MULTIPLY_ADDS]),
    [PARAMETERS]: (row) => whole.format(row[PARAMETERS]),
    [SECONDS]: (row) => tenths.format(row[SECONDS]),
    [WORKER]: (row) => data.workers[row[WORKER]],
  };
  const millions = (value) => tenths.format(Math.floor((value + 50000) / 100000) / 10);
  const textColumns = new Set([STATE, WORKER]);

  const table = document.getElementById("trials");
  const body = table.tBodies[0];
  const headers = [...table.tHead.rows[0].cells];
  const state = document.getElementById("state");
  const box = document.getElementById("trials-box");
  // Shown are the rows from `first` to before `end`.
  const view = { column: RANK, descending: false, first: 0, end: 0, rows: data.rows };

  // --- Elements ---

  function element(name, attributes = {}, ...children) {
    return filled(document.createElement(name), attributes, children);
  }

  function drawn(name, attributes = {}, ...children) {
    return filled(document.createElementNS(SVG, name), attributes, children);
  }

  function filled(node, attributes, children) {
    for (const [key, value] of Object.entries(attributes)) {
      if (value !== null) node.setAttribute(key, value);
    }
    node.append(...children); // Texts become text, never markup.
    return node;
  }

  // --- The layout of a drawing: architecture/layout.py in this language ---

  const RADIUS = 0.32;
  const COLUMN_WIDTH = 1.3;
  const BENDS = [0];
  for (let step = 1; step < 16; step++) for (const sign of [1, -1]) BENDS.push(sign * 0.2 * step);

  const rounded = (value) => Math.round(value * 1e6) / 1e6;
  const distance = ([x, y], [u, v]) => Math.sqrt((x - u) * (x - u) + (y - v) * (y - v));

  function cellsOf(row) {
    const cells = [];
    for (let i = 0; i < row[CELLS].length; i += 4) {
      const [first, second, level, op] = row[CELLS].slice(i, i + 4);
      const [name, shortName] = data.ops[op];
      cells.push({ inputs: [first, second], level, op: name, shortName });
    }
    return cells;
  }

  const levelOf = (cells, candidate) =>
    candidate < numInputs ? minLevel + candidate : cells[candidate - numInputs].level;
  const isOutput = (cells, index) => index >= cells.length - numInputs;

  function connections(cells) {
    const consumed = new Set();
    const all = [];
    cells.forEach((cell, index) => {
      const target = numInputs + index;
      for (const source of cell.inputs) {
        consumed.add(source);
        all.push({ source, target, added: false });
      }
      if (!isOutput(cells, index)) return;
      const unread = [];
      for (let candidate = 0; candidate < target; candidate++) {
        if (!consumed.has(candidate) && levelOf(cells, candidate) === cell.level) {
          unread.push(candidate);
        }
      }
      for (const source of unread) {
        consumed.add(source);
        all.push({ source, target, added: true });
      }
    });
    return all;
  }

  function nodeCenters(cells) {
    const centers = [];
    for (let candidate = 0; candidate < numInputs + cells.length; candidate++) {
      const column = Math.max(candidate - numInputs + 1, 0);
      centers.push([column * COLUMN_WIDTH, levelOf(cells, candidate) - minLevel]);
    }
    return centers;
  }

  const onCurve = (start, control, end, t) => [0, 1].map((axis) =>
    (1 - t) * (1 - t) * start[axis] + 2 * t * (1 - t) * control[axis] + t * t * end[axis]);

  function arrowPoints(start, end, bend) {
    const dx = end[0] - start[0], dy = end[1] - start[1];
    const control = [(start[0] + end[0]) / 2 + bend * dy, (start[1] + end[1]) / 2 + bend * -dx];
    const count = Math.round(Math.sqrt(dx * dx + dy * dy) / 0.06);
    const points = [];
    for (let i = 0; i < count; i++) {
      const t = i === count - 1 ? 1 : i * (1 / (count - 1));
      const point = onCurve(start, control, end, t);
      if (distance(point, start) > RADIUS && distance(point, end) > RADIUS) points.push(point);
    }
    return points;
  }

  // Of two halves the even one, as in Python.
  function nearest(value) {
    const floor = Math.floor(value);
    const rest = value - floor;
    return rest < 0.5 || (rest === 0.5 && floor % 2 === 0) ? floor : floor + 1;
  }

  const squares = (points) =>
    new Set(points.map(([x, y]) => `${nearest(x / 0.12)},${nearest(y / 0.12)}`));

  function clutterOf(points, nodes, covered, top) {
    let through = 0, off = 0, along = 0;
    for (const point of points) {
      for (const node of nodes) {
        through += Math.max(RADIUS + 0.12 - distance(point, node), 0);
      }
      off += Math.max(-RADIUS - point[1], point[1] - top - RADIUS, 0);
    }
    for (const square of squares(points)) along += covered.has(square);
    return 40 * through + 0.2 * along + 0.3 * off;
  }

  function placeArrows(cells, centers) {
    const top = Math.max(...centers.map((center) => center[1]));
    const covered = new Set();
    const arrows = connections(cells);
    for (const arrow of arrows) {
      arrow.length = rounded(distance(centers[arrow.source], centers[arrow.target]));
    }
    arrows.sort((a, b) => a.length - b.length);
    for (const arrow of arrows) {
      const { source, target, length } = arrow;
      const nodes = centers.filter((_, index) => index !== source && index !== target);
      let least = Infinity;
      for (const offset of BENDS) {
        if (Math.abs(offset) >= least) break;
        const bend = (2 * offset) / length;
        const points = arrowPoints(centers[source], centers[target], bend);
        const clutter = rounded(clutterOf(points, nodes, covered, top) + Math.abs(offset));
        if (clutter < least) {
          least = clutter;
          Object.assign(arrow, { bend, points });
        }
      }
      for (const square of squares(arrow.points)) covered.add(square);
    }
    return arrows;
  }

  // --- The drawing: drawing.py in this language ---

  const UNIT = 40, MARGIN = 8, LEFT_MARGIN = 50, HEAD = [7, 3];

  const short = (value) => String(Math.floor(value * 10 + 0.5) / 10);
  const at = ([x, y]) => `${short(x)} ${short(y)}`;

  function drawPyramid(row) {
    const cells = cellsOf(row);
    const centers = nodeCenters(cells);
    const arrows = placeArrows(cells, centers);
    let low = -RADIUS, high = maxLevel - minLevel + RADIUS;
    for (const { points } of arrows) {
      for (const point of points) {
        low = Math.min(low, point[1]);
        high = Math.max(high, point[1]);
      }
    }
    const top = high * UNIT + MARGIN;
    const places = centers.map(([x, y]) => [x * UNIT + LEFT_MARGIN, y * -UNIT + top]);
    const right = places[places.length - 1][0];
    const svg = drawn("svg", {
      viewBox: `0 0 ${short(right + RADIUS * UNIT + MARGIN)} ${short(top - low * UNIT + MARGIN)}`,
      class: "pyramid",
      role: "img",
      "aria-label": `Architecture of trial ${row[TRIAL]}`,
    });
    for (let level = minLevel; level <= maxLevel; level++) {
      const [x, y] = places[level - minLevel];
      svg.append(
        drawn("path", { d: `M${short(x)} ${short(y)}H${short(right)}`, class: "row" }),
        drawn("text", { x: short(x - 18), y: short(y + 3.5), class: "level" }, `1/${2 ** level}`));
    }
    for (const arrow of arrows) svg.append(drawArrow(arrow, places));
    places.forEach((place, candidate) => svg.append(drawNode(cells, candidate, place)));
    return svg;
  }

  function drawArrow({ source, target, added, bend }, places) {
    const start = places[source], end = places[target];
    const dx = end[0] - start[0], dy = end[1] - start[1];
    const control = [(start[0] + end[0]) / 2 + bend * -dy, (start[1] + end[1]) / 2 + bend * dx];
    let t = 1;
    while (distance(onCurve(start, control, end, t), end) < RADIUS * UNIT + 0.8) t -= 1 / 256;
    const tip = onCurve(start, control, end, t);
    const back = onCurve(start, control, end, t - 1 / 32);
    const size = distance(tip, back);
    const along = [(tip[0] - back[0]) / size, (tip[1] - back[1]) / size];
    const base = [tip[0] - along[0] * HEAD[0], tip[1] - along[1] * HEAD[0]];
    const left = [base[0] - along[1] * HEAD[1], base[1] + along[0] * HEAD[1]];
    const right = [base[0] + along[1] * HEAD[1], base[1] - along[0] * HEAD[1]];
    return drawn("g", { class: added ? "added" : null },
      drawn("path", { d: `M${at(start)}Q${at(control)} ${at(end)}` }),
      drawn("path", { d: `M${at(tip)}L${at(left)}L${at(right)}z` }));
  }

  function drawNode(cells, candidate, [x, y]) {
    const level = levelOf(cells, candidate);
    const circle = drawn("circle", { cx: short(x), cy: short(y), r: short(RADIUS * UNIT) });
    const text = (content, down, kind = null) =>
      drawn("text", { x: short(x), y: short(y + down), class: kind }, content);
    const index = candidate - numInputs;
    if (index < 0) return drawn("g", { class: "input" }, circle, text(`C${level}`, 4));
    const op = cells[index].shortName;
    if (!isOutput(cells, index)) return drawn("g", { class: "middle" }, circle, text(op, 4));
    return drawn("g", { class: "output" },
      circle, text(`P${level}`, -0.5), text(op, 8.5, "small"));
  }

  // --- The gin text: architecture.to_gin in this language ---

  function ginText(row) {
    const cells = cellsOf(row).map(
      ({ inputs, level, op }) => `((${inputs[0]}, ${inputs[1]}), ${level}, '${op}')`);
    const sizes = { num_repeats: row[NUM_REPEATS], num_filters: row[NUM_FILTERS] };
    return `# Search ${data.search}, trial ${row[TRIAL]}, update ${row[UPDATE]}, ` +
      `algorithm ${data.algorithm}.\n` +
      "Detector.architecture = @PyramidSpec()\n\n" +
      `PyramidSpec.min_level = ${minLevel}\nPyramidSpec.max_level = ${maxLevel}\n` +
      `PyramidSpec.cells = (${cells.join(",\n   ")})\n` +
      Object.entries(sizes).filter(([, size]) => size !== null)
        .map(([name, size]) => `PyramidSpec.${name} = ${size}\n`).join("");
  }

  // PyramidSpec.size_name in this language.
  function sizeName(row) {
    const [repeats, filters] = [row[NUM_REPEATS], row[NUM_FILTERS]];
    if (repeats && filters) return `${repeats} @ ${filters}`;
    return repeats ? `${repeats} repeats` : filters ? `${filters} filters` : "";
  }

  // --- The table ---

  function sorted(rows) {
    const key = sortKeys[view.column] ?? ((row) => row[view.column]);
    const sign = view.descending ? -1 : 1;
    return rows.slice().sort((a, b) => {
      const x = key(a), y = key(b);
      // What has no value comes last, whichever way.
      if (x === null || y === null) {
        return (x === null) - (y === null) || a[TRIAL] - b[TRIAL];
      }
      return (x < y ? -sign : x > y ? sign : 0) || a[TRIAL] - b[TRIAL];
    });
  }

  function arrange() {
    const wanted = state.value;
    view.rows = sorted(
      wanted ? data.rows.filter((row) => data.states[row[STATE]] === wanted) : data.rows);
    headers.forEach((header, column) => {
      if (column === view.column) {
        header.setAttribute("aria-sort", view.descending ? "descending" : "ascending");
      } else {
        header.removeAttribute("aria-sort");
      }
    });
  }

  // Drawn one after the other, so that the page answers meanwhile, and each once.
  const drawings = new Map();
  let showing = 0;

  function drawThumbnails() {
    const turn = ++showing;
    const empty = [...body.querySelectorAll("button.thumbnail:empty")];
    const drawNext = () => {
      const button = empty.shift();
      if (!button || turn !== showing) return;
      const number = Number(button.dataset.trial);
      if (!drawings.has(number)) drawings.set(number, drawPyramid(rowOf.get(number)));
      button.append(drawings.get(number));
      setTimeout(drawNext);
    };
    drawNext();
  }

  function show(first) {
    view.first = view.end = Math.max(first, 0);
    body.replaceChildren();
    box.scrollTop = 0;
    showMore();
  }

  function showMore() {
    const rows = view.rows.slice(view.end, view.end + PAGE_ROWS);
    view.end += rows.length;
    body.append(...rows.map(tableRow));
    drawThumbnails();
    document.getElementById("range").textContent = view.end > view.first
      ? `${whole.format(view.first + 1)}–${whole.format(view.end)} of ` +
        whole.format(view.rows.length)
      : "none";
    document.getElementById("previous").disabled = view.first === 0;
    document.getElementById("next").disabled = view.end >= view.rows.length;
  }

  // Further rows come as one scrolls to the end of those that are there.
  box.addEventListener("scroll", () => {
    const isAtEnd = box.scrollTop + 2 * box.clientHeight >= box.scrollHeight;
    if (isAtEnd && view.end < view.rows.length && view.end - view.first < MOST_ROWS) showMore();
  });

  function tableRow(row) {
    const cells = [];
    for (let column = RANK; column <= WORKER; column++) {
      const cell = element("td", { class: textColumns.has(column) ? null : "number" });
      if (row[column] === null) cell.append(NOTHING);
      else if (column === STATE) cell.append(...stateOf(row));
      else cell.append(String(shown[column]?.(row) ?? row[column]));
      cells.push(cell);
    }
    return element("tr", { id: `trial-${row[TRIAL]}` },
      ...cells, element("td", {}, ...(row[CELLS] ? [thumbnail(row), sizeName(row)] : [NOTHING])));
  }

  function stateOf(row) {
    const name = data.states[row[STATE]];
    const badge = element("span", { class: `state ${name}` }, name);
    if (row[REUSED_FROM] === null) return [badge];
    const original = row[REUSED_FROM];
    return [badge, " of ", element("a", { href: `#trial-${original}` }, String(original))];
  }

  function thumbnail(row) {
    return element("button", {
      type: "button",
      class: "thumbnail",
      "data-trial": row[TRIAL],
      "aria-label": `Architecture of trial ${row[TRIAL]}, enlarge`,
    });
  }

  // --- What a person does ---

  headers.forEach((header, column) => {
    header.querySelector("button").addEventListener("click", () => {
      view.descending = column === view.column && !view.descending;
      view.column = column;
      arrange();
      show(0);
    });
  });

  state.addEventListener("change", () => {
    arrange();
    show(0);
  });

  document.getElementById("previous").addEventListener(
    "click", () => show(view.first - PAGE_ROWS));
  document.getElementById("next").addEventListener("click", () => show(view.end));

  // A link to a trial finds its row wherever it is.
  function reveal(number) {
    const row = rowOf.get(number);
    if (!row) return;
    if (!view.rows.includes(row)) {
      state.value = "";
      arrange();
    }
    const place = view.rows.indexOf(row);
    show(place - (place % PAGE_ROWS));
    const shownRow = document.getElementById(`trial-${number}`);
    shownRow.classList.add("revealed");
    shownRow.tabIndex = -1;
    shownRow.focus({ preventScroll: true });
    shownRow.scrollIntoView({ block: "center" });
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#trial-"]');
    if (link) {
      event.preventDefault();
      reveal(Number(link.getAttribute("href").slice("#trial-".length)));
    }
    const button = event.target.closest("button.thumbnail");
    if (button) enlarge(rowOf.get(Number(button.dataset.trial)));
  });

  const large = document.getElementById("large");
  const gin = document.getElementById("large-gin");
  const copy = document.getElementById("copy");

  function enlarge(row) {
    const facts = [data.states[row[STATE]]];
    if (row[REWARD] !== null) facts.push(`reward ${row[REWARD].toFixed(4)}`);
    if (row[RANK] !== null) facts.push(`rank ${row[RANK]}`);
    if (sizeName(row)) facts.push(sizeName(row));
    if (row[MULTIPLY_ADDS] !== null) facts.push(`${millions(row[MULTIPLY_ADDS])} M multiply-adds`);
    if (row[SECONDS] !== null) facts.push(`${shown[SECONDS](row)} s`);
    if (row[WORKER] !== null) facts.push(`worker ${data.workers[row[WORKER]]}`);
    if (row[REASON] !== null) facts.push(data.reasons[row[REASON]]);
    document.getElementById("large-title").textContent = `Trial ${row[TRIAL]}`;
    document.getElementById("large-facts").textContent = facts.join(" · ");
    document.getElementById("large-drawing").replaceChildren(drawPyramid(row));
    gin.textContent = ginText(row);
    copy.textContent = "Copy";
    large.showModal();
  }

  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(gin.textContent);
      copy.textContent = "Copied";
    } catch {
      // Where a page may not write there, the text is selected to be copied by hand.
      getSelection().selectAllChildren(gin);
      copy.textContent = "Selected";
    }
  });

  // A click beside the dialog closes it.
  large.addEventListener("click", (event) => {
    if (event.target === large) large.close();
  });

  document.getElementById("controls").hidden = false;
  document.getElementById("controls").addEventListener("submit", (event) => event.preventDefault());
  arrange();
  show(0);
})();
