// Keys for who reviews many pages: j and k turn pages, u goes up, a, q and r put the cursor into a form. None sends
// a form. Everything works without this file.
"use strict";
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented) return;
  if (event.target.closest("input:not([type=checkbox]), textarea, select")) return;
  const turn = { j: "next", k: "prev", u: "up" }[event.key];
  const link = turn && document.querySelector(`link[rel=${turn}]`);
  const field = /^[aqr]$/.test(event.key) && document.querySelector(`[data-key=${event.key}]`);
  if (link) {
    event.preventDefault();
    window.location.assign(link.href);
  } else if (field) {
    event.preventDefault();
    field.focus();
  }
});
