import { spawn } from 'node:child_process'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'

/** What a function that is frozen at its answer has written and answered. */
export async function invoke(TARGET: string, env: NodeJS.ProcessEnv) {
  const { stdout, stderr } = spawn(process.execPath, [fileURLToPath(new URL('frozen.ts', import.meta.url))], {
    env: { ...process.env, LOG_FORMAT: 'json', ...env, TARGET }
  })
  const [lines, answer] = await Promise.all([text(stdout), text(stderr)])
  return { answer, messages: Array.from(lines.matchAll(/"msg":"(in the handler|request .*?)"/g), ([, msg]) => msg) }
}
