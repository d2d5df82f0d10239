// Decisions by key and button. One is kept in this browser until the server says that it is on disk.
"use strict";

const page = document.body.dataset.page;
const store = `nightcap:${document.body.dataset.review}`;
const by = document.getElementById("by");
const rows = Array.from(document.querySelectorAll(".row"));
let current = page === "row" ? 0 : -1;
const afterwards = [];
let sending = false;
let leaving = false;

// ---- what waits to be saved -------------------------------------------------------------------

function waiting() {
  try {
    return JSON.parse(localStorage.getItem(store)) || [];
  } catch {
    return [];
  }
}

function keep(edits) {
  localStorage.setItem(store, JSON.stringify(edits));
}

function say(text) {
  document.getElementById("status").textContent = text;
}

function warn(text) {
  document.getElementById("alert").textContent = text;
}

function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function decide(row, action, caption, then) {
  const edit = { id: newId(), shard: row.dataset.shard, key: row.dataset.key, action, caption, by: by.value.trim() };
  if (action === "undo") edit.undoes = row.dataset.edit;
  row.dataset.edit = action === "undo" ? "" : edit.id;
  keep([...waiting(), edit]);
  if (action !== "undo") remember(row.dataset.id);
  row.querySelector(".says").textContent = "saving …";
  if (then) {
    leaving = true; // the next key is for the next page
    afterwards.push(then);
  }
  send();
}

async function send() {
  if (sending) return;
  sending = true;
  let most = 200;
  try {
    let edits = waiting();
    while (edits.length) {
      say("saving …");
      const name = edits[0].by;
      const batch = edits.filter((edit) => edit.by === name).slice(0, most);
      const answer = await fetch("edits", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ by: name, edits: batch }),
      });
      const sent = new Set(batch.map((edit) => edit.id));
      if (answer.ok) {
        keep(waiting().filter((edit) => !sent.has(edit.id)));
        (await answer.json()).rows.forEach(show);
      } else if (answer.status === 400 && batch.length > 1) {
        most = 1; // one of them is refused: the others are to be kept
      } else if (answer.status === 400) {
        keep(waiting().filter((edit) => !sent.has(edit.id)));
        const texts = batch.map((edit) => edit.caption).filter(Boolean).join("\n");
        warn(`Not saved: ${await answer.text()}${texts ? `\nWhat you wrote:\n${texts}` : ""}`);
        say("");
        sending = leaving = false;
        afterwards.length = 0;
        return;
      } else {
        throw new Error(await answer.text());
      }
      edits = waiting();
    }
    warn("");
    say("saved");
    sending = false;
    afterwards.splice(0).forEach((then) => then());
  } catch (error) {
    sending = leaving = false;
    const count = waiting().length;
    say("");
    warn(`Not saved yet: ${count === 1 ? "1 decision waits" : `${count} decisions wait`} in this browser, sent when the server answers (${error.message}). If it was started anew, open its new address here.`);
    setTimeout(send, 2000);
  }
}

// ---- what the page shows ----------------------------------------------------------------------

function show(state) {
  const row = rows.find((one) => one.dataset.shard === state.shard && one.dataset.key === state.key);
  if (!row) return;
  count(row.dataset.action, -1);
  count(state.action, 1);
  row.dataset.action = state.action || "";
  if (!waiting().some((edit) => edit.shard === state.shard && edit.key === state.key)) {
    row.dataset.edit = state.edit || "";
  }
  row.querySelector(".says").textContent = state.says;
  row.querySelector(".caption").textContent = state.caption;
  row.querySelector(".decide [data-do=undo]").disabled = !state.action;
  row.querySelector(".decide [data-do=accept]").disabled = !state.caption;
}

function count(action, step) {
  const place = action && document.querySelector(`[data-count="${action}"]`);
  if (place) place.textContent = String(Number(place.textContent) + step);
}

function choose(index) {
  if (!rows.length) return;
  current = Math.max(0, Math.min(rows.length - 1, index));
  rows.forEach((row, at) => row.classList.toggle("current", at === current && page === "grid"));
  if (page === "grid") {
    rows[current].focus({ preventScroll: true });
    rows[current].scrollIntoView({ block: "nearest" });
  }
}

function follow(rel) {
  const link = document.querySelector(`a[rel=${rel}]`);
  if (link) location.assign(link.href);
  return Boolean(link);
}

function onward() {
  if (!follow("next")) location.reload();
}

function decideAndGoOn(row, action, caption) {
  if (page === "grid") {
    decide(row, action, caption);
    choose(rows.indexOf(row) + 1);
  } else decide(row, action, caption, onward);
}

function remember(id) {
  const last = JSON.parse(sessionStorage.getItem(store) || "[]");
  sessionStorage.setItem(store, JSON.stringify([...last.slice(-99), id]));
}

