// Light or dark: the system's choice until the reader makes one.
const THEMES = ["system", "light", "dark"];
const themeButton = document.getElementById("theme");
const setTheme = (theme) => {
  document.documentElement.dataset.theme = theme;
  themeButton.textContent = `Theme: ${theme}`;
  try { localStorage.setItem("theme", theme); } catch { /* a browser may forbid it: the choice lasts until the page closes */ }
};
const keptTheme = () => {
  try { return localStorage.getItem("theme"); } catch { return null; /* as above */ }
};
setTheme(THEMES.includes(keptTheme()) ? keptTheme() : "system");
themeButton.hidden = false;
themeButton.addEventListener("click", () => setTheme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % 3]));
