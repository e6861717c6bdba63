import { spawnSync } from 'node:child_process'
import { besideLoad, load, type Running } from './process.ts'
import { type Round, SMALL, start } from './sample.ts'
import type { Ends, VariantName } from './variants.ts'

const ROUNDS = 5
const SECONDS = 3
const CONNECTIONS = 64
const WARM_UP = 100_000

export function hasWrk(): boolean {
  // It ends with 1 after its version.
  return spawnSync('wrk', ['--version']).error === undefined
}

/** Rounds of turns at full load by wrk, whose own cost is so small that nothing waits for it. */
export async function wrkRounds(names: VariantName[], ends: Ends, tell: (progress: string) => void): Promise<Round[]> {
  const servers = new Map<VariantName, Running>()
  const rounds: Round[] = []
  try {
    for (const name of names) {
      tell(`wrk: warming up ${name}`)
      const server = await start(name, { ends })
      servers.set(name, server)
      await load({ url: server.url + SMALL, requests: WARM_UP })
      await turn(server)
    }
    while (rounds.length < ROUNDS) {
      const round: Round = {}
      for (const [name, server] of servers) {
        tell(`wrk: ${rounds.length} of ${ROUNDS} rounds, ${name}`)
        round[name] = await turn(server)
      }
      rounds.push(round)
    }
    return rounds
  } finally {
    for (const server of servers.values()) await server.stop()
  }
}

async function turn(server: Running): Promise<NonNullable<Round[VariantName]>> {
  const [command, args] = besideLoad('wrk', [`-t1`, `-c${CONNECTIONS}`, `-d${SECONDS}s`, server.url + SMALL])
  const before = await server.usage()
  const { stdout } = spawnSync(command, args, { encoding: 'utf8' })
  const after = await server.usage()
  const [, requests, perSecond] = /(\d+) requests in.*Requests\/sec:\s+([\d.]+)/s.exec(stdout) ?? []
  if (requests === undefined || stdout.includes('Non-2xx')) throw new Error(`wrk says ${stdout}`)
  return {
    full: {
      userUs: (after.userUs - before.userUs) / Number(requests),
      systemUs: (after.systemUs - before.systemUs) / Number(requests),
      perSecond: Number(perSecond),
      // It measures them of other requests than the table does.
      p50Ms: Number.NaN,
      p99Ms: Number.NaN
    },
    rssBytes: after.rssBytes
  }
}
