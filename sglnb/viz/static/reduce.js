// The run view as a pure fold over the event log: the same fold, with the same JSON, as
// reduce.py. Each part has its file here and there; tests compare them on recorded logs.
//
// Events are plain objects as Event.to_dict() makes them.

import { initialHeader, reduceHeader } from "./reduce_header.js";
import { TOKEN_STEPS, initialTokens } from "./reduce_tokens.js";
import { TREE_STEPS, initialTree } from "./reduce_tree.js";
import { initialBranches, reduceBranches } from "./reduce_branches.js";
import { CONSTRAINT_STEPS, initialConstraint } from "./reduce_constraint.js";
import { initialProgram, reduceProgram } from "./reduce_program.js";
import { SCHEDULE_STEPS, initialSchedule } from "./reduce_schedule.js";

export function initial() {
  return {
    header: initialHeader(),
    tokens: initialTokens(),
    tree: initialTree(),
    branches: initialBranches(),
    constraint: initialConstraint(),
    program: initialProgram(),
    schedule: initialSchedule(),
  };
}

/** The view after one more event; may reuse the storage of `view`. */
export function reduce(view, event) {
  reduceHeader(view.header, event);
  TOKEN_STEPS[event.kind]?.(view.tokens, event);
  TREE_STEPS[event.kind]?.(view.tree, event);
  reduceBranches(view.branches, event);
  CONSTRAINT_STEPS[event.kind]?.(view.constraint, event);
  SCHEDULE_STEPS[event.kind]?.(view.schedule, event);
  reduceProgram(view.program, event);
  return view;
}

export function fold(events, view = initial()) {
  for (const event of events) reduce(view, event);
  return view;
}
