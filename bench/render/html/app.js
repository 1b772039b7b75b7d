"use strict";
// Adds to the tables what HTML cannot do by itself: sorting, filters, plots, panels, and an address that keeps them.
(() => {
  const record = JSON.parse(document.getElementById("data").textContent);
  const memory = new Map();
  const unpack = (number) => {
    if (!memory.has(number)) {
      const kept = record.pool[number];
      memory.set(number, typeof kept === "string" ? kept : kept.map(unpack));
    }
    return memory.get(number);
  };
  const items = record.items.map(([name, label, facets, panel, robust, track, costs, fronts]) => {
    const [model, bits, finetuning, standing, status, ...kinds] = unpack(facets);
    return {
      name: unpack(name), label: unpack(label), track: record.tracks[track], robust, costs, fronts, panel,
      model: [model], bits: [bits], finetuning: [finetuning], status: [standing, status], standing,
      kind: kinds.length ? kinds : ["none"],
    };
  });
  const costs = record.costs.map(([key, title, unit], i) => ({ key, title, unit, i }));
  const MOST_FIRST = new Set(["robust", "interval", "autoattack", "clean", "delta"]);
  const BLANK = { track: "", q: "", model: "", kind: "", bits: "", finetuning: "", status: "", pareto: "", sort: "", cost: "bops", entry: "" };
  const FILTERS = [["model", "Base model"], ["kind", "Compression"], ["bits", "Bits"], ["finetuning", "Fine-tuning"], ["status", "Status"]];
  const AT_ONCE = 250; // rows: a browser lays thousands out too slowly for a page that answers at once
  let state = { ...BLANK };

  // --- making elements ---------------------------------------------------------------------------------------------
  const el = (tag, attributes = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };
  const svg = (tag, attributes = {}, text = "") => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.textContent = text;
    return made;
  };
  const say = (text) => { document.getElementById("status").textContent = text; };

  // --- the address -------------------------------------------------------------------------------------------------
  const readAddress = () => {
    const given = new URLSearchParams(location.hash.slice(1));
    state = { ...BLANK };
    for (const key of Object.keys(BLANK)) if (given.get(key)) state[key] = given.get(key);
    if (!costs.some((cost) => cost.key === state.cost)) state.cost = "bops";
    if (!record.tracks.includes(state.track)) state.track = "";
  };
  const address = () => {
    const said = Object.entries(state).filter(([key, value]) => value && value !== BLANK[key]);
    return "#" + new URLSearchParams(said).toString();
  };
  let timer = 0;
  const writeAddress = (push = false) => {
    clearTimeout(timer);
    if (push) history.pushState(null, "", address());
    else timer = setTimeout(() => history.replaceState(null, "", address()), 120); // browsers limit how often
  };
  const change = (news) => { Object.assign(state, news); writeAddress(); apply(); };

  // --- the tables --------------------------------------------------------------------------------------------------
  const figure = (text) => {
    const found = text.replaceAll("−", "-").replaceAll(",", "").match(/-?\d+(\.\d+)?/);
    return found ? Number(found[0]) : null;
  };
  const boards = [...document.querySelectorAll("section[data-track]")].map((section) => {
    const heads = [...section.querySelectorAll("thead th")];
    const rows = [...section.querySelectorAll("tbody tr")].map((tr, place) => {
      const item = tr.dataset.e === undefined ? null : items[tr.dataset.e];
      const mark = tr.querySelector("td.m");
      if (item) Object.assign(item, { tr, rank: tr.cells[0].textContent });
      return { tr, place, item, mark, marks: mark ? mark.textContent.replace("◆", "") : "", text: tr.textContent.toLowerCase() };
    });
    const board = { section, heads, rows, track: section.dataset.track, body: section.querySelector("tbody"), plot: section.querySelector(".plot"), caption: section.querySelector("caption"), sorted: "", cost: "bops", order: rows, limit: AT_ONCE };
    board.more = el("button", { type: "button", class: "more" });
    board.more.addEventListener("click", () => { board.limit *= 4; apply(); });
    section.querySelector(".scroll").after(board.more);
    for (const th of heads) {
      const button = el("button", { type: "button" });
      button.append(...th.childNodes);
      if (!button.querySelector("small")) button.append(el("small"));
      button.addEventListener("click", () => {
        const key = th.dataset.key;
        const first = MOST_FIRST.has(key) ? "-" + key : key;
        const second = MOST_FIRST.has(key) ? key : "-" + key;
        change({ sort: state.sort === first ? second : state.sort === second ? "" : first });
      });
      th.append(button);
    }
    return board;
  });
  const boardOf = (item) => boards.find((board) => board.track === item.track);

  const sortBoard = (board) => {
    if (board.sorted === state.sort && !state.sort.endsWith("mark")) return;
    const key = state.sort.replace(/^-/, "");
    const sign = state.sort.startsWith("-") ? -1 : 1;
    const column = board.heads.findIndex((th) => th.dataset.key === key);
    for (const th of board.heads) th.removeAttribute("aria-sort");
    const sorted = [...board.rows];
    if (column >= 0) {
      board.heads[column].setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const words = board.heads[column].classList.contains("l");
      const values = new Map(sorted.map((row) => {
        const text = row.tr.cells[column].textContent.trim();
        return [row, words ? text.toLowerCase() || null : figure(text)];
      }));
      sorted.sort((a, b) => {
        const [x, y] = [values.get(a), values.get(b)];
        if (x === y) return a.place - b.place;
        if (x === null || y === null) return x === null ? 1 : -1; // unknown stays last, whichever the direction
        return (x < y ? -1 : 1) * sign;
      });
    }
    const all = document.createDocumentFragment();
    for (const row of sorted) all.append(row.tr);
    board.body.append(all);
    board.order = sorted;
    board.sorted = state.sort;
  };
  const sortWords = (board) => {
    const th = board.heads.find((head) => head.hasAttribute("aria-sort"));
    if (!th) return "the most robust first";
    const name = th.textContent.trim().replace(/\s+/g, " ");
    return `sorted by ${name}, ${th.getAttribute("aria-sort")}`;
  };

  // --- filters -----------------------------------------------------------------------------------------------------
  const bit = () => 1 << costs.find((cost) => cost.key === state.cost).i;
  const passes = (row, words) => {
    if (words.some((word) => !row.text.includes(word) && !(row.item && row.item.model[0].toLowerCase().includes(word)))) return false;
    if (!row.item) return !state.pareto && FILTERS.every(([key]) => !state[key] || (key === "status" && row.tr.classList.contains(state[key])));
    if (state.pareto && !(row.item.fronts & bit())) return false;
    return FILTERS.every(([key]) => !state[key] || row.item[key].includes(state[key]));
  };
  const option = (value, text) => el("option", { value }, text);
  const form = document.getElementById("controls");
  const controls = {};
  const addSelect = (key, title, options, place = form) => {
    controls[key] = el("select", { name: key }, ...options);
    const label = el("label", {}, title, controls[key]);
    label.hidden = options.length < (key === "track" ? 3 : 2);
    place.append(label);
  };
  const makeControls = () => {
    addSelect("track", "Track", [option("", "All tracks"), ...record.tracks.map((track) => option(track, track))]);
    controls.q = el("input", { type: "search", name: "q", placeholder: "recipe, alarm …", spellcheck: "false", autocomplete: "off" });
    form.append(el("label", {}, "Search", controls.q));
    for (const [key, title] of FILTERS) {
      const telling = (value) => !items.every((item) => item[key].includes(value));
      const values = [...new Set(items.flatMap((item) => item[key]))].filter(telling).sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
      addSelect(key, title, [option("", "Any"), ...values.map((value) => option(value, value))]);
    }
    const group = el("div", { class: "group" });
    addSelect("cost", "Cost", costs.map((cost) => option(cost.key, cost.title)), group);
    controls.pareto = el("input", { type: "checkbox", name: "pareto" });
    group.append(el("label", { class: "check" }, controls.pareto, "Pareto front only"));
    form.append(group);
    controls.reset = el("button", { type: "button" }, "Clear");
    controls.reset.addEventListener("click", () => { change({ ...BLANK }); controls.q.focus(); });
    group.append(controls.reset);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", ({ target }) => change({ [target.name]: target.type === "checkbox" ? (target.checked ? "1" : "") : target.value }));
    form.hidden = false;
  };

  // --- the plot ----------------------------------------------------------------------------------------------------
  const SI = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
  const amount = (value, unit) => {
    const [factor, prefix] = (unit === "ms" ? [] : SI).find(([size]) => value >= 0.9995 * size) || [1, ""];
    return `${Number((value / factor).toPrecision(3))} ${prefix}${unit}`.trim();
  };
  const ticks = (low, high) => {
    const decades = Math.log10(high / low);
    const steps = decades > 3 ? [1] : decades > 0.9 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 8];
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
      for (const step of steps) {
        const value = step * 10 ** power;
        if (value >= low && value <= high) found.push(value);
      }
    }
    return found;
  };
  const SHAPES = {
    dot: (x, y) => `M${x - 4} ${y}a4 4 0 1 0 8 0a4 4 0 1 0-8 0`,
    diamond: (x, y) => `M${x} ${y - 6.5}l6.5 6.5l-6.5 6.5l-6.5-6.5z`,
    cross: (x, y) => `M${x - 3.5} ${y - 3.5}l7 7m0-7l-7 7`,
  };
  const describe = (point, cost) => {
    const { item } = point;
    const [, percent, interval] = unpack(item.panel)[3][0];
    const place = item.rank === "–" ? `not ranked (${item.standing})` : `rank ${item.rank}`;
    const price = cost.unit === "ms" ? amount(point.value, "ms") : `${amount(point.value, cost.unit)}${cost.unit ? "" : " " + cost.title}`;
    return [item.label, `${percent} robust, ${place}`, interval, `${price} · ${item.model[0]}`];
  };
  const drawPlot = (board) => {
    const cost = costs.find((one) => one.key === state.cost);
    const all = board.rows.filter((row) => row.item && row.item.costs[cost.i] > 0)
      .map((row) => ({ item: row.item, value: row.item.costs[cost.i], shown: row.shown }));
    const frame = board.section.querySelector(".scroll");
    frame.classList.remove("fits"); // a table that fits lets its header stick to the window
    frame.classList.toggle("fits", frame.scrollWidth <= frame.clientWidth);
    board.plot.replaceChildren();
    board.points = [];
    if (!all.length) {
      board.plot.append(el("p", { class: "about" }, `No row of this track has a ${cost.title}.`));
      return;
    }
    const width = Math.max(280, board.plot.clientWidth);
    const height = Math.round(Math.min(360, Math.max(250, width * 0.4)));
    const edge = { left: 34, right: width - 14, top: 26, bottom: height - 40 };
    const values = all.map((point) => point.value);
    let [low, high] = [Math.min(...values) / 1.35, Math.max(...values) * 1.35];
    const roof = Math.min(100, Math.ceil(Math.max(...all.map((point) => point.item.robust[2]), 5) / 10) * 10);
    const px = (value) => Math.round(10 * (edge.left + (Math.log(value / low) / Math.log(high / low)) * (edge.right - edge.left))) / 10;
    const py = (share) => Math.round(10 * (edge.bottom - (share / roof) * (edge.bottom - edge.top))) / 10;
    for (const point of all) Object.assign(point, { x: px(point.value), y: py(point.item.robust[0]), front: Boolean(point.item.fronts & bit()) });
    board.points = all.filter((point) => point.shown).sort((a, b) => a.x - b.x || a.y - b.y);

    const drawing = svg("svg", {
      viewBox: `0 0 ${width} ${height}`, tabindex: 0, role: "application", "aria-roledescription": "scatter plot",
      "aria-label": `Robust accuracy against ${cost.title}, ${board.points.length} entries of ${board.track}. Arrow keys go from point to point, Enter opens an entry. The table below has the same figures.`,
    });
    drawing.style.height = `${height}px`;
    const path = (kind, d) => { if (d) drawing.append(svg("path", { class: kind, d })); };
    const share = roof > 50 ? 20 : roof > 20 ? 10 : 5;
    for (let at = 0; at <= roof; at += share) {
      path(at ? "grid" : "axis", `M${edge.left} ${py(at)}H${edge.right}`);
      drawing.append(svg("text", { x: edge.left - 8, y: py(at) + 4, "text-anchor": "end" }, String(at)));
    }
    const found = ticks(low, high);
    const every = Math.ceil((found.length * 64) / (edge.right - edge.left));
    for (const value of found.filter((_, i) => i % every === 0)) {
      path("axis", `M${px(value)} ${edge.bottom}v5`);
      drawing.append(svg("text", { x: px(value), y: edge.bottom + 19, "text-anchor": "middle" }, amount(value, cost.unit)));
    }
    const what = cost.key.startsWith("latency") ? "latency of one image" : cost.unit ? cost.title : `${cost.title} of one prediction`;
    const axis = `${what}, logarithmic`;
    drawing.append(svg("text", { x: edge.right, y: height - 3, "text-anchor": "end" }, axis));
    drawing.append(svg("text", { x: 4, y: 11 }, "robust accuracy, %"));

    const ranked = (point) => point.item.standing === "ranked";
    const whiskered = board.points.filter((point) => point.front || board.points.length <= 80);
    path("dots away", all.filter((point) => !point.shown).map((point) => SHAPES.dot(point.x, point.y)).join(""));
    path("whisker", whiskered.map(({ item, x }) => `M${x} ${py(item.robust[1])}V${py(item.robust[2])}`).join(""));
    const steps = all.filter((point) => point.front).sort((a, b) => a.x - b.x || b.y - a.y);
    path("step", steps.map((point, i) => (i ? `H${point.x}V${point.y}` : `M${point.x} ${point.y}`)).join("") + (steps.length ? `H${edge.right}` : ""));
    path("dots", board.points.filter((point) => !point.front && ranked(point)).map((point) => SHAPES.dot(point.x, point.y)).join(""));
    path("cross", board.points.filter((point) => !ranked(point)).map((point) => SHAPES.cross(point.x, point.y)).join(""));
    path("front", board.points.filter((point) => point.front).map((point) => SHAPES.diamond(point.x, point.y)).join(""));
    nameSome(drawing, board.points, edge, steps);
    const ring = svg("circle", { class: "ring", r: 9 });
    ring.style.display = "none";
    drawing.append(ring);
    const tip = el("div", { class: "tip" });
    tip.hidden = true;
    const key = keyOf(board.points, ranked);
    if (cost.key.startsWith("latency")) key.append(el("li", {}, cost.title));
    board.plot.append(drawing, tip, key);
    Object.assign(board, { drawing, ring, tip, costNow: cost, at: -1, width });
    listen(board);
  };
  // Names beside points, wherever there is room: the front first.
  const nameSome = (drawing, points, edge, steps) => {
    if (points.length > 400) points = points.filter((point) => point.front);
    const taken = points.map(({ x, y }) => [x - 7, y - 7, x + 7, y + 7]);
    steps.forEach((point, i) => {
      const next = steps[i + 1] || { x: edge.right, y: point.y };
      taken.push([point.x, point.y - 1, next.x, point.y + 1], [next.x - 1, next.y, next.x + 1, point.y]);
    });
    const free = (box) => box[0] >= edge.left && box[2] <= edge.right && box[1] >= 0 && box[3] <= edge.bottom
      && !taken.some((other) => box[0] < other[2] && box[2] > other[0] && box[1] < other[3] && box[3] > other[1]);
    const queue = [...points].sort((a, b) => b.front - a.front || a.y - b.y);
    for (const point of points.length > 40 ? queue.filter((one) => one.front) : queue) {
      const long = point.item.label.length * (point.front ? 7 : 6.3);
      for (const [dx, dy, anchor] of [[10, 4, "start"], [-10, 4, "end"], [-4, -12, "start"], [4, -12, "end"], [-4, 21, "start"], [4, 21, "end"]]) {
        const left = point.x + dx - (anchor === "end" ? long : 0);
        const box = [left, point.y + dy - 11, left + long, point.y + dy + 3];
        if (!free(box)) continue;
        taken.push(box);
        drawing.append(svg("text", { class: point.front ? "best" : "name", x: point.x + dx, y: point.y + dy, "text-anchor": anchor }, point.item.label));
        break;
      }
    }
  };
  const keyOf = (points, ranked) => {
    const entry = (kind, shape, text) => {
      const icon = svg("svg", { viewBox: "0 0 14 14", "aria-hidden": "true" });
      icon.append(svg("path", { class: kind, d: SHAPES[shape](7, 7) }));
      return el("li", {}, icon, text);
    };
    const key = el("ul", { class: "key" }, entry("front", "diamond", "on the Pareto front"));
    if (points.some((point) => !point.front && ranked(point))) key.append(entry("dots", "dot", "ranked"));
    if (points.some((point) => !ranked(point))) key.append(entry("cross", "cross", "not ranked"));
    const bars = points.length <= 80 ? "bars: 95 % intervals" : "bars: 95 % intervals, of the front only";
    key.append(el("li", {}, bars));
    return key;
  };
  const light = (board, number, aloud = false) => {
    if (board.at === number || !board.drawing) return;
    if (board.at >= 0) board.points[board.at]?.item.tr.classList.remove("lit");
    board.at = number;
    const point = board.points[number];
    board.tip.hidden = !point;
    board.ring.style.display = point ? "" : "none";
    board.drawing.classList.toggle("over", Boolean(point));
    if (!point) return;
    point.item.tr.classList.add("lit");
    board.ring.setAttribute("cx", point.x);
    board.ring.setAttribute("cy", point.y);
    const [name, ...rest] = describe(point, board.costNow);
    board.tip.replaceChildren(el("b", {}, name), ...rest.map((text) => el("span", {}, text)));
    const room = board.width - board.tip.offsetWidth - 4;
    board.tip.style.left = `${Math.max(0, Math.min(room, point.x + 14))}px`;
    const above = point.y - board.tip.offsetHeight - 14;
    board.tip.style.top = `${above < 0 ? point.y + 16 : above}px`;
    if (aloud) say([name, ...rest].join("; "));
  };
  const listen = (board) => {
    const nearest = (event) => {
      const frame = board.drawing.getBoundingClientRect();
      const [x, y] = [event.clientX - frame.left, event.clientY - frame.top];
      let [best, distance] = [-1, 26];
      board.points.forEach((point, i) => {
        const away = Math.hypot(point.x - x, point.y - y) - (point.front ? 2 : 0);
        if (away < distance) [best, distance] = [i, away];
      });
      return best;
    };
    const { drawing } = board;
    drawing.addEventListener("pointermove", (event) => light(board, nearest(event)));
    drawing.addEventListener("pointerleave", () => light(board, -1));
    drawing.addEventListener("blur", () => light(board, -1));
    drawing.addEventListener("click", (event) => {
      const number = nearest(event);
      if (number >= 0) openEntry(board.points[number].item);
    });
    drawing.addEventListener("keydown", (event) => {
      const last = board.points.length - 1;
      const moves = { ArrowRight: board.at + 1, ArrowUp: board.at + 1, ArrowLeft: board.at - 1, ArrowDown: board.at - 1, Home: 0, End: last };
      if (event.key in moves && last >= 0) light(board, Math.max(0, Math.min(last, moves[event.key])), true);
      else if ((event.key === "Enter" || event.key === " ") && board.at >= 0) openEntry(board.points[board.at].item);
      else if (event.key === "Escape") light(board, -1);
      else return;
      event.preventDefault();
    });
  };

  // --- the panel of an entry ---------------------------------------------------------------------------------------
  const dialog = document.getElementById("panel");
  const table = (caption, head, rows) => {
    const made = el("table", {}, el("caption", { class: "hidden" }, caption));
    if (head) made.append(el("thead", {}, el("tr", {}, ...head.map((text, i) => el("th", { scope: "col", class: i ? "" : "l" }, text)))));
    made.append(el("tbody", {}, ...rows));
    return el("div", { class: "wide" }, made);
  };
  const lettersBar = (parts) => {
    const total = parts.reduce((sum, part) => sum + Number(part[2]), 0);
    const bar = el("div", { class: "bar", "aria-hidden": "true" });
    const legend = el("ul", { class: "legend" });
    for (const [letter, outcome, count, colour] of parts) {
      if (Number(count)) {
        const span = el("span", { title: `${outcome}: ${count} of ${total}` }, count / total > 0.03 ? letter : "");
        Object.assign(span.style, { flexGrow: count, flexBasis: "0", backgroundColor: colour });
        bar.append(span);
      }
      const chip = el("i", { "aria-hidden": "true" }, letter);
      chip.style.backgroundColor = colour;
      legend.append(el("li", Number(count) ? {} : { class: "none" }, chip, `${outcome} ${Number(count).toLocaleString("en")}`));
    }
    return [bar, legend];
  };
  const pairs = (list) => el("dl", {}, ...list.flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]));
  const fillPanel = (item) => {
    const [title, summary, about, accuracies, letters, alarms, prices, steps, evidence, command] = unpack(item.panel);
    const shut = el("button", { type: "button", "aria-label": "Close" }, "✕");
    shut.addEventListener("click", () => dialog.close());
    const head = el("div", {}, el("h2", { id: "panel-title" }, title), el("p", {}, summary), el("p", { class: "soft" }, about.join(" · ")));
    if (item.standing !== "ranked") {
      const why = item.standing === "partial" ? "◐ partial: fewer images than the track asks for, not ranked" : "! fatal alarm: not ranked";
      head.append(el("p", { class: `badge ${item.standing}` }, why));
    }
    const parts = [el("header", {}, head, shut), el("h3", {}, "Accuracy")];
    parts.push(table("Accuracies", null, accuracies.map(([name, percent, interval, count]) =>
      el("tr", {}, el("th", { scope: "row", class: "l" }, name), el("td", {}, el("b", {}, percent)), el("td", { class: "l muted" }, interval), el("td", { class: "muted" }, count)))));
    parts.push(el("h3", {}, "What felled each image first"), ...lettersBar(letters));
    if (alarms.length) {
      parts.push(el("h3", {}, "Alarms"), ...alarms.map(([name, fate, words]) => el("p", { class: "alarm" }, el("b", {}, `! ${name}`), ` (${fate}): ${words}`)));
    }
    parts.push(el("h3", {}, "Cost of one prediction"), table("Costs", ["", "deployed", "parent", "ratio", ""], prices.map(([name, ours, theirs, ratio, remark]) =>
      el("tr", {}, el("th", { scope: "row", class: "l" }, name), el("td", {}, ours), el("td", { class: "muted" }, theirs), el("td", {}, el("b", {}, ratio)), el("td", { class: "l muted" }, remark)))));
    if (steps.length) {
      parts.push(el("h3", {}, "Recipe"), el("dl", {}, ...steps.flatMap(([name, settings]) => [
        el("dt", {}, name),
        el("dd", {}, ...settings.map(([key, value]) => el("span", {}, el("small", {}, `${key} `), value))),
      ])));
    }
    const code = el("code", {}, command);
    const line = el("div", { class: "command" }, code);
    if (navigator.clipboard) {
      const copy = el("button", { type: "button" }, "Copy");
      copy.addEventListener("click", () => navigator.clipboard.writeText(command).then(() => { copy.textContent = "Copied"; }, () => getSelection().selectAllChildren(code)));
      line.append(copy);
    }
    parts.push(el("h3", {}, "Measure it again"), line, el("h3", {}, "Evidence"), pairs(evidence));
    const href = `${encodeURIComponent(item.track)}/${encodeURIComponent(item.name)}.json`;
    parts.push(el("p", {}, el("a", { href }, "The entry's file"), ", with the letter of every image"));
    dialog.replaceChildren(...parts);
  };
  const openEntry = (item) => {
    state.entry = `${item.track}/${item.name}`;
    writeAddress(true);
    showPanel();
  };
  const showPanel = () => {
    const item = items.find((one) => `${one.track}/${one.name}` === state.entry);
    if (!item) {
      if (dialog.open) dialog.close();
      return;
    }
    fillPanel(item);
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
  };
  dialog.addEventListener("close", () => {
    if (!state.entry) return;
    state.entry = "";
    writeAddress(true);
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog && event.offsetX < 0) dialog.close(); });

  // --- putting it together -----------------------------------------------------------------------------------------
  const apply = () => {
    const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
    const cost = costs.find((one) => one.key === state.cost);
    let shown = 0;
    for (const [key, control] of Object.entries(controls)) {
      if (key === "pareto") control.checked = Boolean(state.pareto);
      else if (key !== "reset" && control.value !== state[key]) control.value = state[key];
    }
    controls.reset.hidden = Object.keys(BLANK).every((key) => key === "entry" || state[key] === BLANK[key]);
    for (const board of boards) {
      board.section.hidden = Boolean(state.track) && state.track !== board.track;
      if (board.section.hidden) continue;
      let here = 0;
      for (const row of board.rows) {
        if (row.mark && row.item && board.cost !== state.cost) row.mark.replaceChildren(row.item.fronts & bit() ? el("i", {}, "◆") : "", row.marks);
      }
      sortBoard(board);
      for (const row of board.order) {
        row.shown = passes(row, words);
        here += row.shown;
        row.tr.hidden = !row.shown || here > board.limit;
      }
      board.more.hidden = here <= board.limit;
      board.more.textContent = `Show more: ${Math.min(here, board.limit).toLocaleString("en")} of ${here.toLocaleString("en")} rows are here`;
      for (const name of board.section.querySelectorAll(".notes .cost")) name.textContent = cost.title;
      board.cost = state.cost;
      const n = board.rows.length;
      board.caption.textContent = `${here === n ? n.toLocaleString("en") : `${here.toLocaleString("en")} of ${n.toLocaleString("en")}`} ${n === 1 ? "row" : "rows"}, ${sortWords(board)}`;
      drawPlot(board);
      shown += here;
    }
    say(`${shown} ${shown === 1 ? "row" : "rows"} shown`);
  };
  const themes = ["system", "light", "dark"];
  const themeButton = document.getElementById("theme");
  const setTheme = (theme) => {
    document.documentElement.dataset.theme = theme;
    themeButton.textContent = `Theme: ${theme}`;
    try { localStorage.setItem("theme", theme); } catch { /* a browser may forbid it: the choice lasts until the page closes */ }
  };
  let kept = "system";
  try { kept = localStorage.getItem("theme") || kept; } catch { /* as above */ }
  setTheme(themes.includes(kept) ? kept : "system");
  themeButton.hidden = false;
  themeButton.addEventListener("click", () => setTheme(themes[(themes.indexOf(document.documentElement.dataset.theme) + 1) % 3]));

  const main = document.getElementById("boards");
  main.addEventListener("click", (event) => {
    const link = event.target.closest("tbody th a");
    const item = link && items[link.closest("tr").dataset.e];
    if (!item || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    openEntry(item);
  });
  main.addEventListener("pointerover", (event) => {
    const tr = event.target.closest("tbody tr");
    const cell = event.target.closest("td.n, tbody th");
    if (cell && cell.scrollWidth > cell.clientWidth) cell.title = cell.textContent;
    const item = tr && items[tr.dataset.e];
    if (!item) return;
    const board = boardOf(item);
    light(board, board.points.findIndex((point) => point.item === item));
  });
  for (const board of boards) board.body.addEventListener("pointerleave", () => light(board, -1));
  addEventListener("popstate", () => { readAddress(); apply(); showPanel(); });
  let resizing = 0;
  addEventListener("resize", () => {
    cancelAnimationFrame(resizing);
    resizing = requestAnimationFrame(() => boards.filter((board) => !board.section.hidden).forEach(drawPlot));
  });
  makeControls();
  readAddress();
  apply();
  document.documentElement.classList.remove("early");
  showPanel();
})();
