// A picture with the heatmaps and the skeleton of one model over it.

/** Longest side of a canvas in its own pixels: enough for a large screen. */
const LONGEST_SIDE = 1280;
/** Line width as a part of the diagonal of the joints' bounding box, as in the pictures that predict writes. */
const LINE_WIDTH = 0.014;
const OUTLINE = "#141414";
/** Okabe and Ito's reddish purple, which no limb has. */
const HEAT = [204, 121, 167];

/** Turn a result's heatmaps into bytes, once. */
export function unpack(heatmaps) {
  const text = atob(heatmaps.bytes);
  return { ...heatmaps, values: Uint8Array.from(text, (character) => character.charCodeAt(0)) };
}

/** Size of the canvas for a picture of this width and height, and pixels of it for one of the picture. */
export function fit(canvas, width, height) {
  const scale = Math.min(1, LONGEST_SIDE / Math.max(width, height));
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  return canvas.width / width;
}

/**
 * Draw everything anew.
 * @param canvas where.
 * @param bitmap the picture; null where the browser cannot show it.
 * @param frame width and height of the picture.
 * @param model what /models says of it: joints and limbs with their colours.
 * @param result of the model: person and unpacked heatmaps.
 * @param view skeleton, heatmaps, joint (null for all), threshold, box (or null).
 */
export function draw(canvas, bitmap, frame, model, result, view) {
  const scale = fit(canvas, frame.width, frame.height);
  const context = canvas.getContext("2d");
  if (bitmap) context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  context.scale(scale, scale);
  if (view.heatmaps) drawHeatmaps(context, result.heatmaps, view.joint);
  if (view.skeleton) drawSkeleton(context, model, result.person.keypoints, view.threshold, scale);
  if (view.box) {
    context.lineWidth = 2 / scale;
    context.strokeStyle = "#fff";
    context.strokeRect(...view.box);
    context.setLineDash([6 / scale, 6 / scale]);
    context.strokeStyle = "#000";
    context.strokeRect(...view.box);
  }
}

function drawHeatmaps(context, heatmaps, joint) {
  const { width, height, values } = heatmaps;
  const size = width * height;
  const image = new ImageData(width, height);
  const [first, last] = joint === null ? [0, heatmaps.joints] : [joint, joint + 1];
  for (let pixel = 0; pixel < size; pixel++) {
    let highest = 0;
    for (let map = first; map < last; map++) highest = Math.max(highest, values[map * size + pixel]);
    image.data.set([...HEAT, 0.85 * highest], 4 * pixel);
  }
  const small = new OffscreenCanvas(width, height);
  small.getContext("2d").putImageData(image, 0, 0);
  context.drawImage(small, ...heatmaps.region);
}

function drawSkeleton(context, model, keypoints, threshold, scale) {
  const shown = keypoints.map((point) => point.score !== null && point.score >= threshold);
  const points = keypoints.map((point) => [point.x + 0.5, point.y + 0.5]);
  const seen = points.filter((_, index) => shown[index]);
  if (!seen.length) return;
  const spread = (axis) => Math.max(...seen.map((p) => p[axis])) - Math.min(...seen.map((p) => p[axis]));
  const width = Math.min(24, Math.max(1.5 / scale, Math.hypot(spread(0), spread(1)) * LINE_WIDTH));
  const limbs = model.limbs.filter((limb) => shown[limb.from] && shown[limb.to]);
  context.lineCap = "round";
  for (const outline of [0.6 * width, 0]) {
    context.lineWidth = width + outline;
    for (const limb of limbs) {
      context.strokeStyle = outline ? OUTLINE : limb.color;
      context.beginPath();
      context.moveTo(...points[limb.from]);
      context.lineTo(...points[limb.to]);
      context.stroke();
    }
  }
  for (const outline of [0.3 * width, 0]) {
    points.forEach((point, index) => {
      if (!shown[index]) return;
      context.fillStyle = outline ? OUTLINE : model.joints[index].color;
      context.beginPath();
      context.arc(...point, 0.95 * width + outline, 0, 2 * Math.PI);
      context.fill();
    });
  }
}
