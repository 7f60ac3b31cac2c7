"use strict";
(() => {
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  tip.setAttribute("aria-hidden", "true");
  document.body.append(tip);
  const said = (target) => {
    const mark = target instanceof Element && target.closest("figure path[aria-label],figure line[aria-label],figure [data-tip]");
    return mark ? mark.getAttribute("data-tip") || mark.getAttribute("aria-label") : "";
  };
  document.addEventListener("pointermove", (event) => {
    const text = said(event.target);
    tip.hidden = !text;
    if (!text) return;
    tip.textContent = text;
    const width = document.documentElement.clientWidth;
    tip.style.left = Math.max(4, Math.min(event.pageX + 14, width - tip.offsetWidth - 8)) + "px";
    tip.style.top = event.pageY + 16 + "px";
  });
  document.addEventListener("pointerleave", () => { tip.hidden = true; });
  const dress = (item) => {
    const code = item.querySelector("code");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.setAttribute("aria-label", "Copy: " + code.textContent);
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(code);
        button.textContent = "Selected";
      }
    });
    item.append(button);
  };
  const dressAll = (root) => { root.querySelectorAll(".commands li").forEach(dress); };
  dressAll(document);
  // A live page says so when it has put something new into itself.
  document.addEventListener("sentinel-swapped", (event) => { tip.hidden = true; dressAll(event.target); });
})();
