// The pages' script: keeps fresh what the server rendered, sends files, steers uploads. Nothing here makes HTML of text.

const POLL = 2000, POLL_HIDDEN = 20000, SLOWEST = 30000, PATIENCE = 15000; // milliseconds
const AT_A_TIME = 3, TRIES = 6, SHOWN = 20;
const FILE_COST = 2 ** 18; // a small file takes about as long as so many bytes

const $ = (id) => document.getElementById(id);
const main = $("main");
const { api, pageHeader } = main.dataset; // the operations page has neither: it only looks
let isLeaving = false;

function tell(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
  $(id).hidden = id !== "announcer" && !text;
}

function leave() { // the token is not good any more; the door says so, but only once
  if (isLeaving) return;
  isLeaving = true;
  location.assign(`/?then=${encodeURIComponent(location.pathname + location.search)}`);
}

function detail(text, status) { // what a problem says, as a sentence
  try {
    const told = JSON.parse(text).detail;
    return `${told[0].toUpperCase()}${told.slice(1)}.`;
  } catch {
    return `The server answers with ${status}.`;
  }
}

// Fresh: the page itself is asked for again, and what is live in it is brought up to date in place.

let timer, asking, wait = POLL, since = null, isAwaited = false; // isAwaited: that nothing is on its way any more

async function refresh() {
  clearTimeout(timer);
  asking?.abort();
  const mine = asking = new AbortController();
  const limit = setTimeout(() => mine.abort(), PATIENCE);
  try {
    const url = new URL(location.href);
    if (since) url.searchParams.set("since", since);
    const answer = await fetch(url, { signal: mine.signal, headers: { Accept: "*/*" } });
    const text = await answer.text();
    if (mine !== asking) return;
    if (answer.status === 401) return leave();
    wait = answer.ok ? POLL : Math.min(wait * 2, SLOWEST);
    connection(answer.ok ? "" : `${detail(text, answer.status)} This page goes on trying.`);
    if (answer.ok) show(new DOMParser().parseFromString(text, "text/html"));
  } catch {
    if (mine !== asking) return; // a newer question is on its way
    wait = Math.min(wait * 2, SLOWEST);
    connection("The server does not answer. This page goes on trying.");
  } finally {
    clearTimeout(limit);
    if (mine === asking && !isLeaving) timer = setTimeout(refresh, document.hidden ? Math.max(wait, POLL_HIDDEN) : wait);
  }
}

function connection(trouble) {
  if (Boolean(trouble) === $("connection").hidden) tell("announcer", trouble || "The server answers again.");
  tell("connection", trouble);
}

function show(fresh) {
  const now = fresh.getElementById("main");
  if (now.dataset.version !== main.dataset.version && !isLossy()) return location.reload(); // a new release
  const before = $("uploads")?.dataset;
  const counts = before && { open: Number(before.open), failed: Number(before.failed) };
  document.title = fresh.title;
  for (const part of now.querySelectorAll("[data-live]")) {
    const held = document.activeElement?.closest(`#${part.id}`);
    for (const button of part.querySelectorAll("button")) if (pressed.has(button.id)) button.ariaDisabled = "true";
    morph($(part.id), document.adoptNode(part));
    if (held?.hidden) $("here").focus();
    else if (held && document.activeElement === document.body) (held.querySelector("h1, h2") ?? main).focus();
  }
  if (counts) announceChange(counts, $("uploads").dataset);
}

function announceChange(before, after) {
  const open = Number(after.open), failed = Number(after.failed);
  isAwaited ||= before.open > 0;
  if (isAwaited && open === 0 && !isBusy()) {
    isAwaited = false;
    const isAllStored = "allStored" in after && !failed;
    tell("announcer", isAllStored ? "Everything is stored." : `Nothing waits any more${failed ? `; ${failed} failed` : ""}.`);
  } else if (failed > before.failed) tell("announcer", `${failed} failed.`);
}

// What stays keeps its element, so that focus, selection and a click that has begun survive.
function morph(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (old.nodeName !== fresh.nodeName || old.id !== fresh.id) return old.replaceWith(fresh);
  if (old.nodeType !== Node.ELEMENT_NODE) return void (old.data = fresh.data);
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  const wanted = new Set([...fresh.children].map((child) => child.id).filter(Boolean));
  for (const child of [...old.children]) if (child.id && !wanted.has(child.id)) child.remove();
  let next = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const same = child.id ? [...old.children].find((one) => one.id === child.id) : (next?.id ? null : next);
    if (same && child.id) while (next && !next.id) next = drop(next); // or what stays would have to be moved, and lose its focus
    if (!same) old.insertBefore(child, next);
    else {
      if (same === next) next = same.nextSibling;
      else old.insertBefore(same, next);
      morph(same, child);
    }
  }
  while (next) next = drop(next);
}

