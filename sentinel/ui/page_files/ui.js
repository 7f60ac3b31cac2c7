"use strict";
// The page works without this script. With it, what changed is put into its place, and forms and
// links of tables no longer load the whole page.
(() => {
  const body = document.body;
  const live = document.getElementById("live");
  const said = document.getElementById("said");
  let since = body.dataset.since;

  // -- putting parts into their place --

  const partOf = (id) => document.querySelector(`[data-part="${CSS.escape(id)}"]`);

  const summaries = (root) => [...root.querySelectorAll("details")];
  const nameOf = (details) => details.querySelector("summary")?.textContent ?? "";

  const remember = (part) => {
    const active = part.contains(document.activeElement) ? document.activeElement : null;
    const focusable = [...part.querySelectorAll("a[href],button,input,select,summary,[tabindex]")];
    return {
      open: new Map(summaries(part).map((one) => [nameOf(one), one.open])),
      chosen: [...part.querySelectorAll("input[type=radio]:checked")].map((one) => one.id),
      scrolled: [...part.querySelectorAll(".scroll,.scroll-x")].map((one) => [one.scrollTop, one.scrollLeft]),
      key: active && (active.dataset.key || active.id || active.name || active.getAttribute("href")),
      at: active ? focusable.indexOf(active) : -1,
      typed: active && active.matches("input[type=search],input:not([type])") ? [active.value, active.selectionStart] : null,
    };
  };

  const restore = (part, kept, keepScroll) => {
    for (const one of summaries(part)) {
      if (kept.open.has(nameOf(one))) one.open = kept.open.get(nameOf(one));
    }
    for (const id of kept.chosen) {
      const radio = document.getElementById(id);
      if (radio) radio.checked = true;
    }
    if (keepScroll) {
      part.querySelectorAll(".scroll,.scroll-x").forEach((one, n) => {
        if (kept.scrolled[n]) [one.scrollTop, one.scrollLeft] = kept.scrolled[n];
      });
    }
    if (kept.at < 0) return;
    const focusable = [...part.querySelectorAll("a[href],button,input,select,summary,[tabindex]")];
    const same = focusable.find((one) => kept.key && [one.dataset.key, one.id, one.name, one.getAttribute("href")].includes(kept.key));
    const next = same ?? focusable[Math.min(kept.at, focusable.length - 1)];
    next?.focus({ preventScroll: true });
    if (kept.typed && next instanceof HTMLInputElement) {
      next.value = kept.typed[0];
      next.setSelectionRange(kept.typed[1], kept.typed[1]);
    }
  };

  const sentence = () => document.querySelector("[data-say]")?.textContent ?? "";

  const put = (html, keepScroll) => {
    const before = sentence();
    const fresh = new DOMParser().parseFromString(html, "text/html").querySelectorAll("[data-part]");
    for (const part of fresh) {
      const old = partOf(part.dataset.part);
      if (!old) continue;
      const kept = remember(old);
      const node = document.importNode(part, true);
      old.replaceWith(node);
      restore(node, kept, keepScroll);
      if (node.dataset.title) document.title = node.dataset.title;
      delete node.dataset.title;
      node.dispatchEvent(new CustomEvent("sentinel-swapped", { bubbles: true }));
    }
    ages();
    if (sentence() !== before) said.textContent = document.querySelector(".state")?.textContent.trim() ?? "";
  };

  const have = () =>
    [...document.querySelectorAll("[data-part]")].map((part) => `${part.dataset.part}=${part.dataset.version}`).join(",");

  const load = async (address, keepScroll, only) => {
    const headers = { "Sentinel-Have": have(), ...(only ? { "Sentinel-Only": only } : {}) };
    const answer = await fetch(address, { headers, credentials: "same-origin" });
    if (!answer.ok) throw new Error(String(answer.status));
    put(await answer.text(), keepScroll);
  };

  // -- news --

  let stream = null;
  let loading = null;
  let again = false;

  const tell = (words, kind) => {
    if (!live || !body.dataset.watches) return;
    live.textContent = words;
    live.className = `live ${kind}`;
  };

  const renew = () => {
    if (loading) {
      again = true;
      return;
    }
    loading = load(location.href.split("#")[0], true)
      .catch(() => { again = false; setTimeout(renew, 5000); })
      .finally(() => {
        loading = null;
        if (again) {
          again = false;
          renew();
        }
      });
  };

  const concerns = (runs) =>
    body.dataset.watches === "*" || runs === null || runs.includes(body.dataset.watches);

  const listen = () => {
    if (stream || !body.dataset.watches || document.hidden) return;
    stream = new EventSource(`/live?since=${encodeURIComponent(since)}`);
    stream.addEventListener("open", () => tell("live", "on"));
    stream.addEventListener("changed", (event) => {
      since = event.lastEventId;
      if (concerns(JSON.parse(event.data).runs)) renew();
    });
    stream.addEventListener("error", () => {
      tell("connection lost, trying again", "off");
      if (stream?.readyState === EventSource.CLOSED) {
        stream = null;
        setTimeout(listen, 5000);
      }
    });
  };

  // A tab that nobody sees holds no stream: browsers allow six connections to a server.
  const hush = () => {
    stream?.close();
    stream = null;
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? hush() : listen()));
  addEventListener("pagehide", hush);
  addEventListener("pageshow", listen);

  // -- tables --

  // The one part that a table's own link or form is about; where two depend on it, the whole.
  const partAround = (element) => {
    const id = element.closest("[data-part]")?.dataset.part;
    return id === "checkpoints" || id === "tensors" ? id : "";
  };

  const go = async (address, push, only) => {
    const place = new URL(address, location.href);
    try {
      await load(place.pathname + place.search, false, only);
    } catch {
      location.assign(place.href);
      return;
    }
    if (push) history.pushState(null, "", place.pathname + place.search);
  };

  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element && event.target.closest("a[data-swap]");
    if (!link || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    go(link.href, true, partAround(link));
  });

  const ask = (form) => {
    const told = new URLSearchParams([...new FormData(form)].filter(([, value]) => value !== ""));
    const place = new URL(form.action);
    go(`${place.pathname}${told.size ? `?${told}` : ""}`, true, partAround(form));
  };
  document.addEventListener("submit", (event) => {
    if (!event.target.matches("form[data-swap]")) return;
    event.preventDefault();
    ask(event.target);
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches("form[data-swap] select")) ask(event.target.form);
  });
  addEventListener("popstate", () => go(location.href, false));

  // -- ages --

  const words = (seconds) => {
    if (seconds < 60) return `${Math.max(0, Math.round(seconds))} s ago`;
    if (seconds < 3600) return `${Math.round(seconds / 60)} min ago`;
    if (seconds < 86400) return `${Math.round(seconds / 3600)} h ago`;
    return `${Math.round(seconds / 86400)} d ago`;
  };
  const ages = () => {
    for (const one of document.querySelectorAll("time[data-age]")) {
      one.title ||= one.textContent;
      one.textContent = words((Date.now() - Date.parse(one.dateTime)) / 1000);
    }
  };
  ages();
  setInterval(ages, 10000);
  listen();
})();
