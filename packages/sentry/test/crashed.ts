import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { startIngest } from '@fastify-observability/testing/ingest'
import type { Test } from 'tap'

const CRASHING = fileURLToPath(new URL('crashing.ts', import.meta.url))

/** How the process ends, and whether its error stands in standard error. */
export async function run(how: string, dsn: string[] = [], flags: string[] = []) {
  const child = spawn(process.execPath, [...flags, CRASHING, how, ...dsn])
  const [[code], error] = await Promise.all([once(child, 'exit'), text(child.stderr)])
  return { code, isSaid: /uncaught|unhandled/.test(error) }
}

/** The end of the process, which is the same without the plugin, and the levels of its events. */
export async function crash(t: Test, how: string, flags: string[] = []) {
  const ingest = await startIngest()
  t.teardown(() => ingest.close())
  const [bare, observed] = await Promise.all([run(how, [], flags), run(how, [ingest.dsn], flags)])
  t.same(observed, bare)
  return [observed.code, ...ingest.events.map(({ level }) => level)]
}
