// Tables keyed by names that come from outside have no prototype, so that a state called
// "__proto__" is a name like any other.

export const table = () => Object.create(null);
