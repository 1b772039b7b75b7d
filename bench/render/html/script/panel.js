// The panel of one entry, or of one published row.
const dialog = document.getElementById("panel");
const table = (caption, head, rows) => {
  const made = el("table", {}, el("caption", { class: "hidden" }, caption));
  if (head) made.append(el("thead", {}, el("tr", {}, ...head.map((text, i) => el("th", { scope: "col", class: i ? "" : "l" }, text)))));
  made.append(el("tbody", {}, ...rows));
  return el("div", { class: "wide" }, made);
};
const line = (name, ...cells) => el("tr", {}, el("th", { scope: "row", class: "l" }, name), ...cells);
const cell = (text, kind = "") => el("td", { class: kind }, text);
const bold = (text) => el("b", {}, text);
const pairs = (list) => el("dl", {}, ...list.flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]));
const section = (title, ...content) => (content.length ? [el("h3", {}, title), ...content] : []);
const headOf = (title, lines, badges) => {
  const shut = el("button", { type: "button", "aria-label": "Close" }, "✕");
  shut.addEventListener("click", () => dialog.close());
  const head = el("div", {}, el("h2", { id: "panel-title" }, title), ...lines);
  for (const [kind, text] of badges) head.append(el("p", { class: `badge ${kind}` }, text));
  return el("header", {}, head, shut);
};
const commandLine = (command) => {
  const code = el("code", {}, command);
  const made = el("div", { class: "command" }, code);
  if (navigator.clipboard) {
    const copy = el("button", { type: "button" }, "Copy");
    copy.addEventListener("click", () => navigator.clipboard.writeText(command).then(() => { copy.textContent = "Copied"; }, () => getSelection().selectAllChildren(code)));
    made.append(copy);
  }
  return made;
};
const settingsOf = (steps) => steps.flatMap(([name, settings]) => [
  el("dt", {}, name),
  el("dd", {}, ...settings.map(([key, value]) => el("span", {}, el("small", {}, `${key} `), value))),
]);
const entryParts = (item) => {
  const [title, summary, about, badges, accuracies, letters, alarms, prices, steps, evidence, command] = unpack(item.panel);
  const lines = [el("p", {}, summary), el("p", { class: "soft" }, about.join(" · "))];
  const figures = accuracies.map(([name, percent, interval, count]) => line(name, cell(bold(percent)), cell(interval, "l muted"), cell(count, "muted")));
  const sums = prices.map(([name, ours, theirs, ratio, remark]) => line(name, cell(ours), cell(theirs, "muted"), cell(bold(ratio)), cell(remark, "l muted")));
  const href = `${encodeURIComponent(item.track)}/${encodeURIComponent(item.name)}.json`;
  return [
    headOf(title, lines, badges),
    ...section("Accuracy", table("Accuracies", null, figures)),
    ...section("What felled each image first", ...lettersBar(letters), ...picture(item, letters)),
    ...section("Alarms", ...alarms.map(([name, fate, words]) => el("p", { class: "alarm" }, bold(`! ${name}`), ` (${fate}): ${words}`))),
    ...section("Cost of one prediction", table("Costs", ["", "deployed", "parent", "ratio", ""], sums)),
    ...(steps.length ? section("Recipe", el("dl", {}, ...settingsOf(steps))) : []),
    ...section("Measure it again", commandLine(command)),
    ...section("Evidence", pairs(evidence)),
    el("p", {}, el("a", { href }, "The entry's file"), ", with the letter of every image"),
  ];
};
const publishedParts = (item) => {
  const [title, question, facts, source] = unpack(item.panel);
  const lines = [el("p", { class: "soft" }, `${item.name} · ${question}`)];
  return [
    headOf(title, lines, [["published", "published: not measured here, not ranked"]]),
    ...section("What the source says", pairs(facts)),
    el("p", {}, el("a", { href: source, rel: "noreferrer" }, "The source")),
  ];
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
  dialog.replaceChildren(...(isPublished(item) ? publishedParts(item) : entryParts(item)));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
};
dialog.addEventListener("close", () => {
  if (!state.entry) return;
  state.entry = "";
  writeAddress(true);
});
dialog.addEventListener("click", (event) => { if (event.target === dialog && event.offsetX < 0) dialog.close(); });
