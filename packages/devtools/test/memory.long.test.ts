import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { test } from 'tap'

const LOAD = fileURLToPath(new URL('load.ts', import.meta.url))
// V8 enlarges its space for new objects when it likes: here it has its size from the start.
const FLAGS = ['--expose-gc', '--min-semi-space-size=16', '--max-semi-space-size=16']
const execute = promisify(execFile)

test('10,000 requests leave at most 16 MiB more than without the page', async (t) => {
  const [off, on] = await Promise.all(
    ['off', 'on'].map(async (page) => Number((await execute(process.execPath, [...FLAGS, LOAD, page])).stdout))
  )
  t.ok(Number.isFinite(off) && Number.isFinite(on))
  t.ok(Number(on) - Number(off) <= 16, `${on} MiB, without ${off}`)
})
