// Which rows are shown, and the controls that say so.
const FILTERS = [["model", "Base model"], ["kind", "Compression"], ["bits", "Bits"], ["finetuning", "Fine-tuning"], ["status", "Status"]];
const passes = ({ item, text }, words) => {
  if (isPublished(item) && !besides()) return false;
  if (words.some((word) => !text.includes(word) && !item.model[0].toLowerCase().includes(word))) return false;
  if (state.pareto && !onFront(item)) return false;
  return FILTERS.every(([key]) => !state[key] || item[key].includes(state[key]));
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
const addCheck = (key, title, place) => {
  controls[key] = el("input", { type: "checkbox", name: key });
  const label = el("label", { class: "check" }, controls[key], title);
  place.append(label);
  return label;
};
const makeControls = () => {
  addSelect("track", "Track", [option("", "All tracks"), ...record.tracks.map((track) => option(track, track))]);
  controls.q = el("input", { type: "search", name: "q", placeholder: "recipe, alarm …", spellcheck: "false", autocomplete: "off" });
  form.append(el("label", {}, "Search", controls.q));
  for (const [key, title] of FILTERS) {
    // Of published rows nobody needs every network in a list: the search finds them.
    const asked = key === "model" || key === "finetuning" ? items.filter((item) => !isPublished(item)) : items;
    const telling = (value) => !asked.every((item) => item[key].includes(value));
    const values = [...new Set(asked.flatMap((item) => item[key]))].filter(telling).sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
    addSelect(key, title, [option("", "Any"), ...values.map((value) => option(value, value))]);
  }
  const group = el("div", { class: "group" });
  addSelect("cost", "Cost", costs.map((cost) => option(cost.key, cost.title)), group);
  addCheck("pareto", "Pareto front only", group);
  addCheck("published", "Published rows", group).hidden = !items.some(isPublished);
  form.append(group);
  controls.reset = el("button", { type: "button" }, "Clear");
  controls.reset.addEventListener("click", () => { change({ ...BLANK }); controls.q.focus(); });
  group.append(controls.reset);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", ({ target }) => change({ [target.name]: target.type === "checkbox" ? (target.checked ? "1" : "") : target.value }));
  form.hidden = false;
};
const showControls = () => {
  for (const [key, control] of Object.entries(controls)) {
    if (control.type === "checkbox") control.checked = Boolean(state[key]);
    else if (key !== "reset" && control.value !== state[key]) control.value = state[key];
  }
  controls.reset.hidden = Object.keys(BLANK).every((key) => key === "entry" || state[key] === BLANK[key]);
};
