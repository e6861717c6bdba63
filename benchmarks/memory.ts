import { startGenerator } from './process.ts'
import { costOf, PACE_PER_SECOND, SMALL, start } from './sample.ts'
import type { Ends, VariantName } from './variants.ts'

/** RSS at the end of much load, of a variant or of one with a flag of Node's. */
export interface Memory {
  what: string
  rssBytes: number
}

interface Server {
  variant: VariantName
  flags: string[]
}

const SERVERS: Server[] = [
  { variant: 'bare', flags: [] },
  { variant: 'ours', flags: [] },
  { variant: 'ours', flags: ['--max-semi-space-size=16'] },
  { variant: 'ours', flags: ['--max-semi-space-size=8'] },
  { variant: 'ours-http', flags: [] },
  { variant: 'hand-wired', flags: [] }
]
const PACED: Server[] = [
  { variant: 'bare', flags: [] },
  { variant: 'ours', flags: [] },
  { variant: 'ours', flags: ['--max-semi-space-size=16'] },
  { variant: 'ours-http', flags: [] }
]
export const FULL_LOAD_REQUESTS = 1_000_000
export const PACED_MINUTES = 10

/**
 * As many requests as each can take, of one fresh server after the other.
 * @param names only these variants
 */
export async function* atFullLoad(
  ends: Ends,
  tell: (progress: string) => void,
  names?: VariantName[]
): AsyncGenerator<Memory> {
  for (const server of SERVERS.filter(({ variant }) => names?.includes(variant) ?? true)) {
    tell(`memory of ${nameOf(server)}`)
    yield await rssAfter(server, { requests: FULL_LOAD_REQUESTS }, ends)
  }
}

/** The rate at which callers come, of all servers at the same time: it leaves the core that they share half idle. */
export async function atPace(ends: Ends, tell: (progress: string) => void): Promise<Memory[]> {
  tell(`memory at ${PACE_PER_SECOND} requests/s: ${PACED_MINUTES} minutes`)
  const load = { requests: PACED_MINUTES * 60 * PACE_PER_SECOND, perSecond: PACE_PER_SECOND }
  return Promise.all(PACED.map((server) => rssAfter(server, load, ends)))
}

function nameOf({ variant, flags }: Server): string {
  return [variant, ...flags].join(' ')
}

async function rssAfter(asked: Server, load: { requests: number; perSecond?: number }, ends: Ends): Promise<Memory> {
  const server = await start(asked.variant, { ends, flags: asked.flags })
  const generator = startGenerator()
  try {
    await costOf(server, { url: server.url + SMALL, ...load }, generator)
    const { rssBytes } = await server.usage()
    return { what: nameOf(asked), rssBytes }
  } finally {
    await server.stop()
    await generator.stop()
  }
}
