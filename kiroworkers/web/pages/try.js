"use strict";

/* Sends what stands in a form of the page, and shows what came back. */

const TOLD = ["X-Kiroworkers-Agent", "X-Kiroworkers-Worker", "X-Kiroworkers-Attempts"];

function request(form) {
  const headers = { "Content-Type": "application/json" };
  const token = document.getElementById("token");
  if (token !== null && token.value !== "") {
    headers.Authorization = `Bearer ${token.value}`;
  }
  const method = form.dataset.method.toUpperCase();
  const body = form.querySelector("textarea").value;
  // Relative to the page: a proxy may have it below a path of its own.
  return fetch(form.dataset.path.slice(1), { method, headers, body });
}

function shown(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

async function send(form) {
  const outcome = form.querySelector(".outcome");
  const answer = form.querySelector(".answer");
  const button = form.querySelector("button");
  const began = performance.now();
  button.disabled = true;
  outcome.textContent = "waiting for an answer";
  try {
    const response = await request(form);
    answer.textContent = shown(await response.text());
    const seconds = ((performance.now() - began) / 1000).toFixed(2);
    const told = TOLD.map((name) => response.headers.get(name)).filter((each) => each !== null);
    const [agent, worker, attempts] = told;
    const who = agent === undefined ? "" : ` by ${agent}${worker ? `, ${worker}` : ""}`;
    const tries = attempts > 1 ? `, ${attempts} attempts` : "";
    outcome.textContent = `${response.status} in ${seconds} s${who}${tries}`;
  } catch (problem) {
    answer.textContent = "";
    outcome.textContent = `no response: ${problem.message}`;
  } finally {
    answer.hidden = answer.textContent === "";
    button.disabled = false;
  }
}

for (const form of document.querySelectorAll("form.try")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(form);
  });
}
