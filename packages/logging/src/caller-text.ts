// Callers choose paths and user agents, of up to 16 KiB each: many of those would fill a disk with what no one reads.
const MAX_LENGTH = 1_024

/** As much of a caller's text as stands in a line. */
export function shortened(text: string): string {
  return text.length <= MAX_LENGTH ? text : `${text.slice(0, MAX_LENGTH)}…[${text.length - MAX_LENGTH} more characters]`
}
