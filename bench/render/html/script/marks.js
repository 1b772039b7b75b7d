// What stands for an entry on a plot: its shape, its name where there is room, and what the shapes mean.
const SHAPES = {
  dot: (x, y) => `M${x - 4} ${y}a4 4 0 1 0 8 0a4 4 0 1 0-8 0`,
  diamond: (x, y) => `M${x} ${y - 6.5}l6.5 6.5l-6.5 6.5l-6.5-6.5z`,
  cross: (x, y) => `M${x - 3.5} ${y - 3.5}l7 7m0-7l-7 7`,
};
// Class, shape and meaning of each kind of point, in the order they are drawn.
const KINDS = [
  ["beside", "dot", "published", ({ item }) => isPublished(item)],
  ["dots", "dot", "ranked", ({ item, front }) => item.standing === "ranked" && !front],
  ["cross", "cross", "not ranked", ({ item }) => item.standing !== "ranked" && !isPublished(item)],
  ["front", "diamond", "on the Pareto front", ({ front }) => front],
];
const barred = (points) => {
  const ours = points.filter((point) => !point.aside);
  return ours.length <= 80 ? ours : ours.filter((point) => point.front);
};
const shapes = (points, shape) => points.map((point) => SHAPES[shape](point.x, point.y)).join("");
const keyOf = (points) => {
  const key = el("ul", { class: "key" });
  for (const [kind, shape, text, is] of [...KINDS].reverse()) {
    if (!points.some(is)) continue;
    const icon = svg("svg", { viewBox: "0 0 14 14", "aria-hidden": "true" });
    icon.append(svg("path", { class: kind, d: SHAPES[shape](7, 7) }));
    key.append(el("li", {}, icon, text));
  }
  const all = barred(points).length === points.filter((point) => !point.aside).length;
  key.append(el("li", {}, all ? "bars: 95 % intervals" : "bars: 95 % intervals, of the front only"));
  return key;
};
// Names beside points, wherever there is room: the front first.
const nameSome = (drawing, points, edge, steps) => {
  points = points.filter((point) => !point.aside && (points.length <= 400 || point.front));
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
