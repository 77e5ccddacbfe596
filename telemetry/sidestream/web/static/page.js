// Interactive parts of the pages: theme, keyboard, tooltips, live updates. The pages are readable without JavaScript.
"use strict";

const root = document.documentElement;
root.classList.add("scripted");
const stored = (() => { try { return localStorage.getItem("theme"); } catch { return null; } })();
if (stored === "light" || stored === "dark") root.dataset.theme = stored;

const one = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const SVG = "http://www.w3.org/2000/svg";

function svg(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function seconds(value) {
  if (value < 1) return `${Math.round(value * 1000)}ms`;
  if (value < 60) return `${value.toFixed(2)}s`;
  const whole = Math.round(value);
  const digits = (number) => String(number).padStart(2, "0");
  return whole < 3600 ? `${Math.floor(whole / 60)}m${digits(whole % 60)}s` : `${Math.floor(whole / 3600)}h${digits(Math.floor((whole % 3600) / 60))}m`;
}

// --- theme ---------------------------------------------------------------------------------------------------------

function switchTheme() {
  const dark = getComputedStyle(root).colorScheme === "dark" || (!root.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  root.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem("theme", root.dataset.theme); } catch { /* no storage for file:// pages */ }
}

// --- details on hover ------------------------------------------------------------------------------------------------

function tips(within) {
  const tip = one("#tip") ?? document.body.appendChild(Object.assign(document.createElement("div"), { id: "tip", hidden: true }));
  for (const title of all(".row title, .chart title", within)) {
    const owner = title.closest(".row, a");
    owner.dataset.tip = title.textContent;
    title.remove();
  }
  const hide = () => { tip.hidden = true; };
  for (const owner of all("[data-tip]", within)) {
    owner.addEventListener("pointermove", (event) => {
      if (event.pointerType === "touch" || event.buttons) return hide();
      if (!event.target.closest(".fall-track, .chart")) return hide();
      tip.textContent = owner.dataset.tip;
      tip.hidden = false;
      tip.style.left = `${Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8)}px`;
      tip.style.top = `${event.clientY + 18 + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 10 : event.clientY + 18}px`;
    });
    owner.addEventListener("pointerleave", hide);
  }
}

// The server renders times in its own time zone; localTimes() converts them to the browser's.
const clock = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", timeStyle: "medium" });
const zone = new Intl.DateTimeFormat("en", { timeZoneName: "short" });

function localTimes(within) {
  for (const each of all("time[datetime]", within)) {
    const at = new Date(each.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    const local = `${clock.format(at)} ${zone.formatToParts(at).find((part) => part.type === "timeZoneName").value}`;
    if (each.matches(".full")) each.textContent = local;
    else each.title = local;
  }
}

// --- current row and step ----------------------------------------------------------------------------------------------

function goTo(element) {
  if (!element) return;
  for (const each of all(".here")) each.classList.remove("here");
  element.classList.add("here");
  const link = element.matches("a") ? element : one("a", element);
  link?.focus({ preventScroll: true });
  element.scrollIntoView({ block: "nearest" });
}

function move(by) {
  const rows = all(".row, .runs tbody tr").filter((row) => !row.closest("[hidden]"));
  const at = rows.findIndex((row) => row.classList.contains("here"));
  const row = rows[at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + by))];
  if (row?.matches(".row[data-step]") && one("#turns")) { goToStep(row.dataset.step); return; }
  goTo(row);
}

// Marks a step in the timeline and in the conversation, and scrolls the conversation to the step.
function goToStep(id) {
  for (const each of all(".row.here")) each.classList.remove("here");
  document.getElementById(`row-${id}`)?.classList.add("here");
  if (!showStep(`at-${id}`)) return false;
  document.getElementById(`at-${id}`).focus({ preventScroll: true });
  return true;
}

