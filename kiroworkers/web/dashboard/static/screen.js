/**
 * Draw the screen of a terminal with xterm.js.
 */

import { h, render } from "./dom.js";

const FONT =
  'ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace';

const THEME = {
  background: "#0d1117",
  foreground: "#d7dde5",
  cursor: "#7aa2ff",
  cursorAccent: "#0d1117",
  selectionBackground: "#2b4a80",
  black: "#3b4351",
  red: "#ff7b72",
  green: "#4ecb8b",
  yellow: "#e3b341",
  blue: "#7aa2ff",
  magenta: "#c297ff",
  cyan: "#56c8d8",
  white: "#d7dde5",
  brightBlack: "#7d8896",
  brightRed: "#ffa198",
  brightGreen: "#7ee2ab",
  brightYellow: "#f0cf72",
  brightBlue: "#a5c2ff",
  brightMagenta: "#d8bcff",
  brightCyan: "#8be0ec",
  brightWhite: "#f4f7fa",
};

/** The sizes of the font in pixels: below the least, lines are wrapped instead. */
const [LEAST, LARGEST] = [8, 14];

let loading = null;

/** Load xterm.js, which only a page with a terminal needs. */
function loadXterm() {
  loading ??= new Promise((resolve, reject) => {
    const style = document.createElement("link");
    style.rel = "stylesheet";
    style.href = new URL("./xterm.css", import.meta.url).href;
    const script = document.createElement("script");
    script.src = new URL("./xterm.js", import.meta.url).href;
    script.onload = () => {
      allowStyles();
      resolve(globalThis.Terminal);
    };
    script.onerror = () => {
      loading = null;
      script.remove();
      style.remove();
      reject(
        new Error("Terminals cannot be shown: the server does not have the files of xterm.js."),
      );
    };
    document.head.append(style, script);
  });
  return loading;
}

/**
 * Let xterm.js set the colours of its spans.
 *
 * It sets style attributes, which the Content Security Policy of the page forbids, on elements
 * that it makes in the document itself.  Properties that a script sets are allowed.
 */
function allowStyles() {
  HTMLSpanElement.prototype.setAttribute = function setAttribute(name, value) {
    if (name === "style") this.style.cssText = value;
    else Element.prototype.setAttribute.call(this, name, value);
  };
}

/**
 * Return a document for xterm.js whose style elements are constructed style sheets, which the
 * Content Security Policy allows.
 */
