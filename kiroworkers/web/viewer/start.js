"use strict";

/* Show the OpenAPI document with Swagger UI, which starts only from a script. */

const dark = matchMedia("(prefers-color-scheme: dark)");

function followSystem() {
  document.documentElement.classList.toggle("dark-mode", dark.matches);
}

followSystem();
dark.addEventListener("change", followSystem);

/* A proxy may serve the API below another path, which the document does not know. */
const base = new URL(".", location.href);
const behindPrefix = () => ({
  statePlugins: {
    spec: {
      wrapActions: {
        updateJsonSpec: (update) => (document) =>
          update(base.pathname === "/" ? document : { ...document, servers: [{ url: base.href }] }),
      },
    },
  },
});

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  plugins: [behindPrefix],
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  validatorUrl: null, // The validator is on another host.
});
