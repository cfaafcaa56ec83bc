"use strict";
// Brings the page up to date in place. It waits while the reader selects text, and keeps the focus where it is.
// Without scripts the browser loads the page again instead.
(() => {
  const PERIOD = 4000;
  const stale = document.getElementById("stale");
  async function refresh() {
    if (document.hidden || !getSelection().isCollapsed) return;
    try {
      const answer = await fetch(location.pathname, { cache: "no-store" });
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      const content = fresh.getElementById("content");
      if (!content) throw new Error("this is not the dashboard");
      const old = document.getElementById("content");
      const focused = document.activeElement;
      const link = old.contains(focused) ? focused.href : undefined;
      old.replaceWith(document.adoptNode(content));
      const same = link && [...document.querySelectorAll("#content a")].find((a) => a.href === link);
      if (same) same.focus({ preventScroll: true });
      document.title = fresh.title;
      stale.hidden = true;
    } catch {
      stale.hidden = false;
    }
  }
  setInterval(refresh, PERIOD);
  document.addEventListener("visibilitychange", refresh);
})();
