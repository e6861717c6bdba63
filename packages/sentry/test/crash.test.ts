import { test } from 'tap'
import { watchCrashes } from '../src/crash.ts'
import { crash, run } from './crashed.ts'

test('sends an uncaught exception, which ends the process', async (t) => {
  t.same(await crash(t, 'throw'), [1, 'fatal'])
})

test('sends an unhandled rejection, which ends the process', async (t) => {
  t.same(await crash(t, 'reject'), [1, 'fatal'])
  t.same(await crash(t, 'reject, no longer handled'), [1, 'fatal'])
})

test('ends, or does not, by what it cannot read as it does without the plugin', async (t) => {
  t.same(await crash(t, 'throw what cannot be read, caught'), [0])
  t.equal((await run('throw what cannot be read', ['http://key@127.0.0.1:1/1'])).code, 1)
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