function showStep(id) {
  const turn = document.getElementById(id);
  if (!turn) return false;
  for (let fold = turn.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  for (const each of all(".turn.here")) each.classList.remove("here");
  turn.classList.add("here");
  turn.scrollIntoView({ block: "start" });
  return true;
}

let wrong = -1;
function nextWrong() {
  const links = all("[data-wrong]");
  if (!links.length) return;
  wrong = (wrong + 1) % links.length;
  if (!goToStep(links[wrong].dataset.wrong)) links[wrong].click();
}

// --- folds and copies ----------------------------------------------------------------------------------------------------

function foldTools() {
  const folds = all(".turn.tool > .fold");
  const open = !folds.some((fold) => fold.open);
  for (const fold of folds) fold.open = open;
  const button = one("#fold-tools");
  if (button) button.textContent = open ? "Fold tools" : "Unfold tools";
}

async function copy(from, button) {
  try { await navigator.clipboard.writeText(from.textContent); } catch { return; }
  if (!button) return;
  button.textContent = "copied";
  setTimeout(() => { button.textContent = "copy"; }, 1200);
}

// --- live updates: notified of a change, the page fetches its own URL and replaces changed sections ----------------------

function live(path) {
  const badge = one("#live");
  let source = null, fetching = false, again = false;

  async function refresh() {
    if (fetching || player.on || player.at !== null) { again = true; return; }
    fetching = true;
    again = false;
    const began = performance.now();
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (answer.ok) takeOver(new DOMParser().parseFromString(await answer.text(), "text/html"));
    } catch { /* server unreachable: the event stream reconnects by itself */ }
    // Wait twice the duration of the fetch: with a large log, one page must not keep the server busy.
    setTimeout(() => { fetching = false; if (again) refresh(); }, Math.max(250, 2 * (performance.now() - began)));
  }

  player.catchUp = () => { if (again) refresh(); };

  function open() {
    if (source || document.hidden) return;
    source = new EventSource(path);
    source.addEventListener("open", () => { badge.hidden = false; });
    source.addEventListener("change", refresh);
    source.addEventListener("end", () => { close(); refresh(); path = null; });
    source.addEventListener("error", () => { badge.hidden = true; });
  }

  function close() {
    source?.close();
    source = null;
    badge.hidden = true;
  }

  document.addEventListener("visibilitychange", () => { if (document.hidden) close(); else if (path) open(); });
  addEventListener("pagehide", close);
  open();
}

// Keeps the existing element of each unchanged article, so that selections and open folds survive.
function reuse(old, taken) {
  const before = new Map(all("article[id]", old).map((each) => [each.id, each]));
  for (const article of all("article[id]", taken)) {
    if (!taken.contains(article)) continue; // already replaced together with its parent article
    const same = before.get(article.id);
    if (same?.source === article.outerHTML) article.replaceWith(same);
    else article.source = article.outerHTML;
  }
}

function foldName(fold) {
  const owner = fold.closest("[id]");
  return `${owner.id} ${all("details", owner).indexOf(fold)}`;
}

const LIVE = ["facts", "fall", "turns", "scores", "usage", "about", "charts", "count", "table", "timing"];

function takeOver(fresh) {
  const follow = innerHeight + scrollY >= document.body.scrollHeight - 80 && scrollY > 0;
  for (const id of LIVE) {
    const [old, now] = [document.getElementById(id), fresh.getElementById(id)];
    if (!old !== !now && (id === "table" || id === "charts")) { location.reload(); return; }
    if (!old || !now || old.source === now.outerHTML) continue;
    const open = new Set(all("details[open]", old).map(foldName));
    const shut = new Set(all("details.fold:not([open])", old).map(foldName));
    const chosen = new Set(all("input:checked", old).map((each) => each.id));
    const here = one(".here", old)?.id;
    const focused = old.contains(document.activeElement) && (document.activeElement.id || "none");
    const taken = document.importNode(now, true);
    taken.source = now.outerHTML;
    reuse(old, taken);
    old.replaceWith(taken);
    for (const each of all("details", taken)) each.open = (each.open || open.has(foldName(each))) && !shut.has(foldName(each));
    for (const each of chosen) { const box = document.getElementById(each); if (box) box.checked = true; }
    const again = here && document.getElementById(here);
    again?.classList.add("here");
    if (focused) (document.getElementById(focused) ?? (again && one("a", again)))?.focus({ preventScroll: true });
    if (taken.matches(".fall")) zoomable(taken);
    tips(taken);
    localTimes(taken);
  }
  document.title = fresh.title;
  if (one("#timing")) {
    loadTiming();
    one("#clock").textContent = seconds(player.timing.seconds);
  }
  if (view.from !== 0 || view.to !== 1) applyView();
  chooseTwo();
  if (follow) scrollTo(0, document.body.scrollHeight);
}

