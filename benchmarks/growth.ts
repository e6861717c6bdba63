import { setTimeout as sleep } from 'node:timers/promises'
import type { Load } from './load.ts'
import { load, type Running } from './process.ts'
import { SETTLE_MS, SMALL, start } from './sample.ts'
import { median } from './statistics.ts'
import type { Ends, VariantName } from './variants.ts'

/** What the cost of a request, or of a scrape, depends on. */
interface Axis {
  /** What there is more and more of. */
  what: string
  /** What costs that much. */
  of: 'request' | 'scrape'
  /** How the cost may grow with it. */
  growth: 'linear' | 'flat'
  points: number[]
  variants: VariantName[]
  load(point: number): { path: string } & Pick<Load, 'paths' | 'connections'>
  /** The number of routes beside the others. */
  routes?(point: number): number
  /** Asked for once, before the others. */
  prepare?(point: number): string
}

/** CPU time in µs at each point. */
export interface Growth extends Pick<Axis, 'what' | 'of' | 'growth' | 'points'> {
  costs: { name: VariantName; us: number[] }[]
}

const AXES: Axis[] = [
  {
    what: 'routes',
    of: 'request',
    growth: 'flat',
    points: [1, 10, 100],
    variants: ['bare', 'ours', 'hand-wired'],
    routes: (point) => point,
    load: (point) => {
      // As many paths for one route as for all: what differs from request to request costs something too.
      const [path = '', ...paths] = Array.from({ length: PATHS }, (_, index) => `/route-${index % point}/${index}`)
      return { path, paths }
    }
  },
  {
    what: 'log lines a request',
    of: 'request',
    growth: 'linear',
    points: [0, 10, 100],
    variants: ['bare', 'ours', 'hand-wired'],
    load: (point) => ({ path: `/lines/${point}` })
  },
  {
    what: 'spans a request',
    of: 'request',
    growth: 'linear',
    points: [0, 5, 50],
    variants: ['bare', 'ours', 'ours-0', 'hand-wired'],
    load: (point) => ({ path: `/spans/${point}` })
  },
  {
    what: 'series at a scrape',
    of: 'scrape',
    growth: 'linear',
    points: [10, 100, 1_000, 10_000],
    variants: ['ours', 'hand-wired'],
    prepare: (point) => `/series/${point}`,
    load: () => ({ path: '/metrics', connections: 1 })
  },
  {
    what: 'connections',
    of: 'request',
    growth: 'flat',
    points: [100, 1_000, 5_000],
    variants: ['bare', 'ours', 'hand-wired'],
    load: (point) => ({ path: SMALL, connections: point })
  }
]
const PATHS = 100
const STARTS = 2
const ROUNDS = 3
const TURN_SECONDS = 0.8
const WARM_UP_REQUESTS = 20_000
const WARM_UP_SECONDS = 3
/** Files that a process has open beside its connections. */
const OTHER_FILES = 100

/** One axis after the other, each with servers of its own. */
export async function measureGrowth(
  ends: Ends,
  tell: (progress: string) => void
): Promise<{ growths: Growth[]; missing: string[] }> {
  const most = openFiles() - OTHER_FILES
  const growths: Growth[] = []
  const missing: string[] = []
  for (const axis of AXES) {
    const points = axis.points.filter((point) => (axis.load(point).connections ?? 0) <= most)
    for (const point of axis.points.filter((point) => !points.includes(point))) {
      missing.push(`${point} connections: a process may have ${openFiles()} files open here (ulimit -Hn)`)
    }
    growths.push(await measure({ ...axis, points }, ends, tell))
  }
  return { growths, missing }
}

async function measure(axis: Axis, ends: Ends, tell: (progress: string) => void): Promise<Growth> {
  const { what, of, growth, points, variants } = axis
  const taken = variants.map((name) => ({ name, turns: points.map((): number[] => []) }))
  for (let count = 1; count <= STARTS; count++) {
    const servers = new Map<VariantName, Running>()
    try {
      for (const [index, point] of points.entries()) {
        tell(`${what}: ${point}, start ${count} of ${STARTS}`)
        for (const { name } of taken) {
          // The others go on with what they have.
          if (servers.has(name) && !axis.routes) continue
          await servers.get(name)?.stop()
          const server = await start(name, { ends, routes: axis.routes?.(point) ?? 0 })
          servers.set(name, server)
          await load({ url: server.url + SMALL, requests: WARM_UP_REQUESTS, seconds: WARM_UP_SECONDS })
        }
        const prepared = axis.prepare?.(point)
        if (prepared) for (const { url } of servers.values()) await (await fetch(url + prepared)).text()
        // The first turn is for nothing.
        for (let round = 0; round <= ROUNDS; round++) {
          for (const { name, turns } of taken) {
            const server = servers.get(name)
            const us = server && (await turn(server, axis.load(point)))
            if (round > 0 && us !== undefined) turns[index]?.push(us)
          }
        }
      }
    } finally {
      for (const server of servers.values()) await server.stop()
    }
  }
  return { what, of, growth, points, costs: taken.map(({ name, turns }) => ({ name, us: turns.map(median) })) }
}

/** CPU time a request in µs, without opening and closing the connections. */
async function turn(server: Running, { path, ...asked }: ReturnType<Axis['load']>): Promise<number> {
  let before = 0
  let after = 0
  const { requests } = await load(
    { url: server.url + path, requests: Number.MAX_SAFE_INTEGER, seconds: TURN_SECONDS, ...asked },
    {
      async connected() {
        await sleep(SETTLE_MS)
        before = await cpuTime(server)
      },
      async answered() {
        await sleep(SETTLE_MS)
        after = await cpuTime(server)
      }
    }
  )
  return (after - before) / requests
}

async function cpuTime(server: Running): Promise<number> {
  const { userUs, systemUs } = await server.usage()
  return userUs + systemUs
}

/** Node raises the soft limit to the hard one. */
function openFiles(): number {
  const limits: { userLimits?: { open_files?: { hard: number | 'unlimited' } } } = process.report.getReport()
  const hard = limits.userLimits?.open_files?.hard
  return typeof hard === 'number' ? hard : Number.POSITIVE_INFINITY
}

/** What one more costs, between the first point and the last. */
export function marginalUs(points: number[], us: number[]): number {
  return slope(points, us, 0, points.length - 1)
}

/** By how much the last step's cost of one more exceeds that of the step before, and may. */
const LINEAR = 1.5
/** By how much the dearest point may exceed the cheapest. */
const FLAT = 1.25

/** Whether costs grow as they may, and the figure that says so. */
export function judge(growth: Axis['growth'], points: number[], us: number[]): { isFine: boolean; times: number } {
  const last = points.length - 1
  const times =
    growth === 'flat'
      ? Math.max(...us) / Math.min(...us)
      : slope(points, us, last - 1, last) / slope(points, us, last - 2, last - 1)
  return { isFine: times <= (growth === 'flat' ? FLAT : LINEAR), times }
}

function slope(points: number[], us: number[], from: number, to: number): number {
  const [x = 0, y = 0, a = 0, b = 0] = [points[to], us[to], points[from], us[from]]
  return (y - b) / (x - a)
}
