/**
 * Draw small charts of the samples of the load.
 */

import { h } from "./dom.js";
import { count, duration, NONE } from "./format.js";

const [WIDTH, HEIGHT] = [240, 44];

/** The time that the charts cover, in milliseconds, unless the samples begin later. */
const COVERED = 300000;

/** Return the points of a series of `[time, value]` in the picture; a missing value has none. */
function points(series, begin, end, highest) {
  const scale = (HEIGHT - 6) / (highest || 1);
  return series.map(([at, value]) =>
    value === null || value === undefined
      ? null
      : [((at - begin) / (end - begin || 1)) * (WIDTH - 6), HEIGHT - 3 - value * scale],
  );
}

function path(list) {
  return list
    .map(([x, y], index) => `${index ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`)
    .join("");
}

/** Return a line chart whose lines are series of `[time, value]`. */
function chart(lines, highest, label) {
  const times = lines.flatMap(({ series }) => series.map(([at]) => at));
  const end = Math.max(...times);
  const begin = Math.min(Math.min(...times), end - COVERED / 5);
  const drawn = lines.map(({ series, kind }) => {
    // A value lasts until the next one: there is none while no request ends.
    const known = points(series, begin, end, highest).filter((point) => point !== null);
    if (known.length === 0) return null;
    const last = known.at(-1);
    return [
      h("path", {
        class: `area ${kind}`,
        d: `${path(known)}L${last[0].toFixed(1)} ${HEIGHT}L${known[0][0].toFixed(1)} ${HEIGHT}Z`,
      }),
      h("path", { class: `line ${kind}`, d: path(known) }),
      h("path", { class: `end ${kind}`, d: `M${last[0].toFixed(1)} ${last[1].toFixed(1)}h0` }),
    ];
  });
  return h(
    "svg",
    {
      class: "spark",
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": label,
    },
    h("path", { class: "base", d: `M0 ${HEIGHT - 0.5}H${WIDTH}` }),
    drawn,
  );
}

function tile(title, values, drawing) {
  return h(
    "div",
    { key: title, class: "tile" },
    h("h3", null, title),
    h(
      "p",
      { class: "tile-values" },
      values.map(([number, unit, kind]) =>
        h(
          "span",
          { key: unit, class: `tile-value ${kind ?? ""}` },
          h("strong", null, number),
          " ",
          h("span", { class: "unit" }, unit),
        ),
      ),
    ),
    drawing,
  );
}

function lastOf(samples, name) {
  return (
    samples.findLast((sample) => sample[name] !== null && sample[name] !== undefined)?.[name] ??
    null
  );
}

/** Return the last sample of a moment at which a request ended. */
function lastEnded(samples) {
  return samples.findLast(({ total }) => total !== null && total !== undefined) ?? {};
}

function highestOf(samples, name) {
  return Math.max(0, ...samples.map((sample) => sample[name] ?? 0));
}

/** Return the chart of some fields of the samples, with an accessible summary. */
function chartOf(samples, fields, { least = 0, write = count, title }) {
  const highest = Math.max(least, ...fields.map(([name]) => highestOf(samples, name)));
  const lines = fields.map(([name, kind]) => ({
    kind,
    series: samples.map((sample) => [sample.time, sample[name]]),
  }));
  const parts = fields.map(([name, , label]) => {
    const [now, peak] = [lastOf(samples, name), highestOf(samples, name)];
    return `${label}: now ${now === null ? "none" : write(now)}, highest ${write(peak)}`;
  });
  return chart(lines, highest, `${title}. ${parts.join("; ")}`);
}

/** How many bars a chart of sums has at most. */
const BARS = 30;

/** Return a bar chart of the sums of requests and failures. */
function barsOf(samples) {
  const size = Math.ceil(samples.length / BARS);
  const sums = [];
  for (let start = 0; start < samples.length; start += size) {
    const part = samples.slice(start, start + size);
    sums.push(
      ["requests", "failures"].map((name) =>
        part.reduce((sum, item) => sum + (item[name] ?? 0), 0),
      ),
    );
  }
  const highest = Math.max(1, ...sums.map(([requests, failures]) => Math.max(requests, failures)));
  const step = WIDTH / Math.max(BARS, sums.length);
  const first = WIDTH - step * sums.length;
  const draw = (value, index, kind) =>
    value === 0
      ? null
      : h("rect", {
          key: `${kind} ${index}`,
          class: `column-bar ${kind}`,
          x: (first + index * step + 1).toFixed(1),
          width: (step - 2).toFixed(1),
          y: (HEIGHT - (value / highest) * (HEIGHT - 6)).toFixed(1),
          height: ((value / highest) * (HEIGHT - 6)).toFixed(1),
        });
  const failed = sums.reduce((sum, [, failures]) => sum + failures, 0);
  const ended = sums.reduce((sum, [requests]) => sum + requests, 0);
  return h(
    "svg",
    {
      class: "spark",
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": `Requests. Ended: ${count(ended)}; failed: ${count(failed)}`,
    },
    sums.map(([requests, failures], index) => [
      draw(requests, index, "ok"),
      draw(failures, index, "bad"),
    ]),
  );
}

/** Return the tiles above the workers. */
export function tiles(feed, workers, busy) {
  const { samples, live } = feed;
  // A chart needs two points in time.
  const drawn = samples.length > 1;
  const draw = (fields, options) =>
    drawn ? chartOf(samples, fields, options) : h("div", { class: "spark waiting" }, "Collecting");
  const requests = samples.reduce((sum, sample) => sum + (sample.requests ?? 0), 0);
  const failures = samples.reduce((sum, sample) => sum + (sample.failures ?? 0), 0);
  return h(
    "div",
    { class: "tiles" },
    tile(
      "Load",
      [
        [live ? `${busy}/${workers}` : NONE, "busy", "turn"],
        [live ? count(feed.state.queue.length) : NONE, "queued", "queue"],
      ],
      draw(
        [
          ["busy", "turn", "busy workers"],
          ["queued", "queue", "queued"],
        ],
        {
          least: workers,
          title: "Load",
        },
      ),
    ),
    tile(
      "Wait in the queue",
      [[duration(lastOf(samples, "wait")), "last", "queue"]],
      draw([["wait", "queue", "wait"]], {
        least: 0.1,
        write: duration,
        title: "Wait in the queue",
      }),
    ),
    tile(
      "Latency",
      [
        [duration(lastEnded(samples).first), "first", "first"],
        [duration(lastEnded(samples).total), "total", "turn"],
      ],
      draw(
        [
          ["total", "turn", "total"],
          ["first", "first", "first output"],
        ],
        {
          least: 0.1,
          write: duration,
          title: "Latency",
        },
      ),
    ),
    tile(
      "Requests",
      [
        [count(requests), "ended", "ok"],
        [count(failures), "failed", failures > 0 ? "bad" : ""],
      ],
      drawn ? barsOf(samples) : h("div", { class: "spark waiting" }, "Collecting"),
    ),
  );
}
