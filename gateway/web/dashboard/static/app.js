// What pages gain with a script; without one every form and link here still works.

const $$ = (selector, root = document) => root.querySelectorAll(selector);

// <button data-copy="id of an element">: puts its text or value into the clipboard.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy);
  const said = button.dataset.said || "Copied";
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(source.value ?? source.textContent);
    button.textContent = said;
  } catch {
    // No clipboard without https: what is to be copied is at least selected.
    if (source.select) source.select(); else getSelection().selectAllChildren(source);
    button.textContent = "Press Ctrl+C";
  }
  setTimeout(() => { button.textContent = label; }, 2000);
});

// <form data-confirm="question">: asks first, in a dialog of the page.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.busy !== undefined) { event.preventDefault(); return; }
  if (form.dataset.confirm && !form.dataset.confirmed) {
    event.preventDefault();
    ask(form.dataset.confirm, event.submitter?.textContent.trim() || "Yes").then((yes) => {
      if (!yes) return;
      form.dataset.confirmed = "yes";
      form.requestSubmit(event.submitter);
    });
    return;
  }
  // A second click must not send a second request.
  if (form.method === "post" && !event.defaultPrevented) form.dataset.busy = "";
});
addEventListener("pageshow", () => $$("form[data-busy]").forEach((form) => { delete form.dataset.busy; }));

function ask(question, label) {
  const dialog = document.createElement("dialog");
  const text = document.createElement("p");
  text.textContent = question;
  text.id = "dialog-question";
  dialog.setAttribute("aria-labelledby", text.id);
  const form = document.createElement("form");
  form.method = "dialog";
  form.className = "buttons";
  const yes = Object.assign(document.createElement("button"), { className: "button danger", value: "yes", textContent: label });
  const no = Object.assign(document.createElement("button"), { className: "button", value: "", textContent: "Keep it" });
  no.autofocus = true;
  form.append(yes, no);
  dialog.append(text, form);
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => { resolve(dialog.returnValue === "yes"); dialog.remove(); });
  });
}

// <time datetime>: in the reader's own zone and words, the exact moment as its title.
for (const each of $$("time[datetime]")) {
  const moment = new Date(each.dateTime);
  if (Number.isNaN(moment.valueOf())) continue;
  each.title = each.dateTime;
  each.textContent = moment.toLocaleString(undefined, { dateStyle: "medium", timeStyle: each.dataset.exact === undefined ? "short" : "medium" });
}

// Menus close when one clicks or tabs elsewhere, or presses Escape.
for (const type of ["click", "focusin"]) {
  document.addEventListener(type, (event) => {
    for (const menu of $$("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
  });
}
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of $$("details.menu[open]")) { menu.open = false; menu.querySelector("summary").focus(); }
});

// <select data-go> and forms of filters send themselves when they change.
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submit]")) event.target.form.requestSubmit();
});
