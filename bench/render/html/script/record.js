// What the page was told: every entry as an item, costs, and published rows as items that have neither rank nor cost.
const record = JSON.parse(document.getElementById("data").textContent);
const memory = new Map();
const unpack = (number) => {
  if (!memory.has(number)) {
    const kept = record.pool[number];
    memory.set(number, typeof kept === "string" ? kept : kept.map(unpack));
  }
  return memory.get(number);
};
const items = record.items.map(([name, label, facets, panel, robust, track, costs, fronts, letters]) => {
  const [model, bits, finetuning, standing, status, ...kinds] = unpack(facets);
  return {
    name: unpack(name), label: unpack(label), track: record.tracks[track], robust, costs, fronts, panel, letters,
    model: [model], bits: [bits], finetuning: [finetuning], status: [...new Set([standing, status])], standing,
    kind: kinds.length ? kinds : ["none"],
  };
});
const costs = record.costs.map(([key, title, unit], i) => ({ key, title, unit, i }));
const isPublished = (item) => item.standing === "published";
