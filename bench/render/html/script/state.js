// What the reader chose, and the address that keeps it.
const BLANK = {
  track: "", q: "", model: "", kind: "", bits: "", finetuning: "", status: "", pareto: "", published: "", sort: "", cost: "bops", entry: "",
};
let state = { ...BLANK };
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
const costNow = () => costs.find((cost) => cost.key === state.cost);
const onFront = (item) => Boolean(item.fronts & (1 << costNow().i));
const besides = () => Boolean(state.published) || state.status === "published";
