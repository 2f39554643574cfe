// Replaces the drawn channels by zoomable ones (uPlot). Data: {offset_s, words, traces: [{channel, unit, limit, t, v, marks, flagged}]}.
const COLOURS = {
  F: "#5b6770", M: "#2f6fb2", S: "#7a3e9d", D: "#b3261e", C: "#1f8a70", T: "#d9480f", B: "#8a6d3b", H: "#d19a00", R: "#a83279", X: "#8b959b",
};
const HEIGHT = 170;

function paint(trace, data) {
  return {
    drawClear: (plot) => {
      const { ctx, bbox } = plot;
      ctx.save();
      ctx.beginPath();
      ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
      ctx.clip();
      ctx.fillStyle = "rgba(243, 201, 105, 0.28)";
      for (const [from, to] of trace.flagged) {
        const left = plot.valToPos(from, "x", true);
        ctx.fillRect(left, bbox.top, Math.max(plot.valToPos(to, "x", true) - left, 2), bbox.height);
      }
      ctx.restore();
    },
    draw: (plot) => {
      const { ctx, bbox } = plot;
      ctx.save();
      ctx.beginPath();
      ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
      ctx.clip();
      const ratio = devicePixelRatio || 1;
      if (trace.limit !== null) {
        const y = plot.valToPos(trace.limit, "y", true);
        ctx.strokeStyle = "#9c1c1c";
        ctx.setLineDash([6 * ratio, 4 * ratio]);
        ctx.lineWidth = ratio;
        ctx.beginPath();
        ctx.moveTo(bbox.left, y);
        ctx.lineTo(bbox.left + bbox.width, y);
        ctx.stroke();
        ctx.fillStyle = "#9c1c1c";
        ctx.font = `${11 * ratio}px system-ui, sans-serif`;
        ctx.textAlign = "right";
        ctx.fillText(`${data.words.limit} ${trace.limit}`, bbox.left + bbox.width - 4 * ratio, y + (y - bbox.top < 16 * ratio ? 13 : -4) * ratio);
      }
      for (const [from, to, letter] of trace.marks) {
        ctx.fillStyle = COLOURS[letter] || "#888";
        const left = plot.valToPos(from, "x", true);
        ctx.fillRect(left, bbox.top + bbox.height - 5 * ratio, Math.max(plot.valToPos(to, "x", true) - left, 1.5), 5 * ratio);
      }
      ctx.restore();
    },
  };
}

function range(trace) {
  return (_plot, low, high) => {
    if (low === null) return [0, 1];
    let top = high;
    if (trace.limit !== null && trace.limit < 3 * high) top = Math.max(high, trace.limit);
    const bottom = low >= 0 && low < 0.5 * top ? 0 : low - 0.08 * (top - low || Math.abs(top) || 1);
    return [bottom, top + 0.06 * (top - bottom || 1)];
  };
}

function draw(figure, trace, data, sync) {
  const width = figure.clientWidth - 20;
  const shift = data.offset_s;
  const options = {
    width,
    height: HEIGHT,
    title: `${trace.channel} · ${trace.unit}`,
    // The station's clock, not the browser's: times arrive as UTC and are shown with the station's fixed offset.
    tzDate: (seconds) => uPlot.tzDate(new Date((seconds + shift) * 1e3), "UTC"),
    cursor: { sync: { key: sync.key }, drag: { x: true, y: false } },
    scales: { y: { range: range(trace) } },
    axes: [{ stroke: "#5a646a", grid: { stroke: "#eff0ec" }, values: data.axis }, { stroke: "#5a646a", grid: { stroke: "#e4e6e2" }, size: 58, space: 22 }],
    series: [
      { label: data.words.time, value: "{YYYY}-{MM}-{DD} {HH}:{mm}" },
      { label: trace.channel, stroke: "#0b5a6f", width: 1.4, points: { show: false }, value: (_u, v) => (v === null ? "—" : `${v} ${trace.unit}`) },
    ],
    hooks: {},
  };
  const { drawClear, draw: over } = paint(trace, data);
  options.hooks = {
    drawClear: [drawClear],
    draw: [over],
    setScale: [(plot, key) => key === "x" && sync.zoom(plot)],
  };
  const picture = figure.querySelector("svg");
  const plot = new uPlot(options, [trace.t, trace.v], figure);
  plot.root.setAttribute("role", "img");
  plot.root.setAttribute("aria-label", picture.querySelector("title").textContent);
  // Kept in the page for print; the screen shows the live one.
  picture.classList.add("print-only");
  return plot;
}

export function drawTraces(data) {
  const hour = 3600;
  data.axis = [
    [86400, "{MM}-{DD}", "\n{YYYY}", null, null, null, null, null, 1],
    [hour, "{HH}:{mm}", "\n{MM}-{DD}", null, "\n{MM}-{DD}", null, null, null, 1],
    [60, "{HH}:{mm}", "\n{MM}-{DD}", null, "\n{MM}-{DD}", null, null, null, 1],
    [1, "{HH}:{mm}:{ss}", "\n{MM}-{DD}", null, "\n{MM}-{DD}", null, null, null, 1],
  ];
  const plots = [];
  const sync = {
    key: "traces",
    busy: false,
    zoom(source) {
      if (sync.busy) return;
      sync.busy = true;
      const { min, max } = source.scales.x;
      for (const plot of plots) if (plot !== source) plot.setScale("x", { min, max });
      sync.busy = false;
    },
  };
  for (const figure of document.querySelectorAll("[data-trace]")) {
    plots.push(draw(figure, data.traces[Number(figure.dataset.trace)], data, sync));
  }
  addEventListener("resize", () => {
    for (const plot of plots) plot.setSize({ width: plot.root.parentElement.clientWidth - 20, height: HEIGHT });
  });
}
