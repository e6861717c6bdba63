import { test } from 'tap'
import { checkViews, endBrowser, skip } from './browser.ts'

for (const [what, options] of [
  ['400 pixels wide', { viewport: { width: 400, height: 800 } }],
  ['in the dark', { colorScheme: 'dark' }]
] as const) {
  test(`each view has data, fits and is accessible ${what}`, { skip }, async (t) => checkViews(t, what, options))
}

test('the browser ends', { skip }, async (t) => t.ok(await endBrowser()))
