// What a call shows while it goes on: its words, where the time of its turns went, and how loud both sides are.

const element = (id) => document.getElementById(id);
const [log, hearing, turnRows] = ["log", "hearing", "turn-rows"].map(element);

// What is kept on the page of a call without end.
const MAX_LINES = 500;
// Quieter is no level: 48 dB below the loudest.
const FLOOR_DB = -48;

let isAtEnd = true;

log.addEventListener("scroll", () => {
  isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
});
new ResizeObserver(follow).observe(log);

export function clearCall() {
  isAtEnd = true;
  log.replaceChildren();
  turnRows.replaceChildren();
  hearing.textContent = "";
}

/** What the recogniser has of what is being said is over. */
export function clearHearing() {
  hearing.textContent = "";
}

export function showWords({ by, text, final, interrupted }) {
  if (!final) {
    if (by === "caller") hearing.textContent = `You: ${text} …`;
    return;
  }
  if (by === "caller") hearing.textContent = "";
  const line = document.createElement("p");
  line.dataset.by = by;
  const who = document.createElement("strong");
  who.textContent = by === "caller" ? "You" : "Agent";
  const words = document.createElement("span");
  words.textContent = text;
  line.append(who, words);
  if (interrupted) {
    const note = document.createElement("em");
    note.textContent = " (interrupted)";
    line.append(note);
  }
  log.append(line);
  while (log.childElementCount > MAX_LINES) log.firstElementChild.remove();
  follow();
}

/** The newest line stays in sight, unless whoever reads has scrolled up. */
function follow() {
  if (isAtEnd) log.scrollTop = log.scrollHeight;
}

export function showTurn({ endpoint_ms, words_ms, first_token_ms, first_sound_ms, first_sent_ms }) {
  const row = document.createElement("tr");
  const number = Number(turnRows.lastElementChild?.firstElementChild.textContent ?? 0) + 1;
  for (const value of [number, endpoint_ms, words_ms, first_token_ms, first_sound_ms, first_sent_ms]) {
    const cell = document.createElement("td");
    cell.textContent = value ?? "–";
    row.append(cell);
  }
  turnRows.append(row);
  while (turnRows.childElementCount > MAX_LINES) turnRows.firstElementChild.remove();
}

export function level(side, peak) {
  const decibels = peak > 0 ? 20 * Math.log10(peak) : FLOOR_DB;
  const share = Math.max(0, Math.min(1, 1 - decibels / FLOOR_DB));
  const meter = element(`${side}-meter`);
  meter.setAttribute("aria-valuenow", String(Math.round(share * 100)));
  meter.firstElementChild.style.transform = `scaleX(${share.toFixed(3)})`;
}
