import { basename, dirname } from 'node:path'

/** A fenced block of a page, with what the comment above it says. */
export interface Block {
  /** Page and line, as editors open them. */
  place: string
  line: number
  language: string
  code: string
  /** Of the file that its first comment names, such as `// server.ts`. */
  name: string | undefined
  /** Why it is not run. */
  unrun: string | undefined
  /** What `<!-- run: … -->` says. */
  needs: Needs
}

/** What `<!-- run: with=pool,app needs=redis -->` says that a block needs, answers and prints. */
interface Needs {
  /** Names in `parts.ts` of what the block uses and does not define. */
  with: string[]
  /** Files of `parts.ts` that lie beside it. */
  files: string[]
  /** A server that it asks. */
  needs: 'redis' | undefined
  /** What a line of its output is, as JSON, or a regular expression that one matches. */
  prints: string | undefined
  /** Routes, separated by commas, that answer 500 and above. */
  fails: string[]
  /** Environment, such as `PORT=1,HOST=::1`. */
  env: Record<string, string>
  /** The file of this repository that it is copied from, where another program runs that. */
  from: string | undefined
  /** The file of `parts.ts` that is started before, for it and the blocks below to ask. */
  service: string | undefined
  /** It starts a service that the blocks below ask: it runs until the page ends. */
  starts: boolean
  /** It ends by itself, with nobody closing its app. */
  ends: boolean
}

const FENCE = /(?:^<!-- (run|not run): (.+?) -->\n)?^(`{3,})(\S*)\n(.*?)^\3$/gms
const WORD = /(\w+)(?:=(\{.*?\}|\S+))?/g
const NAME = /^(?:\/\/|#) ([\w.-]+\.(?:[cm]?[jt]s|json|ya?ml|conf))$/

/** The fenced blocks of a page, in their order. */
export function blocksOf(page: string, text: string): Block[] {
  return Array.from(text.matchAll(FENCE), (match) => {
    const [, kind, words = '', , language = '', code = ''] = match
    const line = text.slice(0, match.index).split('\n').length + (kind ? 1 : 0)
    const place = `${page}:${line}`
    return {
      place,
      line,
      language,
      code,
      name: NAME.exec(code.split('\n', 1)[0] ?? '')?.[1],
      unrun: kind === 'not run' ? words : undefined,
      needs: needsOf(kind === 'run' ? words : '', place)
    }
  })
}

/** The folder of a page's blocks: `packages/health/README.md` is `packages-health`. */
export function folderOf(page: string): string {
  const name = basename(page, '.md')
  const path = name === 'README' ? dirname(page) : `${dirname(page)}/${name}`
  return path === '.' ? 'readme' : path.replace(/[./]+/g, '-')
}

function needsOf(words: string, place: string): Needs {
  const given = new Map(Array.from(words.matchAll(WORD), ([, key = '', value = '']) => [key, value]))
  function take(key: string): string | undefined {
    const value = given.get(key)
    given.delete(key)
    return value
  }
  const list = (key: string): string[] => take(key)?.split(',') ?? []
  const server = take('needs')
  if (server !== undefined && server !== 'redis') throw new Error(`${place}: no server is known as ${server}`)
  const needs: Needs = {
    with: list('with'),
    files: list('files'),
    needs: server,
    prints: take('prints'),
    fails: list('fails'),
    env: Object.fromEntries(list('env').map((pair) => pair.split('=', 2))),
    from: take('from'),
    service: take('service'),
    starts: take('starts') !== undefined,
    ends: take('ends') !== undefined
  }
  if (given.size > 0) throw new Error(`${place}: nothing is known of ${[...given.keys()].join(', ')} in "run:"`)
  return needs
}