function drop(node) {
  const following = node.nextSibling;
  node.remove();
  return following;
}

async function go(href) { // to another folder, without leaving: what is being sent goes on
  history.pushState(null, "", href);
  await refresh();
  $("here").focus();
  scrollTo(0, 0);
}

addEventListener("popstate", refresh);
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });

// Steering: buttons that the server rendered say what they post to.

async function post(url, body) {
  const headers = { [pageHeader]: "1", Accept: "application/json" };
  if (body) headers["Content-Type"] = "application/json";
  const answer = await fetch(url, { method: "POST", headers, body: body && JSON.stringify(body) });
  const text = await answer.text();
  if (answer.status === 401) leave();
  if (!answer.ok) throw new Error(detail(text, answer.status));
  return JSON.parse(text);
}

const pressed = new Set(); // ids of buttons whose work is under way; they keep the focus, which `disabled` would take

async function attempt(button, work) {
  if (pressed.has(button.id)) return;
  pressed.add(button.id);
  button.ariaDisabled = "true";
  try {
    await work();
    tell("problem", "");
  } catch (error) {
    tell("problem", reason(error));
  }
  pressed.delete(button.id);
  $(button.id)?.removeAttribute("aria-disabled"); // it may have been rendered anew
  await refresh();
}

const reason = (error) => error instanceof TypeError ? "The server does not answer; try again in a moment." : error.message;

document.addEventListener("click", (event) => {
  const file = event.target.closest("#listing .file a");
  if (file) file.target = isLossy() ? "_blank" : ""; // a download in this window would be asked about as if it ended the page
  const link = event.target.closest("a[data-soft]"), button = event.target.closest("button[data-post]");
  if (link && !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey)) {
    event.preventDefault();
    go(link.href);
  } else if (button) {
    attempt(button, async () => {
      let told;
      do told = await post(button.dataset.post); while ("repeat" in button.dataset && told.left && told.retried);
      isAwaited = true;
    });
  }
});

// Sending: few at a time, each with a key of its own, so that a file whose answer was lost can be sent again.

let waiting = [], refused = [], walks = 0, batch = emptyBatch(), holding, drawing;
const active = new Set();
const isBusy = () => active.size + waiting.length > 0;
const isLossy = () => Boolean(isBusy() || refused.length || walks || pressed.size || $("folder-name")?.value); // if it ended now

function add(files) { // of { file, folder }
  if (!files.length) return;
  begin();
  const conflict = $("conflict").value;
  for (const one of files) {
    const key = randomKey();
    enqueue({ ...one, conflict, key, id: `j-${key}`, tries: 0, sent: 0 });
  }
  tell("announcer", `Sending ${plural(files.length, "file")}.`);
  pump();
}

function randomKey() { // randomUUID() is not to be had without TLS
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(16).padStart(8, "0")).join("");
}

function emptyBatch() { return { files: 0, bytes: 0, sentFiles: 0, sentBytes: 0, marks: [] }; }

function begin() { // what is added to a batch that is still on its way belongs to it
  if (isBusy()) return;
  batch = emptyBatch();
  if (!Number($("uploads").dataset.open)) since = null;
}

function enqueue(job) {
  job.tries = 0;
  waiting.push(job);
  batch.files += 1;
  batch.bytes += job.file.size;
}

function pump() {
  while (!holding && active.size < AT_A_TIME && waiting.length) send(waiting.shift());
  draw();
}

function send(job) {
  const request = job.request = new XMLHttpRequest();
  const where = new URLSearchParams({ name: job.file.name, folder: job.folder, on_conflict: job.conflict });
  request.open("POST", `${api}/uploads?${where}`);
  request.setRequestHeader(pageHeader, "1");
  request.setRequestHeader("Idempotency-Key", job.key);
  request.setRequestHeader("Content-Type", "application/octet-stream");
  request.upload.onprogress = (event) => { job.sent = event.loaded; draw(); };
  request.onloadend = () => settle(job, request);
  active.add(job);
  request.send(job.file);
}