function policyDocument() {
  const createElement = (tag) => {
    const element = document.createElement(tag === "style" ? "template" : tag);
    if (tag === "style") adoptStyle(element);
    return element;
  };
  return new Proxy(document, {
    get(target, name) {
      if (name === "createElement") return createElement;
      const value = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

function adoptStyle(element) {
  const sheet = new CSSStyleSheet();
  document.adoptedStyleSheets.push(sheet);
  Object.defineProperty(element, "textContent", { set: (text) => sheet.replaceSync(text) });
  element.remove = () => {
    const sheets = document.adoptedStyleSheets;
    const place = sheets.indexOf(sheet);
    if (place !== -1) sheets.splice(place, 1);
    Element.prototype.remove.call(element);
  };
}

/** Return the width of a character, as a share of the size of the font. */
function characterWidth() {
  const context = document.createElement("canvas").getContext("2d");
  context.font = `100px ${FONT}`;
  return context.measureText("W").width / 100;
}

/**
 * Show a terminal of a given size in `host`.
 *
 * The font is as small as it must be for all columns to fit.  A terminal that is much wider, as
 * those of agents are that should not break lines, is shown with its lines wrapped.  Rows below
 * the last one with text are left out.
 */
export class Screen {
  constructor(host) {
    this.host = host;
    this.terminal = null;
    this.queue = [];
    this.asText = false;
    this.observer = new ResizeObserver(() => this.fit());
    this.observer.observe(host);
    this.ready = loadXterm().then((Terminal) => this.open(Terminal));
  }

  open(Terminal) {
    if (this.closed) return;
    const terminal = new Terminal({
      cols: 80,
      rows: 24,
      scrollback: 0,
      disableStdin: true,
      cursorInactiveStyle: "outline",
      documentOverride: policyDocument(),
      fontFamily: FONT,
      fontSize: 13,
      lineHeight: 1.2,
      minimumContrastRatio: 4.5,
      theme: THEME,
    });
    this.box = document.createElement("div");
    this.box.className = "screen-box";
    this.box.setAttribute("aria-hidden", "true");
    // The text is there for people who do not see the drawing.
    this.text = document.createElement("pre");
    this.text.className = "screen-text unseen";
    this.host.append(this.box, this.text);
    terminal.open(this.box);
    terminal.textarea.tabIndex = -1;
    terminal.textarea.disabled = true;
    terminal.onRender(() => this.crop());
    // Nothing is drawn outside the window, but its text is there.
    terminal.onWriteParsed(() => this.crop());
    this.terminal = terminal;
    const queue = this.queue;
    this.queue = null;
    for (const run of queue) run();
    this.fit();
  }

  /** Run `action` when xterm.js is there. */
  later(action) {
    if (this.queue === null) action();
    else this.queue.push(action);
  }

  /** Replace everything. */
  reset(columns, rows) {
    this.later(() => {
      this.terminal.reset();
      this.resize(columns, rows);
    });
  }

  resize(columns, rows) {
    this.later(() => {
      this.terminal.resize(columns, rows);
      this.fit();
    });
  }

  /** Write what the program has written; call `done` when it is drawn. */
  write(data, done) {
    this.later(() => this.terminal.write(data, done));
  }

  fit() {
    if (this.terminal === null) return;
    const available = this.host.clientWidth - 24;
    if (available <= 0) return;
    const size = available / (this.terminal.cols * characterWidth());
    const wrapped = size < LEAST;
    this.box.classList.toggle("wrapped", wrapped);
    const font = wrapped ? 13 : Math.min(LARGEST, Math.floor(size * 4) / 4);
    if (this.terminal.options.fontSize !== font) this.terminal.options.fontSize = font;
    this.crop();
  }

  /** Leave out the empty rows at the end, and keep the last one in view. */
  crop() {
    if (this.terminal === null) return;
    const { buffer, rows } = this.terminal;
    const { active } = buffer;
    let used = active.cursorY;
    for (let row = rows - 1; row > used; row -= 1) {
      if (active.getLine(active.baseY + row)?.translateToString(true)) used = row;
    }
    const atEnd = this.host.scrollHeight - this.host.scrollTop - this.host.clientHeight < 40;
    const elements = this.box.querySelector(".xterm-rows").children;
    for (let row = 0; row < elements.length; row += 1) elements[row].hidden = row > used;
    if (atEnd || this.follows !== false) this.host.scrollTop = this.host.scrollHeight;
    clearTimeout(this.textTimer);
    this.textTimer = setTimeout(() => (this.text.textContent = this.lines(used)), 300);
  }

  lines(used) {
    const { active } = this.terminal.buffer;
    const lines = [];
    for (let row = 0; row <= used; row += 1) {
      lines.push(active.getLine(active.baseY + row)?.translateToString(true) ?? "");
    }
    return lines.join("\n").trimEnd();
  }

  close() {
    this.closed = true;
    clearTimeout(this.textTimer);
    this.observer.disconnect();
    const { terminal } = this;
    this.terminal = null;
    this.queue = [];
    // xterm.js has timers of its own that fail after its end.
    setTimeout(() => terminal?.dispose(), 250);
  }
}

/** Return the element for a screen; `start(screen)` may return what is called at its end. */
export function screenBox(label, start, key = label) {
  return h("div", {
    key,
    class: "screen",
    tabindex: 0,
    role: "group",
    "aria-label": label,
    mount(host) {
      const screen = new Screen(host);
      screen.ready.catch((error) => render(host, h("p", { class: "empty" }, error.message)));
      const stop = start(screen);
      return () => {
        stop?.();
        screen.close();
      };
    },
  });
}
