// What the parts of the suite share. Not for users: it may change in any release.

export type { FlushReport, Holder, Signal, Undelivered } from './delivery.ts'
export { docsOf, documented, isDocs, withDocs } from './docs.ts'
export type { MetricFamily, MetricReader, MetricSample, SpanReceiver, Stop } from './feeds.ts'
export type { KeptFields } from './fields.ts'
export { Holding, Holdings } from './holding.ts'
export { JobObservation } from './job.ts'
export type { Jobs } from './jobs.ts'
export { type KeepOptions, type KeepReason, type KeepRule, keepRule, keepSchema } from './keep.ts'
export type { LineListener, LogLine } from './lines.ts'
export { heldIn, lossesOf, lostIn, sumOf } from './losses.ts'
export type { PartJobObserver, PartObserver } from './observers.ts'
export { ignoreVariable, isOpenTelemetryDisabled, listFromEnv } from './options/environment.ts'
export { type Hosts, hostMatcher, hostsSchema } from './options/hosts.ts'
export { parseEnv, parseOptions, waitSchema } from './options/parse.ts'
export { resolveService, type Service, type ServiceOptions, serviceSchema } from './options/service.ts'
export { isFailure, isShed, outlookOf } from './outcome.ts'
export { isNamedByOther, isNamedByPrevious } from './redaction/named-values.ts'
export { createRedactor, type RedactOptions, type Redactor } from './redaction/redactor.ts'
export { type Registry, registryOf } from './registry.ts'
export type { DeliveryReport, InstrumentationReport, SignalReport } from './report.ts'
export { RequestObservation } from './request-observation.ts'
export { requireOf } from './require.ts'
export { bindScope, currentScope, isBackground, runIn, runInBackground, runOutside, type Scope } from './scope.ts'
export { type Counts, countBy } from './series.ts'
export { type FinishedSpan, type SpanRecord, type StartedSpan, spanRecordOf } from './span-record.ts'
export { within } from './time/deadline.ts'
export { elapsedMs } from './time/elapsed.ts'
export { monotonicMs } from './time/monotonic.ts'
export { atMostEvery } from './time/rate-limit.ts'
export {
  clearImmediate,
  clearInterval,
  clearTimeout,
  setImmediate,
  setInterval,
  setTimeout,
  sleep,
  turn
} from './time/timers.ts'
export { TOKEN } from './token.ts'
export { flushTracerProvider } from './tracer-provider.ts'
export { type AnswerRule, answerOf, attempt, isThenable, watchResult, YES_OR_NO } from './values/answer.ts'
export { byPlace } from './values/by-place.ts'
export { errorName } from './values/error-name.ts'
export { knownMethod } from './values/method.ts'
export { isRecord } from './values/record.ts'
export { framesIn, isErrorToRead, thrownText, thrownTexts } from './values/thrown.ts'
