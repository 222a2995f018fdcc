// The live page. Other people's text is only ever set as text, never as markup.
"use strict";
(() => {
  const EVERY = 1000, SPAN = 600, MOST_ROWS = 500, MOST_KILLS = 50;
  const $ = (id) => document.getElementById(id);
  const state = { status: null, workers: [], ranking: [], kills: [], past: new Map(), domain: null, rounds: 0, killed: null };
  let chart = null;

  const hidden = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;
  const shown = (text) => String(text).replace(hidden, (c) => "\\u{" + c.codePointAt(0).toString(16) + "}");

  const element = (name, text, attributes = {}) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = shown(text);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };

  // Other people's text keeps its direction to itself.
  const foreign = (text) => element("bdi", text === null || text === undefined ? "-" : text);

  const cell = (content, attributes) => {
    const made = element("td", undefined, attributes);
    made.append(content instanceof Node ? content : shown(content));
    return made;
  };

  const size = (bytes) => {
    if (bytes === null || bytes === undefined) return "-";
    for (const [unit, power] of [["TiB", 40], ["GiB", 30], ["MiB", 20], ["KiB", 10]]) {
      const whole = bytes / 2 ** power;
      if (whole >= 1) return (Math.floor(whole * 10) / 10).toFixed(1) + " " + unit;
    }
    return bytes + " B";
  };

  const span = (seconds) => {
    if (seconds < 60) return Math.floor(seconds) + " s";
    if (seconds < 3600) return Math.floor(seconds / 60) + " min";
    if (seconds < 86400) return Math.floor(seconds / 3600) + " h " + Math.floor(seconds % 3600 / 60) + " min";
    return Math.floor(seconds / 86400) + " d " + Math.floor(seconds % 86400 / 3600) + " h";
  };

  const ask = async (path) => {
    const answer = await fetch(path, { cache: "no-store" });
    if (!answer.ok) throw new Error((await answer.text()).trim() || answer.statusText);
    return answer.json();
  };

  const remember = (status) => {
    for (const view of status.domains) {
      if (view.used === null || view.threshold === null) continue;
      const past = state.past.get(view.domain) || [];
      const at = view.read_at || status.now;
      if (!past.length || past[past.length - 1][0] < at) past.push([at, view.used, view.threshold]);
      while (past.length && status.now - past[0][0] > SPAN * 1e9) past.shift();
      state.past.set(view.domain, past);
    }
  };

  const round = async () => {
    try {
      if (state.rounds === 0) {
        const series = await ask("/api/samples");
        for (const domain of series.domains) state.past.set(domain.domain, domain.points);
      }
      const status = await ask("/api/status");
      remember(status);
      const killed = status.counters.kills + status.counters.would_kill;
      if (state.killed !== killed || status.kills_in_flight > 0 || state.kills.some((kill) => !kill.confirmed)) {
        state.kills = await ask("/api/kills");
        state.killed = killed;
      }
      if (state.rounds % 2 === 0) {
        state.workers = await ask("/api/workers");
        const explanation = await ask("/api/explain");
        state.ranking = explanation.ranking || [];
        if (state.domain === null) state.domain = explanation.domain;
      }
      state.status = status;
      state.rounds += 1;
      draw();
    } catch (error) {
      const line = $("state");
      line.textContent = "The agent does not answer: " + shown(error.message);
      line.className = "alarm";
    }
    setTimeout(round, EVERY);
  };

  const drawState = () => {
    const { status } = state, line = $("state");
    const observes = status.dry_run || !status.kills;
    const says = status.protects ? "Protects this machine." : observes ? "Only observes: nobody is killed."
      : "PROTECTS NOTHING: see monitor doctor.";
    const text = `${says} Version ${status.version}, up ${span(status.uptime_ms / 1000)}, ${status.workers} workers, ` +
      `${status.counters.killed} killed.`;
    // Screen readers are told of what changed, not each second.
    line.className = status.protects ? "" : "alarm";
    line.setAttribute("aria-live", line.textContent.startsWith(says) ? "off" : "polite");
    line.textContent = shown(text);
  };

  const drawDomains = () => {
    const rows = state.status.domains.map((view) => {
      const row = element("tr");
      const choose = element("button", view.domain, { type: "button", "aria-pressed": String(view.domain === state.domain) });
      choose.dataset.domain = view.domain;
      const share = view.threshold ? view.used / view.threshold : 0;
      const meter = element("meter", undefined, { min: 0, max: 1, high: 0.9, value: Math.min(share, 1) });
      const percent = Math.floor(share * 100) + "%";
      meter.setAttribute("aria-label", percent + " of the threshold");
      const part = element("span");
      if (view.threshold) part.append(meter, " " + percent);
      const word = view.error ? view.error : view.kill !== null ? "kill " + view.kill
        : view.above ? "over the threshold" : "below the threshold";
      row.append(cell(choose), cell(size(view.used), { class: "right" }), cell(size(view.threshold), { class: "right" }),
        cell(part), cell(word, view.above || view.error ? { class: "alarm" } : {}));
      return row;
    });
    replace($("domains").tBodies[0], rows);
  };

  const drawKills = () => {
    const now = state.status.now;
    const items = state.kills.slice(-MOST_KILLS).reverse().map((kill) => {
      const item = element("li", undefined, { value: kill.id });
      const ago = kill.times.decision === null ? "" : span((now - kill.times.decision) / 1e9) + " ago: ";
      const verb = kill.dry_run ? "would have killed" : kill.confirmed ? "killed" : "killing";
      item.append(shown(`${ago}${verb} `));
      kill.victims.forEach((victim, number) => {
        if (number > 0) item.append(", ");
        item.append(shown(victim.worker) + " ", foreign(victim.name || ""), " of ", foreign(victim.owner), ` (${size(victim.memory)})`);
      });
      if (kill.others > 0) item.append(` ${kill.others} of a user`);
      item.append(" in ", foreign(kill.domain), ". ");
      if (kill.victims.length > 0) item.append(element("a", "Report " + kill.id, { href: "/kills/" + Number(kill.id) }));
      return item;
    });
    $("no-kills").hidden = items.length > 0;
    replace($("kills"), items);
  };

  const drawWorkers = () => {
    const ranks = new Map(state.ranking.map((ranked) => [ranked.id, ranked]));
    const filter = $("filter").value.toLowerCase();
    const matches = (worker) => !filter ||
      [worker.id, worker.owner, worker.name, worker.rule, String(worker.pid)].some((text) => (text || "").toLowerCase().includes(filter));
    const order = (worker) => (ranks.has(worker.id) ? ranks.get(worker.id).rank : Infinity);
    const found = state.workers.filter(matches).sort((one, other) => order(one) - order(other) || one.started - other.started);
    const rows = found.slice(0, MOST_ROWS).map((worker) => {
      const ranked = ranks.get(worker.id), row = element("tr");
      row.append(cell(ranked ? ranked.rank : "-", { class: "right" }), cell(worker.id), cell(foreign(worker.owner)),
        cell(foreign(worker.name)), cell(size(worker.memory), { class: "right" }), cell(worker.state.replace("_", " ")),
        cell(foreign(ranked ? ranked.why : "no candidate here")));
      return row;
    });
    const hiddenNote = $("hidden"), unseen = state.status.workers - state.workers.length;
    const notes = [];
    if (unseen > 0) notes.push(`${unseen} workers are not shown: names are shown over HTTP with http_details = true.`);
    if (found.length > MOST_ROWS) notes.push(`The first ${MOST_ROWS} of ${found.length} are shown.`);
    hiddenNote.textContent = notes.join(" ");
    hiddenNote.hidden = notes.length === 0;
    replace($("workers").tBodies[0], rows);
  };

  // Only what changed is changed, so that focus and selection stay.
  const replace = (parent, children) => {
    children.forEach((child, at) => {
      const before = parent.children[at];
      if (!before) parent.append(child);
      else if (!before.isEqualNode(child)) {
        const focused = before.contains(document.activeElement);
        before.replaceWith(child);
        const again = focused && child.querySelector("button, a");
        if (again) again.focus();
      }
    });
    while (parent.children.length > children.length) parent.lastElementChild.remove();
  };

  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const drawChart = () => {
    const past = state.past.get(state.domain) || [], now = state.status.now;
    $("chart-title").textContent = shown(`${state.domain}: used, and its threshold, in the last ten minutes`);
    const data = [past.map((point) => (point[0] - now) / 1e9), past.map((point) => point[1]), past.map((point) => point[2])];
    if (typeof uPlot === "undefined") return;
    if (chart === null) {
      const axis = { stroke: () => color("--faint"), grid: { stroke: () => color("--rule"), width: 1 } };
      const sizes = (_, values) => values.map(size);
      // Round sizes are powers of two.
      const splits = (_, axis, low, high) => {
        const step = 2 ** Math.max(0, Math.floor(Math.log2(Math.max(high, 1) / 3)));
        return Array.from({ length: Math.floor(high / step) + 1 }, (_, number) => number * step);
      };
      const ago = (seconds) => (seconds === 0 ? "now" : seconds % 60 === 0 ? `${seconds / 60} min` : `${seconds} s`);
      chart = new uPlot({
        width: $("chart").clientWidth, height: 260, cursor: { drag: { x: false, y: false } },
        scales: { x: { time: false, range: [-SPAN, 0] }, y: { range: (_, low, high) => [0, Math.max(high * 1.05, 1)] } },
        axes: [{ ...axis, splits: () => [-600, -480, -360, -240, -120, 0], values: (_, values) => values.map(ago) },
          { ...axis, size: 80, splits, values: sizes }],
        legend: { live: false },
        series: [{}, { label: "Used", stroke: () => color("--used"), width: 2 },
          { label: "Threshold", stroke: () => color("--threshold"), width: 2, dash: [8, 5] }],
      }, data, $("chart"));
    } else {
      chart.setData(data);
    }
  };

  const draw = () => {
    drawState();
    drawDomains();
    drawKills();
    drawWorkers();
    drawChart();
  };

  $("filter").addEventListener("input", () => state.status && drawWorkers());
  $("domains").addEventListener("click", (event) => {
    const domain = event.target.dataset.domain;
    if (domain === undefined) return;
    state.domain = domain;
    draw();
  });
  addEventListener("resize", () => chart && chart.setSize({ width: $("chart").clientWidth, height: 260 }));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => chart && chart.redraw());
  round();
})();
