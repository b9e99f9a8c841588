/**
 * Follow the state of the server through one stream of server-sent events.
 *
 * What the page shows is only as good as this stream, so its end is noticed: the browser reports
 * a closed connection, and a connection that is silent for longer than the server's samples of
 * the load allow counts as lost.
 */

/** Milliseconds without an event after which the state is not known any more. */
const SILENCE = 7000;

/** Milliseconds before a new connection after the browser gave up. */
const RETRY = 2000;

/** How many requests and samples are kept. */
const MAX_REQUESTS = 200;
const MAX_SAMPLES = 150;

export class Feed {
  constructor(onChange, onRefused) {
    this.onChange = onChange;
    this.onRefused = onRefused;
    this.status = "connecting";
    this.state = null;
    this.requests = new Map();
    this.samples = [];
    this.outages = [];
    this.offset = 0;
    this.heardAt = null;
  }

  open() {
    this.close();
    const source = new EventSource("watch");
    this.source = source;
    const listen = (name, apply) =>
      source.addEventListener(name, (event) => {
        this.heardAt = Date.now();
        this.status = "live";
        apply(JSON.parse(event.data));
        this.onChange();
      });
    listen("state", (state) => {
      this.state = state;
      this.offset = state.time - Date.now();
    });
    listen("request", (request) => this.addRequest(request));
    listen("load", (sample) => {
      this.samples = [...this.samples, sample].slice(-MAX_SAMPLES);
    });
    listen("loads", ({ samples }) => {
      this.samples = samples.slice(-MAX_SAMPLES);
    });
    listen("outages", ({ outages }) => {
      this.outages = outages;
    });
    source.onerror = () => {
      this.lose();
      if (source.readyState !== EventSource.CLOSED) return;
      // It responded with an error, so it would not try again by itself.
      this.timer = setTimeout(() => this.onRefused(), RETRY);
    };
  }

  close() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }

  lose() {
    this.status = this.state === null ? "connecting" : "lost";
    this.onChange();
  }

  /** Notice that nothing came for too long. */
  check() {
    const silent = this.heardAt !== null && Date.now() - this.heardAt > SILENCE;
    if (this.status !== "live" || !silent || document.hidden) return;
    this.lose();
    this.open();
  }

  addRequest(request) {
    const key = request.id ?? `${request.received} ${request.worker} ${request.task}`;
    this.requests.set(key, { ...request, key });
    if (this.requests.size > MAX_REQUESTS) {
      const [oldest] = [...this.requests.values()].sort((a, b) => a.received - b.received);
      this.requests.delete(oldest.key);
    }
  }

  /** Return the requests, newest first. */
  recent() {
    return [...this.requests.values()].sort((a, b) => b.received - a.received);
  }

  get live() {
    return this.status === "live";
  }

  /** Return the server's time in milliseconds; it stands still while the feed is lost. */
  now() {
    const now = this.live || this.heardAt === null ? Date.now() : this.heardAt;
    return now + this.offset;
  }

  /** Return the seconds since a time of the server's clock. */
  since(milliseconds) {
    return Math.max(0, (this.now() - milliseconds) / 1000);
  }
}
