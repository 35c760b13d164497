// Questions from a view to its kernel, and what shows whether there is one.
//
// A view in a saved notebook, or on a page of its own, has nobody to ask: `ready` stays false and
// the controls are not drawn. Any message of the kernel proves that it is there. A kernel that is
// busy with a cell may answer only when the cell is done (it depends on the kernel's version).

const PATIENCE = 400;
export const BUSY = "The kernel is busy with a cell: this is answered as soon as it is done.";

/** `changed()` is called when `ready` may have changed. */
export function makeAsker(model, changed) {
  const open = new Map();
  let count = 0;
  let heard = false;
  const hello = () => { if (model.get("controls")) model.send({ kind: "hello" }); };
  const lost = () => { // of the comm nothing more is known: ask whether someone is there
    heard = false;
    changed();
    hello();
  };
  model.on("comm_live_update", lost);
  hello();
  return {
    get ready() { return heard && model.get("controls") === true; },

    /** Take any message of the kernel. */
    receive(message) {
      if (!heard) {
        heard = true;
        changed();
      }
      const question = message?.kind === "answer" && open.get(message.id);
      if (!question) return;
      open.delete(message.id);
      clearTimeout(question.timer);
      const value = JSON.parse(message.json);
      if (message.ok) question.resolve(value);
      else question.reject(new Error(value));
    },

    /** A promise of the answer, or an Error whose message is for people; `waits(text)` is called
     * when it takes long. */
    ask(what, args, waits) {
      const id = ++count;
      return new Promise((resolve, reject) => {
        const timer = setTimeout(() => waits(BUSY), PATIENCE);
        open.set(id, { resolve, reject, timer });
        model.send({ kind: "ask", id, what, args });
      });
    },

    close() {
      model.off("comm_live_update", lost);
      for (const { timer } of open.values()) clearTimeout(timer);
      open.clear();
    },
  };
}
