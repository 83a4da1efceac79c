"use strict";
// The page reads the agent's JSON now and then and draws it. All text comes in by textContent.
(() => {
  const statusEvery = 3000, loadEvery = 10000, eventsEvery = 5000;
  const mostEvents = 300, backMs = 30000;
  const charts = [
    ["cpu_percent", "CPU", "%", 100], ["io_delay_percent", "I/O delay", "%", 0], ["load_average", "Load average (1 min)", "", 0],
    ["memory_percent", "Memory", "%", 100], ["peer_out_bytes_per_sec", "Network to the other nodes", "B/s", 0],
    ["log_write_p99_ms", "Write to the log, p99", "ms", 0],
  ];
  const byId = (id) => document.getElementById(id);
  const svgNS = "http://www.w3.org/2000/svg";

  // make builds an element: make("p", {class: "x"}, "text", child, ...).
  const make = (name, attributes = {}, ...children) => build(document.createElement(name), attributes, children);
  const draw = (name, attributes = {}, ...children) => build(document.createElementNS(svgNS, name), attributes, children);
  const build = (e, attributes, children) => {
    for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
    e.append(...children.filter((c) => c !== null && c !== undefined));
    return e;
  };

  const scaled = (n, unit) => {
    let u = 0;
    for (; n >= 1024 && u < 6; u++) n /= 1024;
    return `${n >= 10 || u === 0 ? Math.round(n) : n.toFixed(1)} ${["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][u]}${unit}`;
  };
  const bytes = (n) => scaled(n, "B");
  const value = (n, unit) => {
    if (n === null || n === undefined) return "-";
    if (unit === "B/s") return scaled(n, unit);
    return `${n >= 100 ? Math.round(n) : n.toFixed(n >= 10 ? 1 : 2)}${unit === "%" ? " %" : unit ? " " + unit : ""}`;
  };
  const duration = (ns) => ns >= 1e9 ? `${(ns / 1e9).toFixed(1)} s` : `${Math.round(ns / 1e6)} ms`;
  const secondsLeft = (s) => s >= 120 ? `${Math.round(s / 60)} min` : `${Math.round(s)} s`;
  const pad = (n, digits = 2) => String(n).padStart(digits, "0");
  const clock = (t) => `${t.getFullYear()}-${pad(t.getMonth() + 1)}-${pad(t.getDate())} ${pad(t.getHours())}:${pad(t.getMinutes())}:${pad(t.getSeconds())}`;

  const words = { UpToDate: "good", Healthy: "good", SyncTarget: "wait", Degraded: "wait", Outdated: "bad", Failed: "bad", Unfit: "bad", "not connected": "bad" };
  const word = (text) => make("span", { class: `word ${words[text] || "soft"}` }, text);

  let nodes = []; // names, in order: a node's place is its colour

  const drawNodes = (st) => {
    nodes = (st.nodes || []).map((n) => n.name);
    byId("nodes").replaceChildren(...(st.nodes || []).map((n) => {
      const leads = (st.volumes || []).filter((v) => v.primary === n.name).map((v) => v.name);
      const what = !n.connected ? "not connected" : n.joining ? "joining" : n.leaving ? "leaving" : n.health || "connected";
      return make("article", { class: "card" },
        make("header", {}, make("h3", {}, n.name), word(what)),
        make("p", {}, n.address),
        make("p", {}, leads.length ? `primary of ${leads.join(", ")}` : "primary of nothing"),
        n.health_reason ? make("p", { class: "warn" }, n.health_reason) : null);
    }));
  };

  const replicaRow = (r) => {
    const last = make("td", {});
    const s = r.resync;
    if (s && s.total_bytes > 0) {
      const percent = 100 * s.done_bytes / s.total_bytes;
      const bar = make("progress", { max: "100", value: String(percent) });
      bar.setAttribute("aria-label", `resync of ${r.node}`);
      last.append(bar, `${percent.toFixed(1)} % of ${bytes(s.total_bytes)}, ${secondsLeft(s.seconds_left)} left`);
    } else {
      last.append(r.reason || (r.lag_entries ? `${r.lag_entries} entries behind` : ""));
    }
    return make("tr", {}, make("th", { scope: "row" }, r.node), make("td", {}, r.role), make("td", {}, word(r.state)), last);
  };

  const drawVolumes = (st) => {
    const volumes = st.volumes || [];
    byId("volumes").replaceChildren(...volumes.map((v) => make("article", { class: "card" },
      make("header", {}, make("h3", {}, v.name), make("span", { class: v.primary ? "soft" : "bad" }, v.primary ? `primary ${v.primary}` : "no primary")),
      make("p", {}, `${bytes(v.used_bytes)} used, ${v.free_bytes ? bytes(v.free_bytes) + " free, " : ""}${v.files} files`),
      v.missing ? make("p", { class: "warn" }, `it lacks a replica: trinas volume rebuild ${v.name} NODE`) : null,
      make("table", {},
        make("thead", {}, make("tr", {}, ...["Replica", "Role", "State", ""].map((t) => make("th", { scope: "col" }, t)))),
        make("tbody", {}, ...(v.replicas || []).map(replicaRow))))));
    if (!volumes.length) byId("volumes").replaceChildren(make("p", { class: "soft" }, "No volumes yet."));
  };

  const drawState = (st) => {
    byId("cluster").textContent = st.cluster ? `trinas: ${st.cluster.name}` : "trinas";
    document.title = byId("cluster").textContent;
    const connected = (st.nodes || []).filter((n) => n.connected).length;
    const trouble = (st.volumes || []).filter((v) => !v.primary || v.missing || (v.replicas || []).some((r) => r.state !== "UpToDate")).map((v) => v.name);
    const all = connected === (st.nodes || []).length && !trouble.length;
    say(!st.nodes ? st.agent.state : `seen from ${st.node.name}: ${connected} of ${st.nodes.length} nodes connected, ` +
      (trouble.length ? `look at ${trouble.join(", ")}` : "all replicas UpToDate"), st.nodes && !all);
  };

  const say = (text, bad) => {
    byId("state").textContent = text;
    byId("state").className = bad ? "bad" : "";
  };

  // A chart is 320 by 120, with room for the scale at its left and the time below.
  const chart = (load, [column, title, unit, least]) => {
    const W = 320, H = 120, L = 56, B = 16, T = 8;
    const now = Date.now() / 1000, from = now - 3600;
    let top = least;
    for (const n of load.nodes) for (const v of (n.history && n.history.values[column]) || []) if (v !== null) top = Math.max(top, v);
    top = top || 1;
    const x = (t) => L + (W - L) * (t - from) / 3600, y = (v) => T + (H - B - T) * (1 - v / top);
    const newest = [];
    const lines = [];
    for (const n of load.nodes) {
      const h = n.history;
      if (!h || !nodes.includes(n.node)) continue;
      const kind = nodes.indexOf(n.node) % 6, values = h.values[column] || [];
      let points = [], before = 0;
      const flush = () => {
        if (points.length) lines.push(draw("polyline", { class: `s${kind}`, points: points.join(" ") }));
        points = [];
      };
      h.time.forEach((t, i) => {
        if (values[i] === null || t - before > 60) flush(); // a gap stays one
        if (values[i] !== null && t >= from) points.push(`${x(t).toFixed(1)},${y(values[i]).toFixed(1)}`);
        before = t;
      });
      flush();
      newest.push(`${n.node} ${value(values[values.length - 1], unit)}`);
    }
    const label = (text, px, py, anchor) => draw("text", { x: px, y: py, "text-anchor": anchor }, text);
    return make("figure", {},
      make("figcaption", {}, make("span", {}, title), make("span", { class: "soft" }, newest.join(", "))),
      draw("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${title}: ${newest.join(", ")}` },
        draw("line", { class: "grid", x1: L, x2: W, y1: y(0), y2: y(0) }), draw("line", { class: "grid", x1: L, x2: W, y1: y(top), y2: y(top) }),
        label(value(top, unit), L - 4, y(top) + 4, "end"), label("0", L - 4, y(0) + 3, "end"),
        label("-60 min", L, H - 3, "start"), label("now", W, H - 3, "end"), ...lines));
  };

  const drawLoad = (load) => {
    byId("legend").replaceChildren(...load.nodes.map((n) => make("li", { class: `s${Math.max(nodes.indexOf(n.node), 0) % 6}` },
      make("span", {}, n.node + (n.answers ? "" : n.age_sec !== undefined ? ` (figures are ${secondsLeft(n.age_sec)} old)` : " (no figures)")))));
    byId("charts").replaceChildren(...charts.map((c) => chart(load, c)));
  };

  const events = new Map(); // by each of their ids
  let since = new Date(Date.now() - 24 * 3600 * 1000).toISOString();

  const eventText = (e) => {
    const parts = [e.text];
    const more = Object.entries({ volume: e.volume, node: e.peer, ...e.details });
    for (const [key, text] of more) if (text) parts.push(`${key}=${text}`);
    if (e.took_ns) parts.push(`took ${duration(e.took_ns)}`);
    return parts.join(" ");
  };

  const drawEvents = (answer) => {
    const missing = byId("missing");
    missing.hidden = !answer.missing.length;
    missing.textContent = `No answer from ${answer.missing.map((m) => m.node).join(", ")}: their own events are missing.`;
    for (const e of answer.events) {
      for (const id of e.ids) { // of the same thing as before: what more nodes tell
        const old = events.get(id);
        if (old) old.ids.forEach((known) => e.ids.includes(known) || (e.ids.push(known), e.nodes.push(known.slice(0, known.lastIndexOf("-")))));
      }
      for (const id of e.ids) events.set(id, e);
    }
    const all = [...new Set(events.values())].sort((a, b) => (a.time < b.time ? 1 : -1)).slice(0, mostEvents);
    events.clear();
    for (const e of all) for (const id of e.ids) events.set(id, e);
    byId("events").replaceChildren(...all.map((e) => make("li", {},
      make("time", { datetime: e.time }, clock(new Date(e.time))), make("span", { class: "who" }, [...new Set(e.nodes)].sort().join(", ")),
      make("span", { class: "what" + (e.level === "error" ? " bad" : e.level === "warning" ? " wait" : "") }, eventText(e)))));
    since = new Date(Date.now() - backMs).toISOString();
  };

  const get = async (path) => {
    const answer = await fetch(path, { credentials: "same-origin" });
    if (answer.status === 401) location.replace("/login");
    if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
    return answer.json();
  };

  // every calls f at once and then again and again, while somebody looks at the page.
  const every = (ms, f) => {
    const once = async () => {
      if (!document.hidden) {
        try {
          await f();
        } catch (err) {
          say(`No answer from the agent (${err.message}); trying on.`, true);
        }
      }
      setTimeout(once, ms);
    };
    once();
  };

  every(statusEvery, async () => {
    const st = await get("/v1/status");
    drawState(st);
    drawNodes(st);
    drawVolumes(st);
  });
  every(loadEvery, async () => {
    const load = await get("/v1/load?history=1h");
    if (!nodes.length) nodes = load.nodes.map((n) => n.node);
    drawLoad(load);
  });
  every(eventsEvery, async () => drawEvents(await get(`/v1/events?since=${encodeURIComponent(since)}`)));
})();