// --- compare -------------------------------------------------------------------------------------------------------------

function chooseTwo() {
  const button = one("#compare-button");
  if (button) button.disabled = all(".choose input:checked").length !== 2;
}

// --- keys ------------------------------------------------------------------------------------------------------------------

const keys = {
  j: () => move(1),
  k: () => move(-1),
  e: nextWrong,
  f: foldTools,
  t: switchTheme,
  u: () => { if (one(".brand[href]")) location.href = "/"; },
  s: () => one("#judge .thumbs button")?.focus(),
  x: () => { one("tr.here .choose input")?.click(); },
  c: () => { const button = one("#compare-button"); if (button && !button.disabled) button.click(); },
  "[": () => one(".neighbours [rel=prev]")?.click(),
  "]": () => one(".neighbours [rel=next]")?.click(),
  "/": () => one("#q")?.focus(),
  "?": () => one("#help").showModal(),
  "+": () => zoom(0.5),
  "=": () => zoom(0.5),
  "-": () => zoom(2),
  0: () => setView(0, 1),
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || one("dialog[open]")) return;
  if (event.key === "Escape" && document.activeElement?.matches("input, select, textarea")) return document.activeElement.blur();
  if (event.target.closest("input:not([type=checkbox]), select, textarea")) return;
  if (event.key === " " && one("#play") && !event.target.closest("button, summary, input")) { event.preventDefault(); play(); return; }
  if ((event.key === "ArrowLeft" || event.key === "ArrowRight") && view.to - view.from < 1) { event.preventDefault(); pan(event.key === "ArrowLeft" ? -0.2 : 0.2); return; }
  const action = keys[event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

document.addEventListener("DOMContentLoaded", () => {
  for (const each of all(`${LIVE.map((id) => `#${id}`)}, article[id]`)) each.source = each.outerHTML;
  for (const fall of all(".fall")) zoomable(fall);
  tips(document);
  localTimes(document);
  chooseTwo();
  const filters = one("#filter-fold[data-filtered='0']");
  if (filters && innerWidth <= 720) filters.open = false; // on a phone, the runs come first
  one("#theme").addEventListener("click", switchTheme);
  one("#help-button").addEventListener("click", () => one("#help").showModal());
  document.addEventListener("keydown", onKey);
  document.addEventListener("change", (event) => { if (event.target.matches(".choose input")) chooseTwo(); });
  document.addEventListener("click", (event) => {
    const row = event.target.closest(".row, [data-wrong]");
    if (row && row.hash && row.pathname === location.pathname && !event.defaultPrevented && showStep(row.hash.slice(1))) {
      event.preventDefault();
      history.replaceState(null, "", row.hash);
      if (row.matches(".row")) { for (const each of all(".row.here")) each.classList.remove("here"); row.classList.add("here"); }
    }
    const code = event.target.closest(".copy");
    if (code) copy(code);
    const button = event.target.closest(".copy-button");
    if (button) { event.preventDefault(); copy(one(".tree", button.parentElement), button); }
    const step = event.target.closest(".step-link");
    if (step) { event.preventDefault(); history.replaceState(null, "", step.hash); showStep(step.hash.slice(1)); copy({ textContent: location.href }); }
  });
  for (const button of all("[data-zoom]")) button.addEventListener("click", () => keys[{ in: "+", out: "-", all: "0" }[button.dataset.zoom]]());
  if (one("#play")) {
    loadTiming();
    one("#play").addEventListener("click", () => play());
    one("#position").addEventListener("input", (event) => { play(false); seek(Number(event.target.value) / 1000 * player.timing.seconds); });
  }
  one("#fold-tools")?.addEventListener("click", foldTools);
  if (location.hash && !showStep(decodeURIComponent(location.hash.slice(1))) && location.hash.startsWith("#at-") && one(".all-steps"))
    location.replace(`?steps=all${location.hash}`);
  const here = one("[data-live][data-running]");
  if (here) live(here.dataset.live);
});
