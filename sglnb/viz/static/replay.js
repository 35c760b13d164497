// The slider and the buttons beside it: where in the log the view stands.

import { groupDigits, secondsText } from "./layout.js";
import { button, make, setAttr, setText } from "./dom.js";

const REPLAY_SECONDS = 8;

/** `schedule()` asks for a new drawing. */
export function makeReplay(store, schedule) {
  const back = button("‹", "one event back", "quiet");
  const play = button("▶\uFE0E", "replay", "quiet");
  const forward = button("›", "one event on", "quiet");
  const slider = make("input", { type: "range", min: 0, step: 1, "aria-label": "replay position" });
  const where = make("span", { class: "small number where" });
  const root = make("div", { class: "replay" }, back, play, forward, slider, where);
  let playing = null;

  function goTo(cursor) {
    store.cursor = Math.max(0, Math.min(store.events.length, cursor));
    store.following = store.cursor === store.events.length;
    schedule();
  }
  function pause() {
    if (playing === null) return;
    cancelAnimationFrame(playing);
    playing = null;
    setText(play, "▶\uFE0E");
    setAttr(play, "aria-label", "replay");
  }
  slider.addEventListener("input", () => {
    pause();
    goTo(Number(slider.value));
  });
  back.addEventListener("click", () => { pause(); goTo(store.cursor - 1); });
  forward.addEventListener("click", () => { pause(); goTo(store.cursor + 1); });
  play.addEventListener("click", () => {
    if (playing !== null) return pause();
    const { events } = store;
    if (store.cursor >= events.length) store.cursor = 0;
    const first = events.findIndex((event) => event.kind !== "cache_snapshot");
    const begin = Math.max(store.cursor, first < 0 ? 0 : first);
    const t0 = events[begin]?.t ?? 0;
    const span = (events.at(-1)?.t ?? 0) - t0;
    const pace = Math.max(1, span / REPLAY_SECONDS);
    const started = performance.now();
    let at = begin;
    const tick = () => {
      const t = t0 + pace * (performance.now() - started) / 1000;
      while (at < events.length && events[at].t <= t) at++;
      goTo(at);
      if (at < events.length) playing = requestAnimationFrame(tick);
      else pause();
    };
    setText(play, "❚❚");
    setAttr(play, "aria-label", "pause");
    playing = requestAnimationFrame(tick);
  });

  return {
    root,
    pause,
    draw() {
      const n = store.events.length;
      setAttr(root, "hidden", n < 2);
      setAttr(slider, "max", n);
      if (Number(slider.value) !== store.cursor) slider.value = String(store.cursor);
      slider.style.setProperty("--done", `${n ? (100 * store.cursor) / n : 0}%`);
      const t0 = store.view.header.t0 ?? 0;
      const at = store.cursor ? store.events[store.cursor - 1].t - t0 : 0;
      setText(where, `event ${groupDigits(store.cursor)} / ${groupDigits(n)} · ${secondsText(Math.max(0, at))}`);
      setAttr(slider, "aria-valuetext", where.textContent);
    },
  };
}
