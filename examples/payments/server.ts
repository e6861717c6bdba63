import { buildApp } from './app.ts'

const { env } = process

/** What the operator got wrong is one sentence, without a stack. */
function refuse(sentence: string): never {
  console.error(sentence)
  process.exit(1)
}

const port = Number(env.PORT || 8001)
if (!Number.isInteger(port) || port < 0 || port > 65_535) {
  refuse(`PORT must be a whole number from 0 to 65535, got "${env.PORT}": set PORT=8001.`)
}
const failureRate = Number(env.PAYMENTS_FAILURE_RATE || 0)
if (!(failureRate >= 0 && failureRate <= 1)) {
  const got = env.PAYMENTS_FAILURE_RATE
  refuse(`PAYMENTS_FAILURE_RATE must be a number from 0 to 1, got "${got}": set PAYMENTS_FAILURE_RATE=0.1.`)
}

const app = await buildApp({ failureRate })
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => app.close())

try {
  await app.listen({ host: env.HOST || '127.0.0.1', port })
} catch (error) {
  await app.close()
  if (!(error instanceof Error && 'code' in error && error.code === 'EADDRINUSE')) throw error
  refuse(`Port ${port} is already in use: stop what listens there, or set another one, such as PORT=8081.`)
}
