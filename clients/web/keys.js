// One hand on the keyboard: j and k walk a list or from flag to flag, Enter opens, 1-4 decide, r writes the reason.

function isTyping(target) {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}

function walk(rows, step) {
  const here = rows.findIndex((row) => row.contains(document.activeElement));
  const next = here < 0 ? (step > 0 ? 0 : rows.length - 1) : Math.min(Math.max(here + step, 0), rows.length - 1);
  const link = rows[next].querySelector(".row-link");
  link.focus();
  rows[next].scrollIntoView({ block: "nearest" });
}

function press(element) {
  // A decision needs its reason first: the browser shows the missing field, and the cursor stands in it.
  const form = element.form;
  if (form && !form.reportValidity()) return;
  element.click();
}

export function listenToKeys(page) {
  page.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (isTyping(event.target)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const rows = [...page.querySelectorAll("[data-list] [data-row]")];
    const own = page.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
    if (own) press(own);
    else if ((event.key === "j" || event.key === "k") && rows.length) walk(rows, event.key === "j" ? 1 : -1);
    else if (event.key === "r" && page.getElementById("reason")) page.getElementById("reason").focus();
    else if (event.key === "f") location.assign("/flags");
    else if (event.key === "o") location.assign("/");
    else return;
    event.preventDefault();
  });
}