async function settle(job, { status, responseText: text }) {
  if (status === 401) return leave();
  const isPassing = !job.isStopped && (status === 0 || status === 429 || status >= 500);
  const isReadable = status !== 0 || await job.file.slice(0, 1).arrayBuffer().then(() => true, () => false);
  active.delete(job);
  job.sent = 0;
  if (status === 202) accept(job, JSON.parse(text));
  else if (job.isStopped) forget(job);
  else if (!isReadable) refuse(job, "This file cannot be read any more.");
  else if (isPassing && ++job.tries < TRIES) hold(job);
  else refuse(job, status ? detail(text, status) : `The connection broke ${TRIES} times.`);
  pump();
}

function accept(job, upload) {
  isAwaited = true;
  batch.sentFiles += 1;
  batch.sentBytes += job.file.size;
  if (!since || upload.created_at < since) since = upload.created_at;
  if (!isBusy()) {
    tell("announcer", `All files are sent${refused.length ? `, but ${refused.length} were refused` : ""}.`);
    refresh();
  }
}

function forget(job) {
  batch.files -= 1;
  batch.bytes -= job.file.size;
}

function refuse(job, why) {
  forget(job);
  keep(Object.assign(job, { why }));
}

function keep(job) { // in sight, until it is sent again
  refused.push(job);
  tell("announcer", `${plural(refused.length, "file")} could not be sent.`);
  draw();
}

function hold(job) { // one wait for all: the server, or the way to it, has trouble
  waiting.unshift(job);
  holding ??= setTimeout(() => { holding = null; pump(); }, Math.min(500 * 2 ** job.tries, SLOWEST));
}

function stop(jobs) {
  waiting = waiting.filter((job) => !jobs.includes(job) || void forget(job));
  for (const job of jobs) if (active.has(job)) Object.assign(job, { isStopped: true }).request.abort();
  pump();
}

function sendAgain(jobs) {
  const files = jobs.filter((job) => job.file), unread = jobs.filter((job) => job.entry);
  if (files.length) begin();
  refused = refused.filter((job) => !jobs.includes(job));
  files.forEach(enqueue);
  if (unread.length) take(unread);
  pump();
}

// Drawing what is sent

const plural = (number, what) => `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`;

function size(bytes) {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  const power = Math.min(units.length - 1, bytes < 1 ? 0 : Math.floor(Math.log2(bytes) / 10));
  return `${(bytes / 1024 ** power).toFixed(power ? 1 : 0)} ${units[power]}`;
}

