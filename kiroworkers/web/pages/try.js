"use strict";

/* Send a form's text to the server as JSON, and show the response below the form. */

const WAITING = "Waiting for the response…";

function sendRequest(form) {
  const headers = { "Content-Type": "application/json" };
  const token = document.getElementById("token");
  if (token !== null && token.value !== "") {
    headers.Authorization = `Bearer ${token.value}`;
  }
  const method = form.dataset.method.toUpperCase();
  const body = form.querySelector("textarea").value;
  // Relative to the page, because a proxy may serve both below another path.
  return fetch(form.dataset.path.slice(1), { method, headers, body });
}

function prettyPrinted(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

async function tryOperation(form) {
  const outcome = form.querySelector(".outcome");
  const answer = form.querySelector(".answer");
  const button = form.querySelector("button");
  const started = performance.now();
  button.disabled = true;
  outcome.textContent = WAITING;
  try {
    const response = await sendRequest(form);
    answer.textContent = prettyPrinted(await response.text());
    const seconds = ((performance.now() - started) / 1000).toFixed(2);
    const header = (name) => response.headers.get(`X-Kiroworkers-${name}`);
    const agent = header("Agent");
    const worker = header("Worker");
    const attempts = header("Attempts");
    const source = agent === null ? "" : ` from ${agent}${worker === null ? "" : `, ${worker}`}`;
    const retries = attempts > 1 ? `, ${attempts} attempts` : "";
    outcome.textContent = `${response.status} in ${seconds} s${source}${retries}`;
  } catch (error) {
    answer.textContent = "";
    outcome.textContent = `No response: ${error.message}`;
  } finally {
    answer.hidden = answer.textContent === "";
    button.disabled = false;
  }
}

for (const form of document.querySelectorAll("form.try")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    tryOperation(form);
  });
}
