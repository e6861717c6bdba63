const PAGE = 'https://github.com/fastify-observability/fastify-observability/blob/main/docs/troubleshooting.md'

/** A section of the page, by its anchor. */
export type DocsSection = 'by-symptom' | 'registered-late-or-twice' | 'wrong-options'

/** The address of a section of the documentation's page on troubles. */
export function docsOf(section: DocsSection): string {
  return `${PAGE}#${section}`
}

/** Gives an error the address of its section, which Node prints below the stack. */
export function documented<E extends Error>(error: E, section: DocsSection): E & { docs: string } {
  return Object.assign(error, { docs: docsOf(section) })
}
