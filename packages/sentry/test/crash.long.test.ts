import { test } from 'tap'
import { crash } from './crashed.ts'

test('sends both where the application lives on, and lets it', async (t) => {
  t.same(await crash(t, 'throw, caught'), [0, 'error'])
  t.same(await crash(t, 'reject, handled'), [0, 'error'])
})

test('lets the application live on whose listener is there once', async (t) => {
  t.same(await crash(t, 'throw, caught once'), [0, 'error'])
})

test('leaves it to Node whether a rejection ends the process', async (t) => {
  t.same(await crash(t, 'reject', ['--unhandled-rejections=warn']), [0])
})
