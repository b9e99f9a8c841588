/**
 * Exchange a token for a session, which the browser keeps in a cookie that scripts cannot read.
 */

import { json } from "./api.js";
import { h } from "./dom.js";
import { explain, invalidate } from "./ui.js";

let [failure, pending] = [null, false];

/** Return the form; `onSignedIn(session)` is called after success. */
export function signIn(onSignedIn) {
  return h(
    "section",
    { class: "sign-in", "aria-labelledby": "sign-in-heading" },
    h("h1", { id: "sign-in-heading" }, "Sign in"),
    h(
      "p",
      { class: "lead" },
      "This server requires a token. The page exchanges it for a session of at most 12 hours, and does not keep it.",
    ),
    h(
      "form",
      {
        class: "form",
        onsubmit: async (event) => {
          event.preventDefault();
          if (pending) return;
          const input = event.currentTarget.elements.token;
          [pending, failure] = [true, null];
          invalidate();
          try {
            const session = await json("POST", "session", { body: { token: input.value.trim() } });
            input.value = "";
            onSignedIn(session);
          } catch (error) {
            failure = explain(error);
            input.select();
          }
          pending = false;
          invalidate();
        },
      },
      h("label", { for: "token" }, "Token"),
      h("input", {
        id: "token",
        name: "token",
        type: "password",
        required: true,
        autocomplete: "current-password",
        spellcheck: "false",
        "aria-invalid": failure === null ? null : "true",
        "aria-describedby": failure === null ? null : "token-error",
        mount: (element) => element.focus(),
      }),
      failure === null
        ? null
        : h("p", { id: "token-error", class: "field-error", role: "alert" }, failure),
      h(
        "button",
        {
          type: "submit",
          class: "button primary",
          "aria-busy": pending ? "true" : null,
          "data-action": "sign-in",
        },
        "Sign in",
      ),
    ),
    h(
      "p",
      { class: "hint" },
      "Requests from programs send the token in the Authorization header; see ",
      h("a", { href: "docs" }, "the documentation of the API"),
      ".",
    ),
  );
}
