// Timeline of a run: zoom, and playback at the original pace. Uses the helpers of page.js.
"use strict";

// --- zoom: the SVG window of each row is moved and widened; its contents are in percent --------------------------------

const view = { from: 0, to: 1 };

function setView(from, to) {
  const width = Math.min(1, Math.max(1e-5, to - from));
  view.from = Math.min(1 - width, Math.max(0, from));
  view.to = view.from + width;
  applyView();
}

function applyView() {
  const x = `${(-100 * view.from / (view.to - view.from)).toFixed(4)}%`;
  const width = `${(100 / (view.to - view.from)).toFixed(4)}%`;
  for (const fall of all(".fall")) {
    fall.classList.toggle("zoomed", view.to - view.from < 1);
    for (const each of all(".window", fall)) {
      each.setAttribute("x", x);
      each.setAttribute("width", width);
    }
    drawAxis(fall);
  }
}

// Axis marks: the server's own for the whole run, round times of the visible range when zoomed.
function drawAxis(fall) {
  const axis = one(".axis .window", fall);
  fall.labels ??= [...axis.childNodes];
  const windows = all(".row .window", fall);
  fall.lines ??= windows.map((each) => all(".tick", each));
  const whole = view.from === 0 && view.to === 1;
  const marks = whole ? [] : roundTimes(Number(fall.dataset.seconds));
  axis.replaceChildren(...(whole ? fall.labels : marks.map(({ x, label }) => Object.assign(svg("text", { x, y: 17 }), { textContent: label }))));
  windows.forEach((each, number) => {
    for (const line of all(".tick", each)) line.remove();
    each.prepend(...(whole ? fall.lines[number] : marks.map(({ x }) => svg("line", { class: "tick", x1: x, x2: x, y1: 0, y2: 26 }))));
  });
}

function roundTimes(total) {
  const shown = total * (view.to - view.from);
  const power = 10 ** Math.floor(Math.log10(shown / 5));
  const size = [1, 2, 5, 10].map((digit) => digit * power).find((each) => shown / each <= 7);
  const digits = Math.max(0, -Math.floor(Math.log10(size) + 1e-9));
  const label = (at) => at < 1 ? `${(at * 1000).toFixed(Math.max(0, digits - 3))}ms` : at < 60 ? `${at.toFixed(digits)}s` : seconds(at);
  const marks = [];
  for (let number = Math.ceil(total * view.from / size); number * size <= total * view.to; number++)
    marks.push({ x: `${100 * number * size / total}%`, label: label(number * size) });
  return marks;
}

function zoom(factor, around = (view.from + view.to) / 2) {
  setView(around - (around - view.from) * factor, around + (view.to - around) * factor);
}

function pan(share) {
  const by = (view.to - view.from) * share;
  setView(view.from + by, view.to + by);
}

function zoomable(fall) {
  fall.classList.add("scripted");
  let drag = null;
  const shareAt = (track, x) => {
    const box = track.getBoundingClientRect();
    return Math.min(1, Math.max(0, (x - box.left) / box.width));
  };
  fall.addEventListener("wheel", (event) => {
    const track = event.target.closest(".fall-track");
    if (!track || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    zoom(Math.exp(event.deltaY / 200), view.from + shareAt(track, event.clientX) * (view.to - view.from));
  }, { passive: false });
  fall.addEventListener("pointerdown", (event) => {
    const track = event.target.closest(".fall-track");
    if (!track || event.pointerType !== "mouse" || event.button !== 0) return;
    event.preventDefault();
    drag = { track, from: shareAt(track, event.clientX), box: null };
  });
  fall.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const to = shareAt(drag.track, event.clientX);
    if (!drag.box && Math.abs(to - drag.from) < 0.01) return;
    drag.box ??= one("svg", drag.track).appendChild(svg("rect", { class: "selection", y: 0, height: 26 }));
    drag.to = to;
    drag.box.setAttribute("x", `${100 * Math.min(drag.from, to)}%`);
    drag.box.setAttribute("width", `${100 * Math.abs(to - drag.from)}%`);
  });
  addEventListener("pointerup", () => {
    if (drag?.box) {
      drag.box.remove();
      const width = view.to - view.from;
      const [from, to] = [view.from + Math.min(drag.from, drag.to) * width, view.from + Math.max(drag.from, drag.to) * width];
      fall.dragged = true;
      setView(from, to);
    }
    drag = null;
  });
  fall.addEventListener("click", (event) => {
    if (fall.dragged) event.preventDefault();
    fall.dragged = false;
  });
  fall.addEventListener("dragstart", (event) => event.preventDefault());
}

