// Putting it together: what the reader chose, applied to every board, and what the reader does, heard.
const applyTo = (board, words) => {
  let here = 0;
  if (board.cost !== state.cost) {
    for (const row of board.rows) row.mark.replaceChildren(onFront(row.item) ? el("i", {}, "◆") : "", row.marks);
  }
  sortBoard(board);
  for (const row of board.order) {
    row.shown = passes(row, words);
    here += row.shown;
    row.tr.hidden = !row.shown || here > board.limit;
  }
  board.section.classList.toggle("besides", besides());
  board.none.hidden = here > 0;
  board.more.hidden = here <= board.limit;
  board.more.textContent = `Show more: ${counted(Math.min(here, board.limit))} of ${counted(here)} rows are here`;
  for (const name of board.section.querySelectorAll(".notes .cost")) name.textContent = costNow().title;
  board.cost = state.cost;
  const n = board.rows.filter((row) => besides() || !isPublished(row.item)).length;
  board.caption.textContent = `${here === n ? counted(n) : `${counted(here)} of ${counted(n)}`} ${n === 1 ? "row" : "rows"}, ${sortWords(board)}`;
  drawPlot(board);
  return here;
};
const apply = () => {
  const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  showControls();
  for (const board of boards) {
    board.section.hidden = Boolean(state.track) && state.track !== board.track;
    if (!board.section.hidden) shown += applyTo(board, words);
  }
  say(`${shown} ${shown === 1 ? "row" : "rows"} shown`);
};

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
