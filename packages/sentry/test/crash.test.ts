import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { startIngest } from '@fastify-observability/testing/ingest'
import { type Test, test } from 'tap'

const CRASHING = fileURLToPath(new URL('crashing.ts', import.meta.url))

/** How the process ends, what it has said to standard output, and whether its error stands in standard error. */
async function run(how: string, dsn: string[] = [], flags: string[] = []) {
  const child = spawn(process.execPath, [...flags, CRASHING, how, ...dsn])
  const [[code], output, error] = await Promise.all([once(child, 'exit'), text(child.stdout), text(child.stderr)])
  return { code, output, isSaid: /uncaught|unhandled/.test(error) }
}

/** The end of the process, which is the same without the plugin, and the events. */
async function crash(t: Test, how: string, flags: string[] = []) {
  const ingest = await startIngest()
  t.teardown(() => ingest.close())
  const [bare, observed] = await Promise.all([run(how, [], flags), run(how, [ingest.dsn], flags)])
  t.same(observed, bare)
  return { ...observed, events: ingest.events }
}

test('sends an uncaught exception, which ends the process', async (t) => {
  const { code, output, events } = await crash(t, 'throw')
  t.same([code, output], [1, ''])
  t.match(events, [{ level: 'fatal', exception: { values: [{ value: 'uncaught', mechanism: { handled: false } }] } }])
})

test('sends an unhandled rejection, which ends the process', async (t) => {
  for (const how of ['reject', 'reject with no error', 'reject, no longer handled']) {
    const { code, output, events } = await crash(t, how)
    t.same([code, output, events.length, events[0]?.level], [1, '', 1, 'fatal'])
  }
})

test('sends both where the application lives on, and lets it', async (t) => {
  for (const how of ['throw, caught', 'reject, handled', 'reject, caught']) {
    const { code, output, events } = await crash(t, how)
    t.same([code, output, events.length, events[0]?.level], [0, 'alive', 1, 'error'])
  }
})

test('leaves it to Node whether a rejection ends the process', async (t) => {
  const { code, output, events } = await crash(t, 'reject', ['--unhandled-rejections=warn'])
  t.same([code, output, events], [0, 'alive', []])
})

test('ends a process that crashes or closes while the ingest hangs', async (t) => {
  const ingest = await startIngest()
  ingest.answer = 'hang'
  t.teardown(() => ingest.close())
  t.match(await run('throw', [ingest.dsn]), { code: 1 })
  t.match(await run('fail, and close', [ingest.dsn]), { code: 0 })
  t.equal(ingest.events.length, 2)
})