// --- playback of the conversation ---------------------------------------------------------------------------------------

const player = { on: false, at: null, last: 0, timing: null, texts: [] };

function loadTiming() {
  const source = one("#timing");
  player.timing = source ? JSON.parse(source.textContent) : null;
  player.texts = [];
  for (const element of all("[data-text]")) {
    const timing = player.timing?.texts[element.dataset.text];
    if (!timing || !timing.at.length) continue;
    element.whole ??= element.textContent;
    const letters = Array.from(element.whole); // lengths count code points
    const ends = [];
    timing.lengths.reduce((sum, length) => (ends.push(sum + length), sum + length), 0);
    if (ends.at(-1) !== letters.length) continue; // the page shows a shortened text
    player.texts.push({ element, at: timing.at, ends, letters, shown: -1 });
  }
}

function show(at) {
  const total = player.timing.seconds;
  const over = at >= total;
  root.classList.toggle("replaying", !over);
  for (const text of player.texts) {
    let low = 0, high = text.at.length;
    while (low < high) { const middle = (low + high) >> 1; if (text.at[middle] <= at) low = middle + 1; else high = middle; }
    if (over) low = text.at.length;
    if (low === text.shown) continue;
    text.shown = low;
    text.element.textContent = low === text.at.length ? text.element.whole : text.letters.slice(0, low ? text.ends[low - 1] : 0).join("");
    text.element.classList.toggle("typing", low > 0 && low < text.at.length);
  }
  for (const element of all(".turn[data-step], .row[data-step]")) {
    const start = player.timing.steps[element.dataset.step];
    element.classList.toggle("later", !over && start !== undefined && start > at);
  }
  for (const element of all("[data-after]")) {
    element.classList.toggle("later", !over && (player.timing.ends[element.dataset.after] ?? 0) > at);
  }
  for (const window_ of all(".fall .window")) {
    const line = one(".head-line", window_);
    if (over) line?.remove();
    else (line ?? window_.appendChild(svg("line", { class: "head-line", y1: 0, y2: 26 }))).setAttribute("x1", `${100 * at / total}%`);
    if (!over) one(".head-line", window_).setAttribute("x2", `${100 * at / total}%`);
  }
  one("#position").value = Math.round(1000 * at / total);
  one("#clock").textContent = seconds(Math.min(at, total));
}

function seek(at) {
  if (!player.timing) return;
  player.at = at >= player.timing.seconds ? null : at;
  show(player.at ?? player.timing.seconds);
  if (player.at === null) player.catchUp?.();
}

function play(on = !player.on) {
  if (!player.timing) loadTiming();
  if (!player.timing) return;
  player.on = on;
  const button = one("#play");
  button.textContent = on ? "❚❚" : "▶";
  button.setAttribute("aria-label", on ? "Pause" : "Play");
  if (!on) return;
  player.at ??= 0;
  player.last = performance.now();
  requestAnimationFrame(frame);
}

function frame(now) {
  if (!player.on) return;
  player.at += (now - player.last) / 1000 * Number(one("#speed").value);
  player.last = now;
  if (player.at >= player.timing.seconds) {
    play(false);
    seek(player.timing.seconds);
    return;
  }
  show(player.at);
  requestAnimationFrame(frame);
}
