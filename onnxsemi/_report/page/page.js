"use strict";
// Folded parts: a link to one opens it, printing opens all. Commands: a button copies them.
// Tooltips of marks and of the channels in strips: by pointer, by tap, by keyboard.
// A click pins a tooltip until the next click or Escape; arrow keys go from mark to mark.
(() => {
  function reveal() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const fold = target && target.closest("details.fold");
    if (!fold) return;
    fold.open = true;
    fold.scrollIntoView();
  }
  addEventListener("hashchange", reveal);
  reveal();

  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details.fold:not([open])")];
    for (const fold of opened) fold.open = true;
  });
  addEventListener("afterprint", () => {
    for (const fold of opened) fold.open = false;
    opened = [];
  });

  async function copy(code) {
    try {
      await navigator.clipboard.writeText(code.textContent);
      return true;
    } catch {  // no clipboard for a page of this kind: the old way, and the text stays selected
      getSelection().selectAllChildren(code);
      return document.execCommand("copy");
    }
  }
  for (const button of document.querySelectorAll("button.copy")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const done = await copy(button.parentElement.querySelector("code"));
      button.textContent = done ? "Copied" : "Selected";
      document.getElementById("said").textContent = button.textContent;
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  }

  const tip = document.getElementById("tip");
  let pinned = null, anchor = null;

  function show(text, element) {
    tip.textContent = text;
    tip.hidden = false;
    anchor = element;
    place();
  }

  function place() {
    const box = anchor.getBoundingClientRect();
    const { width, height } = tip.getBoundingClientRect();
    const left = box.left + box.width / 2 - width / 2;
    const above = box.top - height - 10;
    tip.style.left = Math.max(8, Math.min(left, document.documentElement.clientWidth - width - 8)) + "px";
    tip.style.top = (above > 8 ? above : box.bottom + 10) + "px";
  }

  function hide() {
    tip.hidden = true;
    for (const cursor of document.querySelectorAll(".cursor:not([hidden])")) cursor.setAttribute("hidden", "");
  }

  function unpin() {
    if (pinned) pinned.classList.remove("pinned");
    pinned = null;
    hide();
  }

  // strips: the channel under the pointer, or the one that arrow keys came to
  function showChannel(cells, wanted) {
    const data = cells.parentElement.dataset;
    const [order, bits, loss] = [cells.dataset.order, data.bits, data.loss].map(text => text.split(" "));
    const at = Math.max(0, Math.min(wanted, order.length - 1));
    hide();
    const cursor = cells.querySelector(".cursor");
    cursor.removeAttribute("hidden");
    cursor.setAttribute("x", at * Number(data.pitch));
    cells.dataset.at = at;
    const channel = order[at];
    const width = bits[channel] === "32" ? "float32" : bits[channel] + (bits[channel] === "1" ? " bit" : " bits");
    const known = loss[channel] === "nan" ? "" : "\nΔloss " + loss[channel].replace(/-/g, "−") + " nats";
    show(data.layer + "\nchannel " + channel + ", " + width + known, cursor);
  }

  function under(event) {
    const cells = event.target.closest(".cells");
    if (!cells) return null;
    const box = cells.getBoundingClientRect();
    const across = (event.clientX - box.left) / box.width * cells.viewBox.baseVal.width;
    return [cells, Math.floor(across / Number(cells.parentElement.dataset.pitch))];
  }

  document.addEventListener("pointermove", event => {
    if (pinned) return;
    const mark = event.target.closest(".mark"), found = under(event);
    if (mark) show(mark.dataset.tip, mark);
    else if (found) showChannel(...found);
    else if (!document.activeElement.closest(".mark, .cells")) hide();
  });

  document.addEventListener("click", event => {
    const mark = event.target.closest(".mark"), found = under(event);
    const same = mark && mark === pinned;
    unpin();
    if (mark && !same) {
      pinned = mark;
      mark.classList.add("pinned");
      show(mark.dataset.tip, mark);
    } else if (found) showChannel(...found);
  });

  document.addEventListener("focusin", event => {
    if (pinned && pinned !== event.target) unpin();
    if (event.target.matches(".mark")) show(event.target.dataset.tip, event.target);
    else if (event.target.matches(".cells:focus-visible")) showChannel(event.target, Number(event.target.dataset.at || 0));
  });
  document.addEventListener("focusout", () => { if (!pinned) hide(); });
  addEventListener("scroll", () => { if (!tip.hidden) place(); }, { passive: true, capture: true });

  // one stop of the Tab key a figure; arrow keys go on from there
  for (const group of document.querySelectorAll(".marks")) {
    const marks = [...group.querySelectorAll(".mark")];
    marks.forEach((mark, index) => { mark.tabIndex = index ? -1 : 0; });
  }
  const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

  document.addEventListener("keydown", event => {
    if (event.key === "Escape") return unpin();
    const step = steps[event.key], target = event.target;
    if (target.matches(".mark")) {
      const marks = [...target.closest(".marks").querySelectorAll(".mark")];
      if (event.key === "Enter" || event.key === " ") target.dispatchEvent(new MouseEvent("click", { bubbles: true }));
      else if (step) {
        const next = marks[(marks.indexOf(target) + step + marks.length) % marks.length];
        target.tabIndex = -1;
        next.tabIndex = 0;
        next.focus({ preventScroll: false });
      } else return;
      event.preventDefault();
    } else if (target.matches(".cells") && step) {
      showChannel(target, Number(target.dataset.at || 0) + step);
      anchor.scrollIntoView({ block: "nearest", inline: "nearest" });
      event.preventDefault();
    }
  });
})();
