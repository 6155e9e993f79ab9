/* What the theme leaves out for keyboards and screen readers: tables that scroll take the focus, the search has a name. */
window.addEventListener("load", () => {
  document.querySelector("[data-md-component=search]")?.setAttribute("aria-label", "Search");
  for (const table of document.querySelectorAll(".md-typeset__scrollwrap")) table.tabIndex = 0;
});
