import { closeSync, openSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Load } from './load.ts'
import { type Generator, load, type Running, startServer } from './process.ts'
import { hasSettled } from './settling.ts'
import { type Ends, type Variant, type VariantName, variants } from './variants.ts'

/** CPU time a request of the server's process, all its threads together. */
export interface Cost {
  userUs: number
  systemUs: number
  perSecond: number
  p50Ms: number
  p99Ms: number
}

/** What one server took in one round. */
export interface Sample {
  /** As many requests as it can take. */
  full: Cost
  /** The same request at a fixed rate. */
  paced?: Cost
  /** One query each, as many as it can take. */
  stored?: Cost
  /** What a request allocates in V8's heap, measured once a start, in a turn of its own. */
  allocatedBytes?: number
  rssBytes: number
}

/** The samples of one round, taken one after the other. */
export type Round = Partial<Record<VariantName, Sample>>

export interface Plan {
  names: readonly VariantName[]
  ends: Ends
  rounds: number
  /** The servers are started anew after so many rounds, because no two compile alike. */
  roundsAStart: number
  isPaced: boolean
  /** Of a turn at full load. @default 20480 */
  requests?: number
  /** Requests before the first round. @default as many as it takes until they cost no less, from 80000 to 400000 */
  warmUp?: number
  /** Variants that are asked for a query too. */
  stored: VariantName[]
  databaseUrl?: string
}

export const PACE_PER_SECOND = 1_000
/** What every variant answers without a query. */
export const SMALL = '/users/17'
const STORED = '/stored-users/17'
// The compiler is at work for the longer the more code there is.
const WARM_UP_TURN = 20_000
const WARM_UP_TURNS = 20
// Spans leave in batches of 512: no round leaves any to the next one. Each turn begins with a scrape, and Prometheus asks
// once a second: so many take about that long.
const REQUESTS = 40 * 512
const STORED_REQUESTS = 16 * 512
// The slowest hundredth of them is 20.
const PACED_REQUESTS = 4 * 512
/** For the last batch of spans, which is still on its way when the last answer has come. */
export const SETTLE_MS = 30
const SCRAPE_MS = 1_000
const TRIES = 50
const TRY_MS = 100

/**
 * Rounds of short turns, A B C A B C, of servers that stay up: what slows the machine for a second or two hits all of
 * them alike. Those of one start of the servers are an array.
 */
export async function takeStarts(plan: Plan, tell: (progress: string) => void): Promise<Round[][]> {
  const starts: Round[][] = []
  for (let taken = 0; taken < plan.rounds; taken += plan.roundsAStart) {
    const count = Math.min(plan.roundsAStart, plan.rounds - taken)
    starts.push(await takeFromOneStart(plan, count, (what) => tell(`${taken} of ${plan.rounds} rounds, ${what}`)))
  }
  return starts
}

async function takeFromOneStart(plan: Plan, rounds: number, tell: (progress: string) => void): Promise<Round[]> {
  const servers = new Map<VariantName, Running>()
  const allocated = new Map<VariantName, number | undefined>()
  const taken: Round[] = []
  try {
    for (const name of plan.names) {
      tell(`warming up ${name}`)
      const server = await start(name, plan)
      servers.set(name, server)
      await warmUp(server, server.url + SMALL, plan)
      if (isStored(plan, name)) await warmUp(server, server.url + STORED, plan)
      // A turn for nothing: code that meets something new, such as a rate, is compiled again.
      await sampleOf(server, plan, isStored(plan, name))
      allocated.set(name, await allocationOf(server, plan))
    }
    for (let index = 0; index < rounds; index++) {
      const round: Round = {}
      for (const [name, server] of servers) {
        tell(`${index + 1} in this start, ${name}`)
        const sample = await sampleOf(server, plan, isStored(plan, name))
        const allocatedBytes = index === 0 ? allocated.get(name) : undefined
        round[name] = { ...sample, ...(allocatedBytes !== undefined && { allocatedBytes }) }
      }
      taken.push(round)
    }
    return taken
  } finally {
    for (const server of servers.values()) await server.stop()
  }
}

