// What the pages do beyond what they say: times in the reader's zone, charts, and parts that are
// asked for again when something was stored. Each page works without.
"use strict";
(() => {
  const zone = new Intl.DateTimeFormat(undefined, {
    hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short",
  });
  const hour = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const dated = new Intl.DateTimeFormat(undefined, {
    month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit",
    timeZoneName: "short",
  });

  function localTimes(root) {
    for (const element of root.querySelectorAll("time[datetime]")) {
      const at = new Date(element.getAttribute("datetime"));
      if (Number.isNaN(at.getTime()) || element.querySelector(".zone")) continue;
      if (at.getTimezoneOffset() === 0) continue;
      const local = document.createElement("span");
      local.className = "zone";
      const sameDay = at.getDate() === at.getUTCDate();
      local.textContent = ` (${(sameDay ? zone : dated).format(at)})`;
      element.append(local);
    }
  }

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function charts(root) {
    if (typeof uPlot === "undefined") return;
    for (const element of root.querySelectorAll(".chart[data-chart]")) {
      const said = JSON.parse(element.dataset.chart);
      const strokes = ["--bar", "--muted", "--wait"];
      const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 } };
      element.replaceChildren();
      const plot = new uPlot({
        width: Math.max(240, element.clientWidth),
        height: 220,
        series: [{ value: (u, at) => (at == null ? "--" : dated.format(new Date(at * 1000))) }, ...said.names.map((label, place) => ({
          label,
          stroke: colour(strokes[place % strokes.length]),
          width: place ? 1 : 2,
          dash: place ? [4, 4] : undefined,
          spanGaps: false,
          points: { show: true, size: 4 },
        }))],
        axes: [{ ...axis, values: (u, splits) => splits.map((at) => hour.format(new Date(at * 1000))) }, { ...axis, size: 60 }],
        scales: said.percent ? { y: { range: [0, 100] } } : { y: { range: (u, low, high) => [0, Math.max(1, high * 1.1)] } },
      }, said.data, element);
      new ResizeObserver(() => {
        const width = Math.max(240, element.clientWidth);
        if (width !== plot.width) plot.setSize({ width, height: 220 });
      }).observe(element);
      const fallback = element.parentElement.querySelector("svg.bars");
      if (fallback) fallback.setAttribute("hidden", "");
    }
  }

  function confirmations() {
    document.addEventListener("submit", (event) => {
      const words = event.submitter?.dataset.confirm;
      if (words && !window.confirm(words)) event.preventDefault();
    });
  }

  function copies() {
    document.addEventListener("click", async (event) => {
      const button = event.target.closest("button[data-copy]");
      if (!button || !navigator.clipboard) return;
      await navigator.clipboard.writeText(button.dataset.copy);
      button.textContent = "copied";
    });
    if (navigator.clipboard) {
      for (const button of document.querySelectorAll("button[data-copy]")) button.hidden = false;
    }
  }

  function live() {
    const button = document.getElementById("live");
    if (!button || typeof EventSource === "undefined") return;
    let source = null;
    let wanted = false;
    let busy = false;
    let rest = 0;

    async function refresh() {
      if (busy || document.hidden || !source) { wanted = true; return; }
      busy = true;
      wanted = false;
      const began = performance.now();
      try {
        const answer = await fetch(location.href, { headers: { "X-Receiptd-Live": "1" } });
        if (answer.status === 401) { location.reload(); return; }
        if (answer.ok) {
          const page = new DOMParser().parseFromString(await answer.text(), "text/html");
          for (const part of document.querySelectorAll("[data-part]")) {
            // Nothing is taken from under somebody's hands.
            if (part.contains(document.activeElement) || part.querySelector("details[open]")) continue;
            const found = page.querySelector(`[data-part="${part.dataset.part}"]`);
            if (!found || found.isEqualNode(part.original ?? part)) continue;
            const replacement = document.importNode(found, true);
            replacement.original = found;
            part.replaceWith(replacement);
            localTimes(replacement);
            charts(replacement);
          }
        }
      } catch { /* the server is away: the next event, or the next try, will tell */ }
      // The slower the server, the longer the rest.
      rest = Math.max(2000, 10 * (performance.now() - began));
      setTimeout(() => { busy = false; if (wanted) refresh(); }, rest);
    }

    function start() {
      source = new EventSource("/console/live");
      source.addEventListener("stored", refresh);
      source.addEventListener("open", () => { button.textContent = "Live: on"; });
      source.addEventListener("error", () => { button.textContent = "Live: reconnecting"; });
      button.setAttribute("aria-pressed", "true");
      button.textContent = "Live: on";
    }

    function stop() {
      source.close();
      source = null;
      button.setAttribute("aria-pressed", "false");
      button.textContent = "Live: off";
    }

    button.hidden = false;
    button.addEventListener("click", () => (source ? stop() : start()));
    document.addEventListener("visibilitychange", () => { if (!document.hidden && wanted) refresh(); });
    window.addEventListener("pagehide", () => source?.close());
    start();
    setInterval(refresh, 30000); // what says how long ago something was
  }

  localTimes(document);
  charts(document);
  // Lines are drawn in the colours of the scheme.
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts(document));
  confirmations();
  copies();
  live();
})();