function edit(row) {
  if (row.querySelector(".editor")) return;
  const caption = row.querySelector(".caption");
  const box = document.createElement("form");
  box.className = "editor";
  const area = document.createElement("textarea");
  area.dir = "auto";
  area.value = caption.textContent;
  area.setAttribute("aria-label", "Caption");
  const save = document.createElement("button");
  save.textContent = "Save";
  const leave = document.createElement("button");
  leave.type = "button";
  leave.textContent = "Cancel";
  const buttons = document.createElement("div");
  buttons.className = "decide";
  buttons.append(save, leave);
  box.append(area, buttons);
  const close = () => {
    box.remove();
    caption.hidden = false;
    row.focus({ preventScroll: true });
  };
  leave.addEventListener("click", close);
  box.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!area.value.trim()) {
      warn("An empty caption cannot be kept: write one, or reject the row.");
      return;
    }
    const text = area.value;
    close();
    decideAndGoOn(row, "edit", text);
  });
  area.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) box.requestSubmit();
    event.stopPropagation();
  });
  caption.hidden = true;
  caption.after(box);
  area.focus();
}

function undo(row) {
  if (row && row.dataset.edit) {
    decide(row, "undo", "", page === "row" ? () => location.reload() : undefined);
    return;
  }
  const last = JSON.parse(sessionStorage.getItem(store) || "[]");
  const id = last.pop();
  if (id === undefined) {
    say("nothing to undo here");
    return;
  }
  sessionStorage.setItem(store, JSON.stringify(last));
  const at = rows.findIndex((one) => one.dataset.id === id);
  if (at >= 0 && page === "grid") {
    choose(at);
    if (rows[at].dataset.edit) decide(rows[at], "undo", "");
  } else {
    const asked = new URLSearchParams(location.search);
    asked.set("id", id);
    location.assign(`row?${asked}`);
  }
}

function act(row, what, button) {
  if (what !== "undo" && row.querySelector(".decide [data-do=reject]").disabled) {
    say("this picture failed: there is no caption to judge");
    return;
  }
  const choice = button && button.querySelector(".text");
  if (what === "accept") {
    const text = choice ? choice.textContent : row.querySelector(".caption").textContent;
    if (text.trim()) decideAndGoOn(row, "accept", text);
  } else if (what === "reject") decideAndGoOn(row, "reject", "");
  else if (what === "edit") edit(row);
  else if (what === "undo") undo(row);
}

// ---- what the reviewer does -------------------------------------------------------------------

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-do]");
  const row = event.target.closest(".row");
  if (!row) return;
  if (page === "grid") current = rows.indexOf(row);
  if (button) act(row, button.dataset.do, button);
});

const KEYS = {
  j: () => (page === "grid" ? choose(current + 1) : follow("next")),
  k: () => (page === "grid" ? choose(current - 1) : follow("prev")),
  n: () => page === "grid" && follow("next"),
  p: () => page === "grid" && follow("prev"),
  g: () => follow("up"),
  a: () => rows[current] && act(rows[current], "accept"),
  x: () => rows[current] && act(rows[current], "reject"),
  e: () => rows[current] && act(rows[current], "edit"),
  u: () => undo(rows[current]),
  "/": () => document.getElementById("search")?.focus(),
  "?": () => document.getElementById("show-keys").click(),
  Enter: () => page === "grid" && rows[current]?.querySelector("a.picture").click(),
};
KEYS.ArrowRight = KEYS.j;
KEYS.ArrowLeft = KEYS.k;

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || leaving) return;
  const typing = event.target.matches("input, textarea, select");
  const pressing = event.key === "Enter" && event.target.matches("a, button");
  if (typing || pressing) return;
  const numbered = document.querySelector(`[data-number="${CSS.escape(event.key)}"]`);
  const what = numbered ? () => numbered.click() : KEYS[event.key];
  if (!what) return;
  event.preventDefault();
  what();
});

document.getElementById("show-keys").addEventListener("click", (event) => {
  const keys = document.getElementById("keys");
  keys.hidden = !keys.hidden;
  event.target.setAttribute("aria-expanded", String(!keys.hidden));
});

// ---- pictures that cannot be shown ------------------------------------------------------------

async function explain(image) {
  const box = document.createElement("span");
  box.className = "missing";
  box.textContent = "no picture";
  image.replaceWith(box);
  try {
    const answer = await fetch(image.src);
    box.textContent = answer.ok ? "This picture cannot be shown." : await answer.text();
  } catch {
    box.textContent = "The server does not answer.";
  }
}

document.querySelectorAll(".picture img").forEach((image) => {
  if (image.complete && image.naturalWidth === 0 && image.currentSrc) explain(image);
  else image.addEventListener("error", () => explain(image), { once: true });
});

by.value = localStorage.getItem(`${store}:by`) || document.body.dataset.reviewer;
by.addEventListener("change", () => localStorage.setItem(`${store}:by`, by.value.trim()));
if (waiting().length) send();
