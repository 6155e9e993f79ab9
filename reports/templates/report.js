"use strict";

// Sorting: by what an entry is worth (data-sort), never by what it says, so "9.1 ± 3" stays below "61.2".
// Entries without a worth (failed, not run, dashes) stay last in both directions.
const words = new Intl.Collator("en", { numeric: true });

function sortBy(header) {
  const row = header.parentElement;
  const index = [...row.cells].indexOf(header);
  const first = header.classList.contains("num") ? "descending" : "ascending";
  const other = first === "descending" ? "ascending" : "descending";
  const order = header.getAttribute("aria-sort") === first ? other : first;
  const worth = (line) => {
    const text = line.cells[index].dataset.sort;
    if (text === undefined) return null;
    return header.classList.contains("num") && text.trim() !== "" && isFinite(text) ? Number(text) : text;
  };
  const figure = header.closest("figure");
  const lines = rowsOf(figure).map((line) => [worth(line), line]); // read once: thousands of rows sort in no time
  const compare = ([x], [y]) => {
    if (x === null || y === null) return (x === null) - (y === null);
    const numbers = typeof x === "number" && typeof y === "number";
    const sign = numbers ? x - y : words.compare(String(x), String(y));
    return order === "ascending" ? sign : -sign;
  };
  orders.set(figure, lines.sort(compare).map(([, line]) => line));
  [...row.cells].forEach((cell) => cell.removeAttribute("aria-sort"));
  header.setAttribute("aria-sort", order);
  showRows(figure);
}

// Filtering: rows that have all words. A browser takes half a second to move and lay out thousands of rows, so no more
// than `most` are shown until all are asked for, and only those that are shown are moved to their place.
let most = 200;
const orders = new WeakMap(); // the rows of a table in the order last asked for

function rowsOf(figure) {
  if (!orders.has(figure)) orders.set(figure, [...figure.querySelector("tbody").rows]);
  return orders.get(figure);
}

function showRows(figure) {
  const [filter, body, lines] = [figure.querySelector(".filter"), figure.querySelector("tbody"), rowsOf(figure)];
  const wanted = filter ? filter.querySelector("input").value.toLowerCase().split(/\s+/).filter(Boolean) : [];
  const fits = (line) => {
    const text = wanted.length ? line.textContent.toLowerCase() : "";
    return wanted.every((word) => text.includes(word));
  };
  const matching = lines.filter(fits);
  const part = Boolean(filter) && !figure.dataset.all && matching.length > most;
  const shown = new Set(part ? matching.slice(0, most) : matching);
  for (const line of lines) if (line.hidden === shown.has(line)) line.hidden = !line.hidden;
  if ([...shown].some((line, i) => body.rows[i] !== line)) body.prepend(...shown);
  if (!filter) return;
  filter.querySelector("output").textContent = part ? `first ${most} of ${matching.length}` : `${matching.length}`;
  filter.querySelector(".all").hidden = !part;
}

// Paper has all rows, in the order asked for.
addEventListener("beforeprint", () => {
  for (const figure of document.querySelectorAll("figure.table")) figure.querySelector("tbody").append(...rowsOf(figure));
});

for (const filter of document.querySelectorAll(".filter")) {
  const figure = filter.closest("figure");
  filter.hidden = false;
  filter.addEventListener("input", () => showRows(figure));
  filter.querySelector(".all").addEventListener("click", () => {
    figure.dataset.all = "yes";
    showRows(figure);
  });
  showRows(figure);
}

// Evidence: the same blocks that stand at the end of the page, shown where they are asked for.
const dialog = document.getElementById("evidence");
const shown = document.getElementById("evidence-body");

function openEvidence(ids) {
  const blocks = ids.map((id) => document.getElementById(id)).filter(Boolean);
  if (blocks.length === 0) return false; // they are in the page beside, where the link leads
  shown.replaceChildren(
    ...blocks.map((block, i) => {
      const copy = block.cloneNode(true);
      copy.removeAttribute("id");
      copy.open = i === 0;
      return copy;
    }),
  );
  dialog.showModal();
  dialog.scrollTop = 0;
  return true;
}

// A page from disk may have no clipboard; what is to be copied is then selected, for the reader's own keys.
async function copy(button) {
  const text = button.previousElementSibling;
  try {
    await navigator.clipboard.writeText(text.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(text);
    button.textContent = "Selected";
  }
}

document.addEventListener("click", (event) => {
  if (event.target.className === "copy") return copy(event.target);
  const button = event.target.closest("thead button");
  if (button) return sortBy(button.closest("th"));
  const link = event.target.closest("a[data-cells]");
  if (link && !event.ctrlKey && !event.metaKey) {
    if (openEvidence(link.dataset.cells.split(" "))) event.preventDefault();
    return;
  }
  if (event.target === dialog || event.target.id === "close") dialog.close();
});

// A link to a cell from outside opens its block.
function openTarget() {
  const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  for (let block = target; block; block = block.parentElement) if (block.tagName === "DETAILS") block.open = true;
  if (target) target.scrollIntoView();
}
addEventListener("hashchange", openTarget);
openTarget();
