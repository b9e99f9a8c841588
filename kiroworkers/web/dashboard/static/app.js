/**
 * Show what the server is doing, and control it.
 *
 * The fragment of the address chooses the view, such as `#/requests/ID`.  Each change of the feed,
 * and each second, draws the page again; only what differs is changed in the document.
 */

import { json, send } from "./api.js";
import { h, render } from "./dom.js";
import { span } from "./format.js";
import { Feed } from "./feed.js";
import { overview } from "./overview.js";
import { recordingsView } from "./recordings.js";
import { requestView } from "./request.js";
import { requestsView } from "./requests.js";
import { signIn } from "./sign-in.js";
import { isAsking, tasks } from "./tasks.js";
import { announce, explain, invalidate, notice, onInvalidate, panel } from "./ui.js";
import { workerView } from "./worker.js";

/** The views by the first part of the route; a second part may choose another. */
const VIEWS = {
  "": () => overview,
  tasks: () => tasks,
  requests: (argument) => (argument === undefined ? requestsView : requestView),
  workers: () => workerView,
  recordings: () => recordingsView,
};

const NAVIGATION = [
  ["", "Overview", "o"],
  ["tasks", "Tasks", "t"],
  ["requests", "Requests", "r"],
  ["recordings", "Recordings", "e"],
];

const app = document.getElementById("app");

let session = null;
let failure = null;
let drawing = false;
let lastStatus = null;

const feed = new Feed(draw, start);
let route = readRoute();

