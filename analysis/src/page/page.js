"use strict";
(() => {
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.setAttribute("aria-hidden", "true");
  document.body.append(tip);
  let owner = null, title = null;

  // While our own tip is shown, the browser's must not come up as well.
  const hide = () => {
    if (owner) owner.prepend(title);
    owner = title = null;
    tip.classList.remove("on");
  };
  const titled = node => {
    for (; node instanceof SVGElement; node = node.parentNode) {
      const found = [...node.children].find(child => child.tagName === "title");
      if (found) return [node, found];
    }
    return null;
  };
  const place = event => {
    const gap = 14, { width, height } = tip.getBoundingClientRect();
    const x = Math.min(event.clientX + gap, innerWidth - width - 6);
    const above = event.clientY + gap + height > innerHeight - 6;
    const y = above ? event.clientY - gap - height : event.clientY + gap;
    tip.style.transform = `translate(${Math.max(6, x)}px,${Math.max(6, y)}px)`;
  };
  document.addEventListener("pointerover", event => {
    const found = titled(event.target);
    if (found && found[0] === owner) return;
    hide();
    if (!found) return;
    [owner, title] = found;
    tip.textContent = title.textContent;
    title.remove();
    tip.classList.add("on");
    place(event);
  });
  document.addEventListener("pointermove", event => owner && place(event));
  document.addEventListener("scroll", hide, { passive: true });

  document.addEventListener("keydown", event => {
    if (event.key !== "Escape") return;
    hide();
    document.querySelectorAll(".key input:checked").forEach(box => { box.checked = false; });
  });
  // What is folded is printed as well.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    folded.forEach(part => { part.open = true; });
  });
  addEventListener("afterprint", () => folded.forEach(part => { part.open = false; }));
})();
