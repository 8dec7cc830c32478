"use strict";
// Sorting and filtering are added here, so that the page without scripts shows no dead buttons.
const cellKey = (row, place) => {
  const cell = row.cells[place];
  return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
};

const sortTable = (table, place, numeric, direction) => {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  rows.sort((a, b) => {
    if (direction === "none") return a.dataset.place - b.dataset.place;
    const sign = direction === "ascending" ? 1 : -1;
    if (!numeric) {
      return sign * a.cells[place].textContent.localeCompare(b.cells[place].textContent, "en", { numeric: true });
    }
    const x = cellKey(a, place);
    const y = cellKey(b, place);
    if (x === null || y === null) return (x === null) - (y === null);
    return sign * (x - y);
  });
  body.append(...rows);
};

for (const table of document.querySelectorAll("table")) {
  [...table.tBodies[0].rows].forEach((row, place) => { row.dataset.place = place; });
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, place) => {
    const numeric = heading.classList.contains("n");
    const order = numeric ? ["descending", "ascending", "none"] : ["ascending", "descending", "none"];
    const button = document.createElement("button");
    button.type = "button";
    button.title = "Sort";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const now = heading.getAttribute("aria-sort") || "none";
      const next = order[(order.indexOf(now) + 1) % order.length];
      for (const other of headings) other.removeAttribute("aria-sort");
      if (next !== "none") heading.setAttribute("aria-sort", next);
      sortTable(table, place, numeric, next);
    });
  });
}

for (const filter of document.querySelectorAll(".filter")) {
  const label = document.createElement("label");
  const input = document.createElement("input");
  input.type = "search";
  input.placeholder = "part of a name";
  label.append(filter.dataset.label, input);
  filter.append(label);
  const rows = [...document.querySelectorAll(filter.dataset.rows)];
  const texts = rows.map((row) =>
    [...row.cells].filter((cell) => !cell.classList.contains("n")).map((cell) => cell.textContent).join(" ").toLowerCase());
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    rows.forEach((row, place) => { row.hidden = !texts[place].includes(wanted); });
  });
}

// What an address on the page leads to may lie in a part that is closed.
const openTarget = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const closed = target && target.closest("details");
  if (!closed) return;
  closed.open = true;
  target.scrollIntoView();
};
window.addEventListener("hashchange", openTarget);
openTarget();
