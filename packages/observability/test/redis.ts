import { type SpawnSyncReturns, spawn, spawnSync } from 'node:child_process'
import { freePorts } from '@fastify-observability/testing/ports'
import type { Test } from 'tap'

const probe: SpawnSyncReturns<Buffer> = spawnSync('redis-server', ['--version'])
export const NO_REDIS: string | false = probe.status !== 0 && 'Redis is not installed'

/** A real one, without anything on the disk. */
export async function startRedis(t: Test): Promise<{ host: string; port: number }> {
  const [port = 0] = await freePorts(1)
  const child = spawn('redis-server', ['--port', String(port), '--bind', '127.0.0.1', '--save', ''])
  t.teardown(() => child.kill())
  for await (const text of child.stdout) if (String(text).includes('Ready to accept connections')) break
  return { host: '127.0.0.1', port }
}
