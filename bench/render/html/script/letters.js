// The letters of an entry: one bar of its outcomes, and a picture with a cell for each image.
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
    legend.append(el("li", Number(count) ? {} : { class: "none" }, chip, `${outcome} ${counted(count)}`));
  }
  return [bar, legend];
};
// Letter i of `order`, the commonest first, is i ones and a zero.
const lettersOf = ([order, n, packed]) => {
  const bytes = atob(packed);
  let [letters, ones] = ["", 0];
  for (let i = 0; letters.length < n; i++) {
    if ((bytes.charCodeAt(i >> 3) >> (7 - (i & 7))) & 1) ones++;
    else {
      letters += order[ones];
      ones = 0;
    }
  }
  return letters;
};
const picture = (item, parts) => {
  if (!item.letters) return [];
  const letters = lettersOf(item.letters);
  const [outcomes, colours] = [1, 3].map((i) => Object.fromEntries(parts.map((part) => [part[0], part[i]])));
  const total = parts.reduce((sum, part) => sum + Number(part[2]), 0);
  const columns = letters.length <= 600 ? 50 : 100;
  const rows = Math.ceil(letters.length / columns);
  const cell = columns > 50 ? 10 : 22; // pixels of the canvas, shown at half its size: sharp on fine screens, too
  const of = letters.length < total ? `the first ${counted(letters.length)} of ${counted(total)} images` : `${counted(total)} images`;
  const canvas = el("canvas", { class: "letters", width: columns * cell, height: rows * cell, role: "img", "aria-label": `One cell for each of ${of}, in the data set's order, coloured by outcome as above.` });
  const brush = canvas.getContext("2d");
  [...letters].forEach((letter, i) => {
    brush.fillStyle = colours[letter];
    brush.fillRect((i % columns) * cell, Math.floor(i / columns) * cell, cell - 2, cell - 2);
  });
  canvas.style.width = `${(columns * cell) / 2}px`;
  const told = `One cell for each of ${of}, row by row in the data set's order.`;
  const line = el("p", { class: "soft told", "aria-hidden": "true" }, told);
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = [event.offsetX / canvas.clientWidth, event.offsetY / canvas.clientHeight];
    const i = Math.floor(y * rows) * columns + Math.floor(x * columns);
    line.textContent = letters[i] ? `image ${i}: ${letters[i]} ${outcomes[letters[i]]}` : told;
  });
  canvas.addEventListener("pointerleave", () => { line.textContent = told; });
  return [canvas, line];
};
