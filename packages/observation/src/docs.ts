const PAGE = 'https://github.com/fastify-observability/fastify-observability/blob/main/docs/troubleshooting.md'

/** The sections of the page that warnings and errors lead to, by their anchors. */
export const SECTIONS = [
  'by-symptom',
  'wrong-options',
  'missing-packages',
  'nothing-is-exported',
  'delivery',
  'loaded-too-early',
  'two-copies-of-opentelemetry',
  'context-lost',
  'registered-late-or-twice',
  'logger-and-log-file',
  'functions-that-fail',
  'metrics-left-out',
  'health-and-pressure',
  'shutdown-and-crashes',
  'error-events',
  'profiles',
  'in-tests'
] as const

/** A section of the page, by its anchor. */
type DocsSection = (typeof SECTIONS)[number]

/** The address of a section of the documentation's page on troubles. */
export function docsOf(section: DocsSection): string {
  return `${PAGE}#${section}`
}

/** Whether it is such an address. */
export function isDocs(value: unknown): value is string {
  return typeof value === 'string' && value.startsWith(PAGE)
}

/** The fields of a warning, with the address of the section that explains it. */
export function withDocs(section: DocsSection, fields: object = {}): { docs: string } {
  return { ...fields, docs: docsOf(section) }
}

/** Gives an error the address of its section, which Node prints below the stack. */
export function documented<E extends Error>(error: E, section: DocsSection): E & { docs: string } {
  return Object.assign(error, { docs: docsOf(section) })
}
