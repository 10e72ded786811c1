"use strict";
// Draws the figures in the page's colours, shows the trial that is pointed at, copies commands.
(() => {
  const page = JSON.parse(document.getElementById("data").textContent);
  const drawn = new Map();
  const hidden = { compression: new Set(), loss: new Set() };
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = () => innerWidth < 640;

  // Asked only where a figure wants it: some browsers warn when they are asked.
  let webGL = null;
  function hasWebGL() {
    if (webGL !== null) return webGL;
    try {
      const canvas = document.createElement("canvas");
      webGL = Boolean(canvas.getContext("webgl2") || canvas.getContext("webgl"));
    } catch (error) {
      webGL = false;
    }
    return webGL;
  }

  // Figures name CSS variables as colours; plotly wants their values.
  function coloured(value, style) {
    if (Array.isArray(value)) return value.map((item) => coloured(item, style));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, coloured(v, style)]));
    }
    const match = typeof value === "string" && /^var\((--[\w-]+)\)$/.exec(value);
    return match ? style.getPropertyValue(match[1]).trim() : value;
  }

  function isVisible(trace) {
    const meta = trace.meta || {};
    return !(hidden.compression.has(meta.compression) || hidden.loss.has(meta.loss));
  }

  function smaller(marker) {
    if (!narrow()) return marker;
    const shrink = (size) => Math.max(4, 0.65 * size);
    const size = Array.isArray(marker.size) ? marker.size.map(shrink) : shrink(marker.size);
    return { ...marker, size };
  }

  function parts(figure) {
    const style = getComputedStyle(document.documentElement);
    const data = coloured(figure.data, style).map((trace) => ({
      ...trace,
      type: trace.type === "scattergl" && !hasWebGL() ? "scatter" : trace.type,
      visible: isVisible(trace),
      ...(trace.marker ? { marker: smaller(trace.marker) } : {}),
    }));
    const layout = coloured(figure.layout, style);
    layout.height = narrow() ? Math.min(figure.height, Math.max(320, innerWidth * 1.05)) : figure.height;
    if (layout.annotations) {
      const other = narrow() ? "wide-only" : "narrow-only";
      layout.annotations = layout.annotations.filter((note) => note.name !== other);
    }
    if (matchMedia("(pointer: fine)").matches && !narrow()) layout.dragmode = "zoom";
    return { data, layout };
  }

  function draw(element) {
    const figure = page.figures[element.id];
    if (!figure || drawn.has(element.id)) return;
    drawn.set(element.id, element);
    const { data, layout } = parts(figure);
    const config = {
      responsive: true,
      displaylogo: false,
      displayModeBar: narrow() ? false : "hover",
      modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]],
    };
    Plotly.newPlot(element, data, layout, config).then(() => {
      element.dataset.drawn = "yes";
      if (!figure.clicks) return;
      element.on("plotly_hover", (event) => show(event.points[0].customdata, false));
      element.on("plotly_click", (event) => show(event.points[0].customdata, true));
    });
  }

  function redraw() {
    for (const [id, element] of drawn) {
      const { data, layout } = parts(page.figures[id]);
      Plotly.react(element, data, layout);
    }
  }

  // --- one trial -------------------------------------------------------------------------------
  let pinned = false;

  function show(index, click) {
    const trial = page.trials[index];
    if (!trial || (pinned && !click)) return;
    const card = document.getElementById("trial");
    if (card) {
      const title = document.createElement("h3");
      title.textContent = `${trial.id} ${trial.name}`;
      const list = document.createElement("dl");
      const entries = page.columns.map((name, i) => [name, trial.values[i]]);
      entries.push(...page.settings.map((name, i) => [name, trial.settings[i]]));
      for (const [name, value] of entries) {
        if (value === null || value === undefined || value === "") continue;
        const pair = document.createElement("div");
        const term = document.createElement("dt");
        const described = document.createElement("dd");
        term.textContent = name;
        described.textContent = value;
        pair.append(term, described);
        list.append(pair);
      }
      card.replaceChildren(title, list, trial.model ? copyButton(command(trial)) : why(trial));
    }
    if (click) {
      pinned = true;
      if (trial.model) copy(command(trial));
      else toast(`${trial.id} is ${trial.status}: there is no model to export`);
    }
  }

  function command(trial) {
    return page.command.replaceAll("@@", trial.id);
  }

  function why(trial) {
    const text = document.createElement("p");
    text.className = "note";
    text.textContent = `${trial.status}${trial.error ? ": " + trial.error : ""}; there is no model to export`;
    return text;
  }

  function copyButton(text) {
    const button = document.createElement("button");
    const code = document.createElement("code");
    code.textContent = text;
    button.type = "button";
    button.className = "copy";
    button.dataset.copy = text;
    button.append(code);
    return button;
  }

  // --- copying ---------------------------------------------------------------------------------
  async function copy(text) {
    let done = false;
    try {
      await navigator.clipboard.writeText(text);
      done = true;
    } catch (error) {
      done = copyOldWay(text);
    }
    toast(done ? `Copied: ${text}` : `Copy this: ${text}`);
  }

  function copyOldWay(text) {
    const area = document.createElement("textarea");
    area.value = text;
    area.style.position = "fixed";
    area.style.opacity = "0";
    document.body.append(area);
    area.select();
    let done = false;
    try {
      done = document.execCommand("copy");
    } catch (error) {
      done = false;
    }
    area.remove();
    return done;
  }

  let fading = 0;
  function toast(text) {
    const element = document.getElementById("toast");
    element.textContent = text;
    element.classList.add("on");
    clearTimeout(fading);
    fading = setTimeout(() => element.classList.remove("on"), 4000);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) copy(button.dataset.copy);
    const chip = event.target.closest("button.chip[data-kind]");
    if (chip) {
      const names = hidden[chip.dataset.kind];
      const name = chip.dataset.name;
      if (names.has(name)) names.delete(name);
      else names.add(name);
      for (const each of document.querySelectorAll("button.chip")) {
        if (each.dataset.kind !== chip.dataset.kind || each.dataset.name !== name) continue;
        each.setAttribute("aria-pressed", String(!names.has(name)));
      }
      for (const [id, element] of drawn) {
        Plotly.restyle(element, { visible: page.figures[id].data.map(isVisible) });
      }
    }
  });

  // --- start -----------------------------------------------------------------------------------
  const places = [...document.querySelectorAll(".figure[id]")];
  const seen = new IntersectionObserver(
    (entries) => entries.filter((e) => e.isIntersecting).forEach((e) => draw(e.target)),
    { rootMargin: "300px" },
  );
  places.forEach((element) => seen.observe(element));
  if (page.start !== undefined && page.start !== null) show(page.start, false);
  dark.addEventListener("change", redraw);
  addEventListener("beforeprint", () => places.forEach(draw));
})();
