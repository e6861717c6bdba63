import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { startIngest } from '@fastify-observability/testing/ingest'
import { type Test, test } from 'tap'
import { watchCrashes } from '../src/crash.ts'

const CRASHING = fileURLToPath(new URL('crashing.ts', import.meta.url))

/** How the process ends, and whether its error stands in standard error. */
async function run(how: string, dsn: string[] = [], flags: string[] = []) {
  const child = spawn(process.execPath, [...flags, CRASHING, how, ...dsn])
  const [[code], error] = await Promise.all([once(child, 'exit'), text(child.stderr)])
  return { code, isSaid: /uncaught|unhandled/.test(error) }
}

/** The end of the process, which is the same without the plugin, and the levels of its events. */
async function crash(t: Test, how: string, flags: string[] = []) {
  const ingest = await startIngest()
  t.teardown(() => ingest.close())
  const [bare, observed] = await Promise.all([run(how, [], flags), run(how, [ingest.dsn], flags)])
  t.same(observed, bare)
  return [observed.code, ...ingest.events.map(({ level }) => level)]
}

test('sends an uncaught exception, which ends the process', async (t) => {
  t.same(await crash(t, 'throw'), [1, 'fatal'])
})

test('sends an unhandled rejection, which ends the process', async (t) => {
  t.same(await crash(t, 'reject'), [1, 'fatal'])
  t.same(await crash(t, 'reject, no longer handled'), [1, 'fatal'])
})

test('sends both where the application lives on, and lets it', async (t) => {
  t.same(await crash(t, 'throw, caught'), [0, 'error'])
  t.same(await crash(t, 'reject, handled'), [0, 'error'])
})

test('lets the application live on whose listener is there once', async (t) => {
  t.same(await crash(t, 'throw, caught once'), [0, 'error'])
})

test('ends, or does not, by what it cannot read as it does without the plugin', async (t) => {
  t.same(await crash(t, 'throw what cannot be read, caught'), [0])
  t.equal((await run('throw what cannot be read', ['http://key@127.0.0.1:1/1'])).code, 1)
})

test('leaves it to Node whether a rejection ends the process', async (t) => {
  t.same(await crash(t, 'reject', ['--unhandled-rejections=warn']), [0])
})

test('ends with the code of Node by what can be neither captured nor printed', async (t) => {
  t.equal((await run('throw what cannot be shown', ['http://key@127.0.0.1:1/1'])).code, 1)
})

test('throws nothing at Node when an error cannot be captured', async (t) => {
  const handled = (): void => undefined
  process.on('uncaughtException', handled)
  const capture = (): never => {
    throw new Error('no')
  }
  const { stop } = watchCrashes(capture, async () => undefined)
  const [first] = process.listeners('uncaughtException')
  t.doesNotThrow(() => first?.(new Error('uncaught'), 'uncaughtException'))
  stop()
  process.off('uncaughtException', handled)
})
