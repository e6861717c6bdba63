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
const PACED: VariantName[] = ['bare', 'ours', 'ours-http']
export const REQUESTS = 1_000_000
export const PACED_MINUTES = 10

/** As many requests as each can take, of one fresh server after the other. @param names only these variants */
export async function* atFullLoad(ends: Ends, names?: VariantName[]): AsyncGenerator<Memory> {
  for (const server of SERVERS.filter(({ variant }) => names?.includes(variant) ?? true))
    yield await rssAfter(server, { requests: REQUESTS }, ends)
}

/** The rate at which callers come, of all servers at the same time: it leaves their core half idle. */
export async function atPace(ends: Ends): Promise<Memory[]> {
  const load = { requests: PACED_MINUTES * 60 * PACE_PER_SECOND, perSecond: PACE_PER_SECOND }
  return Promise.all(PACED.map((variant) => rssAfter({ variant, flags: [] }, load, ends)))
}

async function rssAfter(
  { variant, flags }: Server,
  load: { requests: number; perSecond?: number },
  ends: Ends
): Promise<Memory> {
  const generator = startGenerator()
  const server = await start(variant, { ends, flags })
  try {
    await costOf(server, { url: server.url + SMALL, ...load }, generator)
    const { rssBytes } = await server.usage()
    return { what: [variant, ...flags].join(' '), rssBytes }
  } finally {
    await server.stop()
    await generator.stop()
  }
}