function readRoute() {
  const parts = location.hash.replace(/^#\/?/, "").split("/");
  const decode = (part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  };
  const [name, argument] = parts.map(decode);
  return { name: name in VIEWS ? name : "", argument: argument || undefined };
}

function context() {
  return { feed, session, operator: Boolean(session?.operator && (feed.state?.operator ?? true)) };
}

function currentView() {
  return VIEWS[route.name](route.argument);
}

/** Find out who is signed in, and follow the feed if that is allowed. */
async function start() {
  try {
    session = await json("GET", "session");
    failure = null;
  } catch (error) {
    failure = explain(error);
    feed.lose();
    setTimeout(start, 2000);
    return;
  }
  if (mayWatch()) {
    feed.open();
    enter();
  } else feed.close();
  draw();
}

function mayWatch() {
  return (
    session !== null &&
    (!session.needsToken ||
      (session.signedIn &&
        session.scopes.some((scope) => scope === "watch" || scope === "operate")))
  );
}

function enter() {
  if (mayWatch()) currentView().enter?.(context(), route.argument);
}

/** Draw soon: several changes at once are drawn once. */
function draw() {
  if (drawing) return;
  drawing = true;
  setTimeout(() => {
    drawing = false;
    reportStatus();
    render(app, page());
  });
}

function reportStatus() {
  if (feed.status === lastStatus) return;
  if (feed.status === "lost") announce("The connection to the server is lost. Reconnecting.");
  else if (lastStatus === "lost" && feed.live) announce("Connected to the server again.");
  lastStatus = feed.status;
}

function page() {
  const signedOut = session !== null && session.needsToken && !session.signedIn;
  return [
    header(signedOut),
    h(
      "main",
      {
        key: "main",
        id: "main",
        tabindex: -1,
        class: `view ${feed.live || signedOut ? "" : "not-live"}`,
      },
      signedOut ? signIn(signedIn) : [notices(), content()],
    ),
    footer(signedOut),
  ];
}

function signedIn(value) {
  session = value;
  announce(`Signed in as ${session.name ?? "an operator"}`);
  if (mayWatch()) {
    feed.open();
    enter();
  }
  draw();
}

async function signOut() {
  try {
    await send("DELETE", "session");
  } finally {
    feed.close();
    feed.state = null;
    location.reload();
  }
}

function content() {
  if (session !== null && !mayWatch()) {
    return panel(
      "Not allowed",
      {},
      h(
        "p",
        { class: "empty" },
        "Your token does not have the scope “watch”, which this page requires.",
      ),
    );
  }
  if (feed.state === null) {
    return h("p", { class: "loading" }, failure ?? "Connecting to the server.");
  }
  const name = `view ${route.name} ${route.argument ?? ""}`;
  const view = currentView();
  return h(
    "div",
    { key: name, class: "view-content", "data-view": route.name },
    view.hasHeading
      ? null
      : h("h1", { class: "unseen" }, view.title, route.argument ? ` ${route.argument}` : null),
    view.draw(context(), route.argument),
  );
}

function header(signedOut) {
  const { state } = feed;
  const view = route.name;
  return h(
    "header",
    { key: "header", class: "top" },
    h(
      "a",
      { class: "brand", href: "#/" },
      h(
        "span",
        { class: "logo", "aria-hidden": "true" },
        h("span", null, "›"),
        h("span", null, "_"),
      ),
      h("span", { class: "brand-name" }, "kiroworkers"),
      state === null ? null : h("span", { class: "version" }, state.version),
    ),
    signedOut
      ? null
      : h(
          "nav",
          { class: "main-nav", "aria-label": "Views" },
          NAVIGATION.filter(([name]) => name !== "recordings" || context().operator).map(
            ([name, label, key]) =>
              h(
                "a",
                {
                  key: name,
                  href: `#/${name}`,
                  accesskey: key,
                  "aria-current": name === view ? "page" : null,
                  class: name === "tasks" && isAsking() ? "active-work" : null,
                },
                label,
              ),
          ),
          h("a", { href: "docs" }, "API"),
        ),
    h("div", { class: "top-right" }, signedOut ? null : connection(), account()),
  );
}

function connection() {
  const age = feed.heardAt === null ? null : (Date.now() - feed.heardAt) / 1000;
  const [tone, label] = {
    live: ["ok", "Live"],
    lost: ["bad", `Reconnecting, last heard ${span(age)} ago`],
    connecting: ["warn", "Connecting"],
  }[feed.status];
  return h(
    "span",
    { key: "connection", class: `chip feed ${tone}`, "data-feed": feed.status },
    h("span", { class: "dot" }),
    label,
  );
}

function account() {
  if (!session?.signedIn || !session.needsToken) return null;
  return h(
    "span",
    { key: "account", class: "account" },
    h("span", { class: "name" }, session.name),
    h(
      "button",
      { type: "button", class: "button small", "data-action": "sign-out", onclick: signOut },
      "Sign out",
    ),
  );
}

function notices() {
  const { state } = feed;
  const shown = [];
  if (feed.status === "lost") {
    shown.push(
      notice(
        "bad",
        "lost",
        h("strong", null, "The connection to the server is lost."),
        " What you see is what was last known; the page reconnects by itself.",
      ),
    );
  }
  if (state !== null && "offline" in state.agents && ["", "tasks"].includes(route.name)) {
    shown.push(
      notice(
        "info",
        "offline",
        h("strong", null, "The offline agent answers."),
        " It is not Kiro: it works by rules, and answers with samples where it has none.",
      ),
    );
  }
  return shown.length === 0 ? null : h("div", { key: "notices", class: "notices" }, shown);
}

function footer(signedOut) {
  return h(
    "footer",
    { key: "footer", class: "bottom" },
    h("span", null, signedOut ? null : keys()),
    h("span", null, h("a", { href: "docs" }, "API"), h("a", { href: "health" }, "Health")),
  );
}

/** Return the help about the access keys, which work as the browser has them. */
function keys() {
  const views = NAVIGATION.map(([, label, key]) => [
    h("kbd", null, key.toUpperCase()),
    ` ${label.toLowerCase()} `,
  ]);
  return [
    h("kbd", null, "Alt"),
    " (Firefox: ",
    h("kbd", null, "Alt"),
    " ",
    h("kbd", null, "Shift"),
    ") and ",
    views,
  ];
}

addEventListener("hashchange", () => {
  route = readRoute();
  document.title = `${currentView().title} · kiroworkers`;
  enter();
  render(app, page());
  scrollTo(0, 0);
  document.getElementById("main").focus({ preventScroll: true });
});

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("main").focus();
});

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) draw();
});

onInvalidate(draw);
setInterval(() => {
  feed.check();
  if (!document.hidden) invalidate();
}, 1000);
document.title = `${currentView().title} · kiroworkers`;
draw();
start();
