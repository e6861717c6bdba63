import { readFileSync } from 'node:fs'
import { test } from 'tap'
import { draw, written } from '../docs/terminal.ts'

/** A picture without what differs from run to run. */
function stable(svg: string): string {
  return svg
    .replace(/\d+:\d+:\d+\.\d+/g, 'time')
    .replace(/[\d.]+ ms/g, 'ms')
    .replace(/>[\da-f]{8}</g, '>id<')
    .replace(/127\.0\.0\.1:\d+/, 'address')
    .replace(/viewBox="[^"]*"/, '')
}

test('the picture in the README is what a terminal shows', async (t) => {
  const kept = readFileSync(new URL('../docs/terminal.svg', import.meta.url), 'utf8')
  t.equal(stable(kept), stable(draw(await written())))
})
