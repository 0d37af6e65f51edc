// The page's state: one picture (or the webcam's last frame), one box, what every model found.
import { draw, unpack } from "./picture.js";

const $ = (id) => document.getElementById(id);
/** Longest side of a webcam's frame as it is sent. */
const FRAME_SIDE = 640;
const state = {
  models: [], panels: [], maxBytes: 0,
  picture: null, // { blob, bitmap, name }
  frame: null, // { width, height } as the server sees it
  results: null,
  box: null, // [x, y, width, height], null for the whole picture
  stream: null,
  request: null, // AbortController of the last one
};

function say(text) {
  $("status").textContent = text;
}

function fail(text) {
  $("error").textContent = text;
  if (text) say("");
}

async function start() {
  const answer = await ask("models");
  state.models = answer.models;
  state.maxBytes = answer.max_bytes;
  $("models").textContent = state.models.map((model) => model.file).join(" beside ");
  state.panels = state.models.map(makePanel);
  const names = new Set(state.models.flatMap((model) => model.joints.map((joint) => joint.name)));
  for (const name of names) $("joint").append(new Option(name.replaceAll("_", " "), name));
  say("Ready for a picture.");
}

/** JSON of the server; what went wrong is one sentence. */
async function ask(address, options = {}) {
  let response, answer;
  try {
    response = await fetch(address, options);
    answer = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The demo does not answer; start bihrnet-edge demo again.");
  }
  if (!response.ok) throw new Error(sentence(answer.error));
  return answer;
}

