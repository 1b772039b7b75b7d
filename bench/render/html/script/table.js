// The tables: one board a track, its rows, and their order.
const MOST_FIRST = new Set(["robust", "interval", "autoattack", "clean", "delta"]);
const AT_ONCE = 250; // rows: a browser lays thousands out too slowly for a page that answers at once
const figure = (text) => {
  const found = text.replaceAll("−", "-").replaceAll(",", "").match(/-?\d+(\.\d+)?/);
  return found ? Number(found[0]) : null;
};
const boards = [...document.querySelectorAll("section[data-track]")].map((section) => {
  const heads = [...section.querySelectorAll("thead th")];
  const rows = [...section.querySelectorAll("tbody tr")].map((tr, place) => {
    const item = items[tr.dataset.e];
    const mark = tr.querySelector("td.m");
    Object.assign(item, { tr, rank: tr.cells[0].textContent });
    return { tr, place, item, mark, marks: mark.textContent.replace("◆", ""), text: tr.textContent.toLowerCase() };
  });
  const [body, plot, caption] = ["tbody", ".plot", "caption"].map((part) => section.querySelector(part));
  const board = { section, heads, rows, track: section.dataset.track, body, plot, caption, sorted: "", cost: "bops", order: rows, limit: AT_ONCE };
  board.none = el("p", { class: "about none" }, "No row answers all of these filters.");
  board.more = el("button", { type: "button", class: "more" });
  board.more.addEventListener("click", () => { board.limit *= 4; apply(); });
  section.querySelector(".scroll").after(board.none, board.more);
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
