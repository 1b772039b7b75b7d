// Pointing at a plot, by mouse or by keys.
const describe = ({ item, value }, cost) => {
  if (isPublished(item)) return [item.label, `${item.robust[0]} % robust, published`, unpack(item.panel)[1], "cost not stated"];
  const [, percent, interval] = unpack(item.panel)[4][0];
  const place = item.rank === "–" ? `not ranked (${item.standing})` : `rank ${item.rank}`;
  const price = cost.unit === "ms" ? amount(value, "ms") : `${amount(value, cost.unit)}${cost.unit ? "" : " " + cost.title}`;
  return [item.label, `${percent} robust, ${place}`, interval, `${price} · ${item.model[0]}`];
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
