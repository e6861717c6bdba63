import type { Account } from '../account.ts'
import { type Finding, fine, wrong } from '../finding.ts'

type SDK = typeof import('@sentry/node')

const TIMEOUT_MS = 10_000
const MESSAGE = 'fastify-observability doctor: a test event'

/** Where error events go, and whether a test event gets there if one is asked for: it makes an issue and may alert people. */
export async function checkSentry(
  { report, dsn = process.env.SENTRY_DSN }: Account,
  isAsked: boolean
): Promise<Finding[]> {
  const [to] = report.events.to
  if (to === undefined || !dsn) {
    if (isAsked) return [wrong('sentry', 'sentry-off', 'no test event was sent: no DSN is in use')]
    return [fine('sentry', `no error events are sent${report.events.hint ? `: ${report.events.hint}` : ''}`)]
  }
  if (!isAsked) return [fine('sentry', `error events go to ${to}; --sentry sends a test event`)]
  // A command that npx has downloaded for the moment has none.
  const sdk = await import('@sentry/node').catch(() => undefined)
  if (!sdk) return [wrong('sentry', 'sentry-off', 'no test event was sent: @sentry/node is not installed')]
  const status = await sendEvent(sdk, dsn)
  if (status !== undefined && status < 300) return [fine('sentry', `test event accepted by ${to}`)]
  const why = status === undefined ? 'no answer came' : `HTTP ${status}`
  return [wrong('sentry', 'sentry-refused', `test event not accepted by ${to}: ${why}`)]
}

/** Resolves with the status of the answer, `undefined` where none comes in time. */
async function sendEvent(
  { NodeClient, makeNodeTransport, defaultStackParser }: SDK,
  dsn: string
): Promise<number | undefined> {
  const client = new NodeClient({
    dsn,
    transport: makeNodeTransport,
    stackParser: defaultStackParser,
    integrations: []
  })
  const { promise, resolve } = Promise.withResolvers<number | undefined>()
  client.on('afterSendEvent', (_event, { statusCode }) => resolve(statusCode))
  const timer = setTimeout(resolve, TIMEOUT_MS, undefined)
  client.captureMessage(MESSAGE, 'info')
  const status = await promise
  clearTimeout(timer)
  return status
}
