/**
 * Play recordings in the page.
 */

import { send } from "./api.js";
import { parseCast, parseFrames } from "./cast.js";
import { h, render } from "./dom.js";
import { clock, duration, words } from "./format.js";
import { addMessage, drawMessages } from "./messages.js";
import { Screen } from "./screen.js";
import { explain } from "./ui.js";

/** With "Skip pauses", the longest pause in seconds. */
const LONGEST_PAUSE = 1;

/** Seconds that are shown before a marker. */
const LEAD = 0.2;

/** Milliseconds between two pictures. */
const FRAME = 40;

/** Return the element that plays a recording; with `request`, from its first marker on. */
export function player(recording, request = null) {
  return h("div", {
    key: `player ${recording.name} ${request}`,
    class: "player",
    mount(host) {
      const instance =
        recording.format === "asciicast"
          ? new CastPlayer(host, request)
          : new FramesPlayer(host, request);
      load(recording, instance, host);
      return () => instance.close();
    },
  });
}

async function load(recording, instance, host) {
  render(host, h("p", { class: "empty" }, "Loading the recording."));
  try {
    const response = await send("GET", `recordings/${encodeURIComponent(recording.name)}`, {
      headers: { accept: "*/*" },
    });
    instance.open(await response.text());
  } catch (error) {
    render(host, h("p", { class: "action-error", role: "alert" }, explain(error)));
  }
}

/** Play the recording of a terminal. */
class CastPlayer {
  constructor(host, request) {
    this.host = host;
    this.request = request;
    this.position = 0;
    this.next = 0;
    this.speed = 1;
    this.skips = true;
    this.timer = null;
  }

  open(text) {
    if (this.closed) return;
    this.cast = parseCast(text);
    this.markers = this.cast.markers.filter((marker) => this.isShown(marker));
    this.draw();
    this.screen = new Screen(this.place);
    this.screen.ready.catch((error) =>
      render(this.host, h("p", { class: "empty" }, error.message)),
    );
    const mine = this.cast.markers.filter(({ request }) => request === this.request);
    this.begin = Math.max(0, (mine[0]?.at ?? 0) - LEAD);
    this.end = mine.length > 1 ? mine.at(-1).at : this.cast.duration;
    this.seek(this.begin);
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) this.play();
    else this.seek(this.end);
  }

  /** Return whether a marker is listed: all of a request, or where each request begins. */
  isShown({ kind, request }) {
    if (this.request !== null) return request === this.request;
    return !["answered", "ended", "retry"].includes(kind);
  }

  /** Show the terminal as it was at `position`. */
  seek(position) {
    const { columns, rows } = this.cast;
    this.position = Math.min(Math.max(position, 0), this.cast.duration);
    this.next = 0;
    this.screen.reset(columns, rows);
    this.advance();
    this.draw();
  }

  /** Write the events up to the position. */
  advance() {
    let data = "";
    const { events } = this.cast;
    for (; this.next < events.length && events[this.next].at <= this.position; this.next += 1) {
      const event = events[this.next];
      if (event.code === "o") data += event.data;
      else if (event.code === "r") {
        if (data !== "") this.screen.write(data);
        data = "";
        this.screen.resize(...event.data.split("x").map(Number));
      }
    }
    if (data !== "") this.screen.write(data);
  }

  play() {
    if (this.position >= this.cast.duration) this.seek(this.begin);
    let last = performance.now();
    this.timer = setInterval(() => {
      const now = performance.now();
      this.position += ((now - last) / 1000) * this.speed;
      last = now;
      const upcoming = this.cast.events[this.next];
      if (this.skips && upcoming !== undefined && upcoming.at - this.position > LONGEST_PAUSE) {
        this.position = upcoming.at - LONGEST_PAUSE;
      }
      if (this.position >= this.end && this.position - this.end < 1) {
        this.position = this.end;
        this.advance();
        this.pause();
        return;
      }
      this.advance();
      if (this.next >= this.cast.events.length) {
        this.position = this.cast.duration;
        this.pause();
      }
      this.draw();
    }, FRAME);
    this.draw();
  }

  pause() {
    clearInterval(this.timer);
    this.timer = null;
    this.draw();
  }

  draw() {
    const { duration: length } = this.cast;
    const markers = this.markers;
    const playing = this.timer !== null;
    render(
      this.host,
      h("div", {
        key: "screen",
        class: "screen",
        tabindex: 0,
        role: "group",
        "aria-label": "Recorded terminal",
        mount: (place) => {
          this.place = place;
        },
      }),
      h(
        "div",
        { key: "controls", class: "player-controls" },
        h(
          "button",
          {
            type: "button",
            class: "button small",
            "data-action": "play",
            onclick: () => (playing ? this.pause() : this.play()),
          },
          playing ? "Pause" : "Play",
        ),
        h("input", {
          type: "range",
          min: 0,
          max: Math.max(length, 0.01),
          step: 0.01,
          value: String(this.position),
          "aria-label": "Position",
          "aria-valuetext": `${duration(this.position)} of ${duration(length)}`,
          oninput: (event) => {
            if (playing) this.pause();
            this.seek(Number(event.currentTarget.value));
          },
        }),
        h("span", { class: "clock" }, `${clock(this.position)} / ${clock(length)}`),
        h(
          "select",
          {
            "aria-label": "Speed",
            onchange: (event) => {
              this.speed = Number(event.currentTarget.value);
            },
          },
          [
            ["0.5", "½×"],
            ["1", "1×"],
            ["2", "2×"],
            ["5", "5×"],
          ].map(([value, label]) => h("option", { value, selected: value === "1" }, label)),
        ),
        h(
          "label",
          { class: "check" },
          h("input", {
            type: "checkbox",
            checked: this.skips,
            onchange: (event) => {
              this.skips = event.currentTarget.checked;
            },
          }),
          "Skip pauses",
        ),
      ),
      markers.length === 0
        ? null
        : h(
            "ol",
            { key: "markers", class: "markers", "aria-label": "Markers" },
            markers.map(({ at, kind, request, label }, index) =>
              h(
                "li",
                { key: index, class: request !== null && request === this.request ? "mine" : null },
                h(
                  "button",
                  { type: "button", class: "link", title: label, onclick: () => this.seek(at) },
                  h("span", { class: "clock" }, clock(at)),
                  " ",
                  this.request === null && request !== null
                    ? h("code", null, request.slice(0, 8))
                    : words(kind),
                ),
              ),
            ),
          ),
    );
  }

  close() {
    this.closed = true;
    clearInterval(this.timer);
    this.screen?.close();
  }
}

/** Show the recorded messages of an agent that speaks a protocol. */
class FramesPlayer {
  constructor(host, request) {
    this.host = host;
    this.request = request;
  }

  open(text) {
    const shown = parseFrames(text).filter(
      ({ request }) => this.request === null || request === this.request,
    );
    const messages = shown.reduce((list, { message }) => addMessage(list, message), []);
    render(
      this.host,
      h("div", {
        class: "messages",
        tabindex: 0,
        role: "group",
        "aria-label": "Recorded messages",
        mount: (place) => drawMessages(place, messages),
      }),
    );
  }

  close() {}
}