async function warmUp(server: Running, url: string, plan: Plan): Promise<void> {
  if (plan.warmUp !== undefined) {
    await costOf(server, { url, requests: plan.warmUp })
    return
  }
  const costs: number[] = []
  while (costs.length < WARM_UP_TURNS && !hasSettled(costs)) {
    const { userUs, systemUs } = await costOf(server, { url, requests: WARM_UP_TURN })
    costs.push(userUs + systemUs)
  }
}

function isStored({ databaseUrl, stored }: Plan, name: VariantName): boolean {
  return databaseUrl !== undefined && stored.includes(name)
}

/** A server whose standard output goes to a file, as a container's does. */
export async function start(
  variant: VariantName,
  options: { ends: Ends; databaseUrl?: string; flags?: string[]; routes?: number }
): Promise<Running> {
  const path = join(tmpdir(), `bench-${process.pid}-${variant}.log`)
  const log = openSync(path, 'w')
  // Gone with its last user, even when this process is killed.
  rmSync(path)
  const server = await startServer({ variant, log, ...options })
  closeSync(log)
  await untilItAnswers(server.url + SMALL)
  const { stream }: Variant = variants[variant]
  if (stream !== undefined) void read(server.url + stream)
  return server
}

/** Until the server ends. */
async function read(url: string): Promise<void> {
  const { body, status } = await fetch(url)
  if (status !== 200) throw new Error(`${url} answers with ${status}`)
  await body?.pipeTo(new WritableStream()).catch(() => undefined)
}

// under-pressure sheds for a second when loading took longer than one.
async function untilItAnswers(url: string): Promise<void> {
  for (let tries = 1; (await fetch(url)).status !== 200; tries++) {
    if (tries === TRIES) throw new Error(`${url} does not answer with 200`)
    await sleep(TRY_MS)
  }
}

async function sampleOf(server: Running, { isPaced, requests = REQUESTS }: Plan, isStored: boolean): Promise<Sample> {
  const url = server.url + SMALL
  const full = await costOf(server, { url, requests })
  const paced = isPaced && (await costOf(server, { url, requests: PACED_REQUESTS, perSecond: PACE_PER_SECOND }))
  const stored = isStored && (await costOf(server, { url: server.url + STORED, requests: STORED_REQUESTS }))
  const { rssBytes } = await server.usage()
  return { full, ...(paced && { paced }), ...(stored && { stored }), rssBytes }
}

async function allocationOf(server: Running, { requests = REQUESTS }: Plan): Promise<number | undefined> {
  await server.watchAllocation()
  await costOf(server, { url: server.url + SMALL, requests })
  const bytes = await server.allocatedBytes()
  return bytes === null ? undefined : bytes / requests
}

/** @param generator whose load it is; by default the one that all turns share */
export async function costOf(
  server: Running,
  asked: Load,
  generator: Pick<Generator, 'load'> = { load }
): Promise<Cost> {
  const before = await server.usage()
  await scrape(server)
  const scraper = setInterval(() => scrape(server), SCRAPE_MS)
  const { seconds, p50Ms, p99Ms } = await generator.load(asked)
  clearInterval(scraper)
  await sleep(SETTLE_MS)
  const after = await server.usage()
  return {
    userUs: (after.userUs - before.userUs) / asked.requests,
    systemUs: (after.systemUs - before.systemUs) / asked.requests,
    perSecond: asked.requests / seconds,
    p50Ms,
    p99Ms
  }
}

// As Prometheus would; what has no such route answers 404, like everything else.
async function scrape({ url }: Running): Promise<void> {
  const answer = await fetch(`${url}/metrics`).catch(() => undefined)
  await answer?.text().catch(() => undefined)
}