function span(seconds) {
  if (seconds < 100) return `${Math.ceil(seconds)} s`;
  return seconds < 6000 ? `${Math.ceil(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function draw() { drawing ??= setTimeout(() => { drawing = null; paint(); }, 100); }

function paint() {
  $("sending").hidden = !isBusy() && !refused.length;
  if ($("sending").hidden) return $("sending-rows").replaceChildren();
  const sent = batch.sentBytes + [...active].reduce((sum, job) => sum + job.sent, 0);
  $("sending-bar").max = batch.bytes + batch.files * FILE_COST || 1;
  $("sending-bar").value = sent + batch.sentFiles * FILE_COST;
  $("sending-bar").hidden = $("stop").hidden = !isBusy();
  $("send-again").hidden = !refused.length;
  tell("sending-line", [...progress(sent)].join(" · "));
  const rows = $("sending-rows").cloneNode(false);
  rows.append(...[...active].map(activeRow), ...refused.slice(0, SHOWN).map(refusedRow));
  morph($("sending-rows"), rows);
}

function* progress(sent) {
  if (isBusy()) yield `${batch.sentFiles.toLocaleString("en")} of ${plural(batch.files, "file")}`;
  if (isBusy()) yield `${size(sent)} of ${size(batch.bytes)}`;
  if (holding) yield "the connection broke; going on in a moment";
  else if (isBusy()) yield* pace(sent);
  if (refused.length) yield `${refused.length.toLocaleString("en")} could not be sent`;
}

function* pace(sent) { // over the last ten seconds
  const { marks, files, bytes, sentFiles } = batch, done = sent + sentFiles * FILE_COST;
  marks.push({ at: performance.now(), sent, done });
  while (marks.at(-1).at - marks[0].at > 10000) marks.shift();
  const first = marks[0], seconds = (marks.at(-1).at - first.at) / 1000;
  if (seconds < 1 || done <= first.done) return;
  yield `${size((sent - first.sent) / seconds)}/s`;
  yield `${span((bytes + files * FILE_COST - done) / (done - first.done) * seconds)} left`;
}

function row(job, how, label) {
  const made = $("sending-row").content.firstElementChild.cloneNode(true);
  made.id = job.id;
  const { name } = job.file ?? job.entry;
  made.querySelector(".name").textContent = printable(join(job.folder, name));
  made.querySelector(".how").textContent = how;
  const button = document.createElement("button");
  button.textContent = label;
  button.ariaLabel = `${label} ${name}`;
  made.querySelector(".act").append(button);
  return made;
}

function activeRow(job) {
  const made = row(job, `${size(job.sent)} of ${size(job.file.size)}`, "Cancel");
  const bar = made.querySelector("progress");
  bar.setAttribute("max", Math.max(job.file.size, 1));
  bar.setAttribute("value", job.sent);
  bar.ariaLabel = job.file.name;
  return made;
}

function refusedRow(job) {
  const made = row(job, "not sent", "Send again");
  made.classList.add("failed");
  const why = document.createElement("span");
  why.className = "why";
  why.textContent = printable(job.why);
  made.querySelector("progress").replaceWith(why);
  return made;
}

// As the server shows names: what could turn the reading direction, or not be seen, is written out.
const printable = (name) => name.replace(/[\p{C}\u2028\u2029]/gu, (mark) => `\\u${mark.codePointAt(0).toString(16).padStart(4, "0")}`);

// Files in: chosen, or dropped with their folders

const target = () => decodeURIComponent($("listing").dataset.path);
const join = (...parts) => parts.filter(Boolean).join("/");

function chosen(input) {
  add(Array.from(input.files, (file) => ({ file, folder: join(target(), file.webkitRelativePath.split("/").slice(0, -1).join("/")) })));
  input.value = "";
}

function dropped(transfer) {
  const entries = Array.from(transfer.items, (item) => item.webkitGetAsEntry?.()).filter(Boolean); // only now, not later
  const folder = target();
  if (entries.length) take(entries.map((entry) => ({ entry, folder })));
  else add(Array.from(transfer.files, (file) => ({ file, folder })));
}

async function take(roots) { // of { entry, folder }
  const found = [];
  walks += 1;
  for (const { entry, folder } of roots) await walk(entry, folder, found);
  walks -= 1;
  add(found);
}

async function walk(entry, folder, found) { // what cannot be read is kept in sight, and the rest is walked all the same
  try {
    if (entry.isFile) found.push({ file: await new Promise((good, bad) => entry.file(good, bad)), folder });
    else await walkFolder(entry, join(folder, entry.name), found);
  } catch (error) {
    keep({ entry, folder, id: `j-${randomKey()}`, why: reason(error) });
  }
}

async function walkFolder(entry, path, found) {
  const reader = entry.createReader();
  let isEmpty = true, some;
  do { // a reader gives a hundred at a time
    some = await new Promise((good, bad) => reader.readEntries(good, bad));
    for (const one of some) await walk(one, path, found);
    isEmpty &&= !some.length;
  } while (some.length);
  if (isEmpty) await post(`${api}/folders`, { path });
}

if (api) {
  for (const id of ["files", "folder-input"]) $(id).addEventListener("change", (event) => chosen(event.target));
  $("stop").addEventListener("click", () => stop([...active, ...waiting]));
  $("send-again").addEventListener("click", () => sendAgain(refused));
  $("sending-rows").addEventListener("click", ({ target: button }) => {
    const id = button.closest("button")?.closest("li").id;
    stop([...active].filter((job) => job.id === id));
    sendAgain(refused.filter((job) => job.id === id));
  });
  $("new-folder").addEventListener("submit", (event) => {
    event.preventDefault();
    const name = $("folder-name");
    attempt($("make-folder"), async () => {
      const made = await post(`${api}/folders`, { path: join(target(), name.value) });
      name.value = "";
      tell("announcer", `There is a folder ${printable(made.name)}.`);
    });
  });
  const isOfFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!isOfFiles(event)) return;
    event.preventDefault();
    $("send").classList.add("over");
  });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("send").classList.remove("over"); });
  addEventListener("drop", (event) => {
    if (!isOfFiles(event)) return;
    event.preventDefault();
    $("send").classList.remove("over");
    dropped(event.dataTransfer);
  });
  addEventListener("beforeunload", (event) => { if (isLossy() && !isLeaving) event.preventDefault(); });
}
timer = setTimeout(refresh, POLL);
