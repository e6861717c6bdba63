/**
 * How late a process may be on a machine that is busy with other work, in milliseconds: what a test allows beyond the deadline
 * that it proves. Less than the ten seconds after which a call to a collector ends by itself.
 */
export const STARVED_MS = 7_500

/** How long a test waits for what has to come at once on an idle machine, in milliseconds. */
export const PATIENCE_MS = 120_000