function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function makePanel(model, index) {
  const element = (name, text = "", attributes = {}) => {
    const made = Object.assign(document.createElement(name), attributes);
    made.textContent = text;
    return made;
  };
  const article = element("article");
  const title = element("h3", model.file, { id: `model-${index}` });
  article.setAttribute("aria-labelledby", title.id);
  const facts = element("p", `${model.name}, ${model.runtime}, input ${model.input.join("×")}`, { className: "soft" });
  const latency = element("p", "No picture yet.", { className: "latency" });
  const canvas = element("canvas", "", { width: 320, height: 240, hidden: true });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Picture with the skeleton that ${model.file} found; its joints are in the table below`);
  canvas.addEventListener("pointerdown", (event) => drawBox(event, canvas));
  const details = element("details", "", { hidden: true });
  const table = element("table");
  const scroll = element("div", "", { className: "scroll" });
  scroll.append(table);
  details.append(element("summary", `Joints that ${model.file} found`), scroll);
  const head = element("tr");
  for (const column of ["joint", "x", "y", "score"]) head.append(element("th", column, { scope: "col" }));
  const rows = model.joints.map((joint) => {
    const row = element("tr");
    const cells = ["x", "y", "score"].map(() => element("td"));
    row.append(element("th", joint.name, { scope: "row" }), ...cells);
    return { row, cells };
  });
  const body = element("tbody");
  body.append(...rows.map(({ row }) => row));
  table.append(element("thead"), body);
  table.tHead.append(head);
  article.append(title, facts, latency, canvas, details);
  $("results").append(article);
  return { latency, canvas, details, rows };
}

/** Send a picture to all models and show what comes back; false where another one overtook it. */
async function look(picture, live = false) {
  state.request?.abort();
  const request = (state.request = new AbortController());
  fail("");
  if (!live) say(`Looking at ${picture.name}…`);
  try {
    if (picture.blob.size > state.maxBytes) {
      throw new Error(`The picture file is larger than ${state.maxBytes / 2 ** 20} MiB; make it smaller.`);
    }
    const query = state.box ? `?box=${state.box.join(",")}` : "";
    const headers = { "Content-Type": "application/octet-stream" };
    const options = { method: "POST", body: picture.blob, headers, signal: request.signal };
    const answer = await ask(`predict${query}`, options);
    picture.bitmap ??= await createImageBitmap(picture.blob).catch(() => null);
    if (request.signal.aborted) return false;
    state.picture = picture;
    state.frame = { width: answer.width, height: answer.height };
    state.results = answer.results.map((result) => ({ ...result, heatmaps: unpack(result.heatmaps) }));
    show();
    const times = state.models.map((model, i) => `${model.file} in ${state.results[i].network_ms.toFixed(1)} ms`);
    if (!live) say(`${picture.name}: looked at by ${times.join(", ")}.`);
    return true;
  } catch (error) {
    if (error.name === "AbortError") return false;
    fail(error.message);
    throw error;
  }
}

function show() {
  redraw();
  state.results.forEach((result, index) => {
    const { latency, canvas, details, rows } = state.panels[index];
    canvas.hidden = details.hidden = false;
    const strong = document.createElement("strong");
    strong.textContent = `${result.network_ms.toFixed(1)} ms`;
    const rest = ` network, ${result.total_ms.toFixed(1)} ms with crop and decoding; highest score ${result.heatmaps.peak.toFixed(2)}`;
    latency.replaceChildren(strong, rest);
    result.person.keypoints.forEach((point, joint) => {
      const texts = [point.x.toFixed(2), point.y.toFixed(2), point.score === null ? "–" : point.score.toFixed(4)];
      rows[joint].cells.forEach((cell, column) => (cell.textContent = texts[column]));
    });
  });
}

function redraw() {
  $("threshold-value").textContent = Number($("threshold").value).toFixed(2);
  if (!state.results) return;
  state.results.forEach((result, index) => {
    const model = state.models[index];
    const name = $("joint").value;
    const joint = model.joints.findIndex((one) => one.name === name);
    const view = {
      skeleton: $("show-skeleton").checked,
      heatmaps: $("show-heatmaps").checked && (name === "" || joint >= 0),
      joint: name === "" ? null : joint,
      threshold: Number($("threshold").value),
      box: state.box,
    };
    draw(state.panels[index].canvas, state.picture.bitmap, state.frame, model, result, view);
  });
}

/** A picture that was chosen or dropped; look() has said what went wrong. */
function open(file) {
  stopCamera();
  setBox(null);
  look({ blob: file, name: file.name || "picture" }).catch(() => {});
}

function setBox(box) {
  state.box = box;
  const fields = $("box").elements;
  ["x", "y", "width", "height"].forEach((name, i) => (fields[name].value = box ? Math.round(box[i] * 100) / 100 : ""));
}

function useBox(box) {
  setBox(box);
  if (state.picture && !state.stream) look(state.picture).catch(() => {});
}

function drawBox(start, canvas) {
  if (!state.frame || start.button !== 0) return;
  const place = (event) => {
    const area = canvas.getBoundingClientRect();
    const clamp = (value, size) => Math.min(Math.max(value * size, 0), size);
    return [
      clamp((event.clientX - area.left) / area.width, state.frame.width),
      clamp((event.clientY - area.top) / area.height, state.frame.height),
    ];
  };
  const [x, y] = place(start);
  const rectangle = (event) => {
    const [a, b] = place(event);
    return [Math.min(x, a), Math.min(y, b), Math.abs(a - x), Math.abs(b - y)];
  };
  const before = state.box;
  canvas.setPointerCapture(start.pointerId);
  const move = (event) => {
    state.box = rectangle(event);
    redraw();
  };
  const end = (event) => {
    canvas.removeEventListener("pointermove", move);
    canvas.removeEventListener("pointerup", end);
    canvas.removeEventListener("pointercancel", end);
    const box = rectangle(event);
    if (event.type === "pointerup" && box[2] >= 4 && box[3] >= 4) useBox(box.map((v) => Math.round(v * 100) / 100));
    else {
      setBox(before);
      redraw();
    }
  };
  canvas.addEventListener("pointermove", move);
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
}

async function startCamera() {
  fail("");
  try {
    if (!navigator.mediaDevices) throw new Error("this browser offers no webcam");
    state.stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: FRAME_SIDE } }, audio: false });
  } catch (error) {
    fail(`The webcam cannot be used (${error.message || error.name}); choose a picture instead.`);
    return;
  }
  const stream = state.stream;
  const lost = () => stopCamera("The webcam is gone; plug it in and start it again, or choose a picture.");
  stream.getVideoTracks()[0].addEventListener("ended", lost);
  setBox(null);
  $("video").srcObject = stream;
  $("video").hidden = false;
  $("camera").textContent = "Stop the webcam";
  $("camera").setAttribute("aria-pressed", "true");
  say("The webcam runs.");
  try {
    await $("video").play();
    while (state.stream === stream) {
      const picture = await grab($("video"));
      if (state.stream !== stream) break;
      await look(picture, true);
      await new Promise(requestAnimationFrame);
    }
  } catch (error) {
    if (state.stream === stream) stopCamera($("error").textContent || sentence(`the webcam failed (${error.message}).`));
  }
}

/** The webcam's frame as a JPEG, and the bitmap that it was made of. */
async function grab(video) {
  const scale = Math.min(1, FRAME_SIDE / Math.max(video.videoWidth, video.videoHeight));
  const size = [Math.round(video.videoWidth * scale), Math.round(video.videoHeight * scale)];
  const canvas = new OffscreenCanvas(...size);
  canvas.getContext("2d").drawImage(video, 0, 0, ...size);
  const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 });
  return { blob, bitmap: canvas, name: "webcam" };
}

function stopCamera(reason = "") {
  if (!state.stream) return;
  for (const track of state.stream.getTracks()) track.stop();
  state.stream = null;
  $("video").srcObject = null;
  $("video").hidden = true;
  $("camera").textContent = "Start the webcam";
  $("camera").setAttribute("aria-pressed", "false");
  if (reason) fail(reason);
  else say("The webcam is off.");
}

$("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) open(file);
  event.target.value = ""; // so that the same file can be chosen again
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) $("drop").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  const [file] = event.dataTransfer?.files ?? [];
  if (file) open(file);
  else fail("What was dropped is no file; drop a picture.");
});
$("camera").addEventListener("click", () => (state.stream ? stopCamera() : startCamera()));
$("box").addEventListener("submit", (event) => {
  event.preventDefault();
  const fields = event.target.elements;
  useBox(["x", "y", "width", "height"].map((name) => Number(fields[name].value)));
});
$("whole").addEventListener("click", () => useBox(null));
for (const id of ["show-skeleton", "show-heatmaps", "joint", "threshold"]) $(id).addEventListener("input", redraw);

start().catch((error) => fail(error.message));
