import { once } from 'node:events'
import { createServer } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import type { Cell } from '../cell.ts'
import { until } from '../patience.ts'
import { scrape } from '../scrape.ts'
import type { Stage } from '../stage.ts'

const POLL_MS = 200

async function readiness({ service }: Stage): Promise<number> {
  return (await fetch(`${service.origin}/health/ready`)).status
}

/** What the service needs. */
interface Dependency {
  url: string
  state: 'up' | 'killed' | 'frozen' | 'flapping'
  set(state: Dependency['state']): Promise<void>
  close(): void
}

async function startDependency(): Promise<Dependency> {
  let calls = 0
  const server = createServer((_request, response) => {
    if (dependency.state === 'frozen') return
    response.writeHead(dependency.state === 'flapping' && ++calls % 2 ? 500 : 200).end()
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as AddressInfo
  const dependency: Dependency = {
    url: `http://127.0.0.1:${port}`,
    state: 'up',
    async set(state) {
      if (state === 'killed') dependency.close()
      else if (!server.listening) await once(server.listen(port, '127.0.0.1'), 'listening')
      dependency.state = state
    },
    close() {
      server.close()
      server.closeAllConnections()
    }
  }
  return dependency
}

function failing(state: Dependency['state'], expected: string): Cell {
  let dependency: Dependency
  return {
    name: `health: what the service needs is ${state}`,
    expected,
    setting: async () => {
      dependency = await startDependency()
      return { env: { DEPENDENCY: dependency.url }, release: dependency.close }
    },
    async begin(stage) {
      const statuses = new Set<number>()
      await dependency.set(state)
      const timer = setInterval(async () => statuses.add(await readiness(stage)), POLL_MS)
      return async () => {
        await until(() => statuses.has(503))
        clearInterval(timer)
        await dependency.set('up')
        while ((await readiness(stage)) !== 200) await wait(POLL_MS)
        return Number(statuses.has(503))
      }
    }
  }
}

export const probeCells: Cell[] = [
  {
    name: 'metrics: collectors that throw, hang and reject',
    expected: 'every scrape answers, without them',
    async begin(stage) {
      await stage.cause('collectors')
      return async () => {
        const scraped = await scrape(stage.service.origin)
        await stage.cause('collectors')
        const isAnswered = scraped.has('process_resident_memory_bytes') && !scraped.has('throwing')
        return Number(isAnswered)
      }
    }
  },
  {
    name: 'metrics: 60 readers that do not read',
    expected: 'nothing lost',
    begin({ service }) {
      const sockets = Array.from({ length: 60 }, () =>
        connect(Number(new URL(service.origin).port), '127.0.0.1').on('error', () => undefined)
      )
      for (const socket of sockets) socket.pause().write('GET /metrics HTTP/1.1\r\nhost: shop\r\n\r\n'.repeat(20))
      return () => {
        for (const socket of sockets) socket.destroy()
        return sockets.length
      }
    }
  },
  failing('killed', 'not ready, then ready again; requests are served'),
  failing('frozen', 'not ready, then ready again; requests are served'),
  failing('flapping', 'ready and not ready; requests are served')
]
