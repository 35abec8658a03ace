"use strict";
/* The explorer: reads the grids that qwenops worked out, and shows one point of them. It computes sums and comparisons
   of what is there, nothing else; the rule of the verdict is that of qwenops/report/known.py. */
(() => {
  const data = JSON.parse(document.getElementById("explorer-data").textContent);
  const partNames = JSON.parse(document.getElementById("part-names").textContent);
  window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => (d.open = true)));
  if (!data) return;

  const GIB = 2 ** 30, MIB = 2 ** 20;
  const at = (id) => document.getElementById("x-" + id);
  const grouped = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, "\u202f");
  const human = (n) => (n < GIB ? (n / MIB).toFixed(n < 100 * MIB ? 1 : 0) + " MiB" : (n / GIB).toFixed(2) + " GiB");

  /** Two sizes, the unit once where it is the same. */
  const range = (low, high) => {
    const [a, b] = [human(low), human(high)], unit = b.slice(b.indexOf(" "));
    return a.endsWith(unit) ? `${a.slice(0, -unit.length)} to ${b}` : `${a} to ${b}`;
  };

  /** A column's value at a point; its values stand in the order cache, context, image limit, over the axes it has. */
  function valueAt(column, shape, point) {
    if (!column) return 0;
    let index = 0;
    for (const [axis, name] of ["c", "x", "i"].entries())
      if (column.by.includes(name)) index = index * shape[axis] + point[axis];
    return column.bytes[index];
  }

  /** What a model takes on each place of a card at a point. */
  function needAt(model, card, point) {
    const shape = [model.caches.length, model.contexts.length, model.image_limits.length];
    const grid = model.grids[model.grid_of_card[data.cards.indexOf(card)]];
    const parts = (columns) =>
      Object.entries(columns)
        .filter(([name]) => name !== "low" && name !== "high")
        .map(([name, column]) => ({ name, bytes: valueAt(column, shape, point) }))
        .filter((part) => part.bytes);
    const total = (all) => all.reduce((sum, part) => sum + part.bytes, 0);
    const places = grid.devices.map((columns, n) => {
      const all = parts(columns);
      return {
        name: card.devices[n].name, what: card.devices[n].description, parts: all, total: total(all),
        free: card.devices[n].free_bytes, low: valueAt(columns.low, shape, point), high: valueAt(columns.high, shape, point),
      };
    });
    const host = parts(grid.host);
    const sum = total(host);
    places.push({ name: "host", what: "memory of the computer", parts: host, total: sum, free: card.host_room_bytes, low: sum, high: sum });
    return places;
  }

  /** The planner's verdict, and the place that decides it. */
  function judge(places) {
    const no = places.find((p) => p.low > p.free);
    if (no) return { fits: "no", place: no };
    const close = places.find((p) => p.high > p.free);
    if (close) return { fits: "close", place: close };
    return { fits: "yes", place: places[0] };
  }

  const svg = (name, attributes, ...inside) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...inside);
    return made;
  };
  const html = (name, attributes, ...inside) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...inside);
    return made;
  };

  function bar(place) {
    const whole = Math.max(place.high, place.free) * 1.03;
    const share = (n) => (100 * n / whole).toFixed(3) + "%";
    const said = place.parts.map((p) => `${partNames[p.name]} ${human(p.bytes)}`).join(", ");
    const drawn = svg("svg", { class: "bar", height: place.high > place.low ? 42 : 32, role: "img" });
    drawn.append(svg("title", {}, `${place.name}: ${human(place.total)} of ${human(place.free)}. ${said}`));
    drawn.append(svg("rect", { class: "room", x: 0, y: 4, width: share(place.free), height: 24 }));
    let from = 0;
    for (const part of place.parts) {
      drawn.append(svg("rect", { x: share(from), y: 4, width: share(part.bytes), height: 24, fill: `url(#p-${part.name})` }));
      from += part.bytes;
      drawn.append(svg("line", { class: "seam", x1: share(from), x2: share(from), y1: 4, y2: 28 }));
    }
    if (place.high > place.low) {
      drawn.append(svg("line", { class: "edge", x1: share(place.low), x2: share(place.high), y1: 35, y2: 35 }));
      for (const end of [place.low, place.high])
        drawn.append(svg("line", { class: "edge", x1: share(end), x2: share(end), y1: 31, y2: 39 }));
    }
    for (const look of ["halo", "limit"])
      drawn.append(svg("line", { class: look, x1: share(place.free), x2: share(place.free), y1: 0, y2: 32 }));
    const head = html("p", { class: "head" },
      html("span", {}, html("strong", {}, place.name), " ", html("span", { class: "faint" }, place.name === place.what ? "" : place.what)),
      html("span", {}, `${human(place.total)} needed, ${human(place.free)} ${place.name === "host" ? "may be taken" : "free"}`));
    return html("div", { class: "place" }, head, drawn);
  }

  function legend(places) {
    const used = [...new Set(places.flatMap((p) => p.parts.map((part) => part.name)))];
    return html("ul", { class: "legend" }, ...used.map((name) => {
      const key = svg("svg", { class: "key", width: 22, height: 14, "aria-hidden": "true" });
      key.append(svg("rect", { width: 22, height: 14, fill: `url(#p-${name})` }));
      return html("li", {}, key, partNames[name]);
    }));
  }

  function table(places) {
    const names = Object.keys(partNames).filter((name) => places.some((p) => p.parts.some((part) => part.name === name)));
    const row = (title, cells) =>
      html("tr", {}, html("th", { scope: "row" }, title), ...cells.map((n) => html("td", { class: "num", "data-bytes": n }, grouped(n))));
    at("parts").tHead.replaceChildren(html("tr", {}, html("th", { scope: "col" }, "part"),
      ...places.map((p) => html("th", { scope: "col", class: "num" }, p.name))));
    at("parts").tBodies[0].replaceChildren(
      ...names.map((name) => row(partNames[name], places.map((p) => (p.parts.find((part) => part.name === name) || { bytes: 0 }).bytes))),
      row("total", places.map((p) => p.total)),
      row("at least", places.map((p) => p.low)), row("at most", places.map((p) => p.high)),
      row("free", places.map((p) => p.free)));
  }

  const chosen = () => {
    const model = data.models[at("model").value];
    const cache = model.caches.findIndex(([flash, kv]) => flash === at("flash").value && kv === at("kv").value);
    const context = Number(at("context").value), limit = Number(at("limit").value);
    return { model, card: data.cards[at("card").value], cache, context, limit, images: model.sees ? Number(at("images").value) : 0 };
  };

  function command({ model, card, cache, context, limit }) {
    const [flash, kv] = model.caches[cache];
    const quoted = (word) => (/^[\w.:\/@%+=-]+$/.test(word) ? word : `'${word.replace(/'/g, "'\\''")}'`);
    const words = ["qwenops", "need", ...model.asked.map(quoted), "--ctx", model.contexts[context]];
    if (data.start.ubatch !== 512) words.push("--ubatch", data.start.ubatch);
    if (kv !== "f16") words.push("--kv", kv);
    if (flash !== "auto") words.push("--flash-attn", flash);
    if (model.sees) words.push("--image-tokens", model.image_limits[limit]);
    if (card.name === "this machine") words.push("--rung", "closed-form");
    else words.push("--gpu", quoted(card.name));
    return words.join(" ");
  }

  function show() {
    const choice = chosen();
    const { model, card, images } = choice;
    at("context-said").textContent = grouped(model.contexts[choice.context]);
    at("context").setAttribute("aria-valuetext", `${model.contexts[choice.context]} tokens`);
    at("images-said").textContent = images;
    const places = needAt(model, card, [choice.cache, choice.context, choice.limit]);
    const { fits, place } = judge(places);
    const between = place.low === place.high ? human(place.total) : range(place.low, place.high);
    const num_ctx = model.contexts[choice.context], each = model.image_limits[choice.limit] + 2;
    const taken = images * each;
    const holds = taken < num_ctx;
    const word = { yes: "✓ Fits", no: "✕ Does not fit", close: "≈ Too close to say" }[fits];
    const where = place.name === "host" && fits === "yes" ? "of host memory" : `on ${place.name}`;
    const also = holds ? "" : " But the context does not hold the pictures.";
    at("verdict").textContent = `${word}: ${between} needed ${where}, ${human(place.free)} free.${also}`;
    at("verdict").className = "verdict " + (fits === "yes" && !holds ? "close" : fits);
    at("places").replaceChildren(...places.map(bar), legend(places));
    at("tokens").textContent = !model.sees ? "The model reads no pictures." :
      images === 0 ? `No pictures: all ${grouped(num_ctx)} tokens are for text.` :
      `${images === 1 ? "1 picture" : images + " pictures"} of up to ${grouped(each)} tokens take ${grouped(taken)} of ` +
      `${grouped(num_ctx)}` + (holds ? `, which leaves ${grouped(num_ctx - taken)} for text.` : ".");
    at("command").textContent = command(choice);
    table(places);
  }

  const options = (select, entries, keep) => {
    const before = select.value;
    select.replaceChildren(...entries.map(([value, text, off]) => {
      const made = html("option", { value }, text);
      made.disabled = Boolean(off);
      return made;
    }));
    const there = entries.find(([value, , off]) => String(value) === String(keep ?? before) && !off);
    select.value = there ? there[0] : entries.find(([, , off]) => !off)[0];
  };

  /** Offers what the chosen model can be asked, and keeps what was chosen where it can. */
  function offer(first) {
    const model = data.models[at("model").value];
    const old = at("context").dataset.tokens ?? data.start.num_ctx;
    const nearest = model.contexts.findIndex((n) => n >= Number(old));
    at("context").max = model.contexts.length - 1;
    at("context").value = nearest < 0 ? model.contexts.length - 1 : nearest;
    const wanted = first ? data.start.image_tokens : model.image_limits[at("limit").value] ?? data.start.image_tokens;
    const limit = model.image_limits.findIndex((n) => n >= wanted);
    options(at("limit"), model.image_limits.map((n, i) => [i, grouped(n)]), limit < 0 ? model.image_limits.length - 1 : limit);
    options(at("flash"), [...new Set(model.caches.map(([flash]) => flash))].map((f) => [f, f]), at("flash").value || "auto");
    at("flash-row").hidden = at("flash").length < 2;
    document.querySelectorAll(".sees").forEach((row) => (row.hidden = !model.sees));
    caches();
  }

  /** KV types that go with the chosen flash attention; the others are shown and cannot be chosen. */
  function caches() {
    const model = data.models[at("model").value];
    const flash = at("flash").value;
    const known = [...new Set([...model.caches.map(([, kv]) => kv), ...Object.keys(model.refused).map((k) => k.split(" ")[1])])];
    const can = (kv) => model.caches.some(([f, k]) => f === flash && k === kv);
    options(at("kv"), known.map((kv) => [kv, can(kv) ? kv : `${kv} (needs flash attention)`, !can(kv)]), at("kv").value || data.start.kv_type);
  }

  options(at("model"), data.models.map((m, n) => [n, m.label.length > 16 ? m.label : `${m.label}, ${human(m.file_bytes)}`]), data.start.model);
  options(at("card"), data.cards.map((c, n) => [n, c.name]), 0);
  at("card-row").hidden = data.cards.length < 2;
  at("images").value = data.start.images;
  offer(true);
  at("model").addEventListener("change", () => { offer(false); show(); });
  at("flash").addEventListener("change", () => { caches(); show(); });
  at("context").addEventListener("input", () => {
    at("context").dataset.tokens = data.models[at("model").value].contexts[at("context").value];
    show();
  });
  for (const id of ["card", "images", "limit", "kv"]) at(id).addEventListener("input", show);
  document.getElementById("explore").hidden = false;
  show();
})();
