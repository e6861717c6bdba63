import type { Service } from '@fastify-observability/observation/internal'
import { type Probe, probeOf } from '@fastify-observability/otlp/probe'
import type { Account } from '../account.ts'
import { connectionFault, speaksTls } from '../connection-fault.ts'
import type { Fault } from '../faults.ts'
import { type Finding, fine, note, wrong } from '../finding.ts'
import { OWN } from '../manifest.ts'

/** What became of the test item of a signal. */
interface Outcome {
  readonly item: string
  readonly fault?: Fault
  /** What stands after the names of the items. */
  readonly text: string
}

const ENDPOINT_MS = 10_000
const FIRST_SHARE = 0.75
const CONNECTION_SHARE = 0.2
const NAME = 'fastify-observability.doctor'
const SIGNALS = [
  { signal: 'traces', reported: 'spans', item: 'span' },
  { signal: 'logs', reported: 'lines', item: 'record' },
  { signal: 'metrics', reported: 'points', item: 'point' }
] as const
const WORDS = { grpc: 'OTLP/gRPC', 'http/protobuf': 'OTLP/HTTP' } as const

const CREDENTIALS = /^(?:HTTP 40[13]|HTTP 407|UNAUTHENTICATED|PERMISSION_DENIED)\b/
const PATH = /^(?:HTTP 40[45]|UNIMPLEMENTED|NOT_FOUND)\b/
const SILENT = /^(?:timed out|DEADLINE_EXCEEDED)/
// Before TLS: its alerts about certificates are errors of both.
const CERTIFICATE = /CERT|SELF_SIGNED|ISSUER|LEAF_SIGNATURE|CRL/
const TLS = /^(?:ERR_SSL|EPROTO|ECONNRESET)/

/** Sends a test span, record and point to where the service's go, as the service would, and says why one does not arrive. */
export async function checkEndpoints({ report, endpoint }: Account): Promise<Finding[]> {
  const warnings: string[] = []
  const warn = (message: string): void => void warnings.push(message)
  const sent = SIGNALS.filter(({ reported }) => report[reported].to.some((to) => /^https?:/.test(to)))
  const outcomes = sent.map(({ signal, item }) => {
    const own = signal === 'traces' ? endpoint : undefined
    const { service } = report
    const scope = { name: OWN.name, version: OWN.version }
    return outcomeOf(item, probeOf({ signal, endpoint: own, service, scope, name: NAME, warn }))
  })
  return [...together(await Promise.all(outcomes)), ...nowhere(report)]
}

async function outcomeOf(item: string, probe: Probe): Promise<Outcome> {
  const deadline = performance.now() + ENDPOINT_MS
  const reason = await probe.send(FIRST_SHARE * ENDPOINT_MS)
  const to = `${probe.shown} over ${WORDS[probe.protocol]}`
  if (reason === undefined) return { item, text: `accepted by ${to}` }
  const left = (): number => deadline - performance.now()
  const [fault, why] = await faultOf(probe, reason, left)
  return { item, fault, text: `not accepted by ${to}: ${why}` }
}

async function faultOf(probe: Probe, reason: string, left: () => number): Promise<[Fault, string]> {
  if (CREDENTIALS.test(reason)) return ['credentials', reason]
  const isPlain = probe.url.protocol === 'http:'
  const code = await connectionFault(probe, Math.min(left(), CONNECTION_SHARE * ENDPOINT_MS))
  const words = [code, reason].find((words) => words !== undefined && CERTIFICATE.test(words))
  if (words) return ['certificate', words]
  if (code === 'ECONNREFUSED') return ['endpoint-closed', 'nothing listens there']
  if (code && !isPlain && TLS.test(code)) return ['tls-mixed-up', `no TLS is spoken there (${code})`]
  if (code) return ['endpoint-unreachable', code]
  if (isPlain && (await speaksTls(probe, left() / 2))) return ['tls-mixed-up', 'TLS is spoken there']
  const other = probe.inOtherProtocol()
  const answer = await other.send(Math.max(1, left()))
  // One that asks for credentials has understood.
  if (answer === undefined || CREDENTIALS.test(answer)) {
    return ['protocol-mixed-up', `that port speaks ${WORDS[other.protocol]} (${reason})`]
  }
  if (PATH.test(reason)) return ['endpoint-path', reason]
  return [SILENT.test(reason) ? 'endpoint-silent' : 'endpoint-refused', reason]
}

/** One finding for all signals with the same outcome. */
function together(outcomes: readonly Outcome[]): Finding[] {
  const groups = Map.groupBy(outcomes, ({ text }) => text)
  return Array.from(groups.values(), (group) => {
    const [{ fault, text } = { text: '' }] = group
    const sentence = `test ${group.map(({ item }) => item).join(', ')} ${text}`
    return fault ? wrong('endpoints', fault, sentence) : fine('endpoints', sentence)
  })
}

/** Spans that go nowhere are rarely meant; lines and points have a place of their own. */
function nowhere({ spans }: { readonly spans: Account['report']['spans']; readonly service: Service }): Finding[] {
  if (spans.to.length > 0) return []
  return [note('endpoints', 'nowhere', `spans go nowhere${spans.hint ? `: ${spans.hint}` : ''}`)]
}
