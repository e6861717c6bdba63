import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile } from 'node:fs/promises'
import { registerHooks } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { test } from 'tap'
import { createLogger } from '../src/index.ts'

const CRASH = fileURLToPath(new URL('crash.ts', import.meta.url))

test('writes what is buffered when the process exits or crashes', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'crash-'))
  for (const how of ['exit', 'crash']) {
    const file = join(folder, `${how}.log`)
    const child = spawn(process.execPath, [CRASH, how, file], { stdio: ['ignore', 'pipe', 'ignore'] })
    const [stdout] = await Promise.all([text(child.stdout), once(child, 'exit')])
    for (const output of [stdout, await readFile(file, 'utf8')]) {
      const lines = output.trimEnd().split('\n')
      t.equal(lines.length, 1000, how)
      t.match(JSON.parse(lines.at(-1) ?? ''), { line: 1000 })
    }
  }
})

test('writes what is logged after close and right before the exit', async (t) => {
  const file = join(await mkdtemp(join(tmpdir(), 'crash-')), 'app.log')
  const child = spawn(process.execPath, [CRASH, 'close', file], { stdio: ['ignore', 'pipe', 'ignore'] })
  const [stdout] = await Promise.all([text(child.stdout), once(child, 'exit')])
  t.match(JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? ''), { msg: 'after close' })
})

test('writes its own pretty rows with one warning when pino-pretty is not installed', async (t) => {
  registerHooks({
    resolve: (specifier, context, next) =>
      next(specifier === 'pino-pretty' ? 'not-installed-pretty' : specifier, context)
  })
  const lines: string[] = []
  const log = createLogger({ format: 'pino-pretty', stream: { write: (line) => lines.push(line) } })
  log.info('first')
  await new Promise(setImmediate)
  log.info('second')
  t.match(lines, [
    / INFO {2}first\n$/,
    / WARN .*pino-pretty is not installed, format "pretty" is used docs=\S+#missing-packages\n$/,
    /second\n$/
  ])
  t.equal(lines.length, 3)
})
