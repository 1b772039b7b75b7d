// The plot: robust accuracy against a cost; published rows state none and stand in a strip at the right.
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
const pointsOf = (board, cost) => board.rows
  .map(({ item, shown }) => ({ item, shown, value: item.costs[cost.i], front: onFront(item), aside: isPublished(item) && !item.costs[cost.i] }))
  .filter((point) => point.value > 0 || (point.aside && point.shown));
const placesOf = (all, width) => {
  const beside = all.filter((point) => point.aside);
  const strip = beside.length ? (width < 600 ? 56 : 96) : 0;
  const height = Math.round(Math.min(360, Math.max(250, width * 0.4)));
  const edge = { left: 34, right: width - 14 - strip, top: 26, bottom: height - 40, strip };
  const values = all.filter((point) => !point.aside).map((point) => point.value);
  const [low, high] = [Math.min(...values) / 1.35, Math.max(...values) * 1.35];
  const tops = all.map(({ item }) => item.robust[2] ?? item.robust[0]);
  const roof = Math.min(100, Math.ceil(Math.max(...tops, 5) / 10) * 10);
  const round = (value) => Math.round(10 * value) / 10;
  const px = (value) => round(edge.left + (Math.log(value / low) / Math.log(high / low)) * (edge.right - edge.left));
  const py = (share) => round(edge.bottom - (share / roof) * (edge.bottom - edge.top));
  const columns = Math.max(1, Math.floor((strip - 18) / 9));
  beside.sort((a, b) => a.item.robust[0] - b.item.robust[0]);
  beside.forEach((point, i) => { point.x = edge.right + 20 + 9 * (i % columns); });
  for (const point of all) Object.assign(point, { x: point.x ?? px(point.value), y: py(point.item.robust[0]) });
  return { height, edge, low, high, roof, px, py };
};
const drawAxes = (drawing, path, { height, edge, low, high, roof, px, py }, cost) => {
  const words = (x, y, anchor, text) => drawing.append(svg("text", { x, y, "text-anchor": anchor }, text));
  const end = edge.right + edge.strip;
  const share = roof > 50 ? 20 : roof > 20 ? 10 : 5;
  for (let at = 0; at <= roof; at += share) {
    path(at ? "grid" : "axis", `M${edge.left} ${py(at)}H${edge.right}`);
    if (edge.strip) path(at ? "grid" : "axis", `M${edge.right + 12} ${py(at)}H${end}`);
    words(edge.left - 8, py(at) + 4, "end", String(at));
  }
  const found = ticks(low, high);
  const every = Math.ceil((found.length * 64) / (edge.right - edge.left));
  for (const value of found.filter((_, i) => i % every === 0)) {
    path("axis", `M${px(value)} ${edge.bottom}v5`);
    words(px(value), edge.bottom + 19, "middle", amount(value, cost.unit));
  }
  if (edge.strip) words(end, edge.bottom + 19, "end", edge.strip < 90 ? "no cost" : "cost not stated");
  const what = cost.key.startsWith("latency") ? "latency of one image" : cost.unit ? cost.title : `${cost.title} of one prediction`;
  words(edge.right, height - 3, "end", `${what}, logarithmic`);
  words(4, 11, "start", "robust accuracy, %");
};
const drawPlot = (board) => {
  const cost = costNow();
  const all = pointsOf(board, cost);
  const frame = board.section.querySelector(".scroll");
  frame.classList.remove("fits"); // a table that fits lets its header stick to the window
  frame.classList.toggle("fits", frame.scrollWidth <= frame.clientWidth);
  board.plot.replaceChildren();
  board.points = [];
  if (all.every((point) => point.aside)) {
    board.plot.append(el("p", { class: "about" }, `No row of this track has a ${cost.title}.`));
    return;
  }
  const width = Math.max(280, board.plot.clientWidth);
  const places = placesOf(all, width);
  const { height, edge, py } = places;
  board.points = all.filter((point) => point.shown).sort((a, b) => a.x - b.x || a.y - b.y);
  const drawing = svg("svg", {
    viewBox: `0 0 ${width} ${height}`, tabindex: 0, role: "application", "aria-roledescription": "scatter plot",
    "aria-label": `Robust accuracy against ${cost.title}, ${board.points.length} entries of ${board.track}. Arrow keys go from point to point, Enter opens an entry. The table below has the same figures.`,
  });
  drawing.style.height = `${height}px`;
  const path = (kind, d) => { if (d) drawing.append(svg("path", { class: kind, d })); };
  drawAxes(drawing, path, places, cost);
  path("dots away", shapes(all.filter((point) => !point.shown), "dot"));
  path("whisker", barred(board.points).map(({ item, x }) => `M${x} ${py(item.robust[1])}V${py(item.robust[2])}`).join(""));
  const steps = all.filter((point) => point.front).sort((a, b) => a.x - b.x || b.y - a.y);
  path("step", steps.map((point, i) => (i ? `H${point.x}V${point.y}` : `M${point.x} ${point.y}`)).join("") + (steps.length ? `H${edge.right}` : ""));
  for (const [kind, shape, , is] of KINDS) path(kind, shapes(board.points.filter(is), shape));
  nameSome(drawing, board.points, edge, steps);
  const ring = svg("circle", { class: "ring", r: 9 });
  ring.style.display = "none";
  drawing.append(ring);
  const tip = el("div", { class: "tip" });
  tip.hidden = true;
  const key = keyOf(board.points);
  if (cost.key.startsWith("latency")) key.append(el("li", {}, cost.title));
  board.plot.append(drawing, tip, key);
  Object.assign(board, { drawing, ring, tip, costNow: cost, at: -1, width });
  listen(board);
};
