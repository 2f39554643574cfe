// Enhances pages that already work without it: keys, zoomable charts, a progress line. Loaded as a module, so deferred.
import { listenToKeys } from "./keys.js";

document.documentElement.classList.add("js");
listenToKeys(document);

const traces = document.getElementById("traces");
if (traces && window.uPlot) {
  import("./traces.js").then(({ drawTraces }) => drawTraces(JSON.parse(traces.textContent)));
}
const job = document.querySelector("[data-export]");
if (job) import("./progress.js").then(({ follow }) => follow(job));
