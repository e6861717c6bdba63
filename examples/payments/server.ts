import { buildApp } from './app.ts'
import { readSettings, SettingError } from './settings.ts'

async function serve(): Promise<void> {
  const { host, port, ...options } = readSettings(process.env)
  const app = await buildApp(options)
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => app.close())
  try {
    await app.listen({ host, port })
  } catch (error) {
    await app.close()
    throw portInUse(error, port)
  }
}

function portInUse(error: unknown, port: number): unknown {
  if (!(error instanceof Error && 'code' in error && error.code === 'EADDRINUSE')) return error
  const sentence = `Port ${port} is already in use: stop what listens there, or set another one, such as PORT=8081.`
  return new SettingError(sentence, { cause: error })
}

serve().catch((error) => {
  // What the operator got wrong is one sentence; anything else is a bug and keeps its stack.
  console.error(error instanceof SettingError ? error.message : error)
  process.exitCode = 1
})
