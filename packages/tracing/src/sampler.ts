import { type AnswerRule, answerOf, ignoreVariable, isRecord } from '@fastify-observability/observation/internal'
import { type Context, createContextKey, SpanKind, trace } from '@opentelemetry/api'
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  ParentBasedSampler,
  type Sampler,
  SamplingDecision,
  type SamplingResult,
  TraceIdRatioBasedSampler
} from '@opentelemetry/sdk-trace'
import * as v from 'valibot'
import { heldTraceOf } from './processing/held-traces.ts'
import { released, withheld } from './propagation/trace-context.ts'

const SAMPLERS = [
  'always_on',
  'always_off',
  'traceidratio',
  'parentbased_always_on',
  'parentbased_always_off',
  'parentbased_traceidratio'
]
const DEFAULT_SAMPLER = 'parentbased_always_on'
const RATIO_RULE = 'a number from 0 to 1'
const ratio = v.pipe(v.number(RATIO_RULE), v.minValue(0, RATIO_RULE), v.maxValue(1, RATIO_RULE))

/** The share of the traces that begin here which are recorded, from 0 to 1. */
export const ratioSchema = ratio

export interface SamplerOptions {
  /** @default OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG, then 1 */
  sampleRatio: number | undefined
  /** Decides in the place of the above. */
  sampler?: Sampler | undefined
  /** Receives what is wrong with that. */
  report?: (error: unknown) => void
  /** Whether calls to a host may carry the trace. @default all may */
  mayCarry?: (host: string) => boolean
  /** Whether the spans of a trace that may be kept are recorded although it is not sampled. */
  keepsTraces?: boolean
  warn: (message: string) => void
}

const ROUTE_SAMPLER = createContextKey('sampler of the route')
const routeSamplers = new Map<number, Sampler>()

/** A context to start a root in that is recorded with a ratio of its own. */
export function withRatio(context: Context, ratio: number): Context {
  const sampler = routeSamplers.get(ratio) ?? parentBased(ratio)
  routeSamplers.set(ratio, sampler)
  return context.setValue(ROUTE_SAMPLER, sampler)
}

/** The sampler of a pipeline. */
export interface PipelineSampler extends Sampler {
  /** Whether no span below one of this process that is not sampled is, whatever else is known of it. */
  readonly isParentBased: boolean
}

/** Whoever begins a trace decides whether it is recorded, and everybody after follows. */
export function createSampler({
  sampleRatio,
  sampler,
  report = () => undefined,
  mayCarry,
  keepsTraces = false,
  warn
}: SamplerOptions): PipelineSampler {
  const base = sampler
    ? guarded(sampler, report)
    : sampleRatio === undefined
      ? samplerFromEnv(warn)
      : parentBased(sampleRatio)
  return {
    isParentBased: base instanceof ParentBasedSampler,
    shouldSample(context, traceId, name, kind, attributes, links) {
      const own = context.getValue(ROUTE_SAMPLER)
      const decided = (isSampler(own) ? own : base).shouldSample(context, traceId, name, kind, attributes, links)
      const result = keepsTraces ? recordedIfHeld(decided, context) : decided
      if (!mayCarry || kind !== SpanKind.CLIENT) return result
      const host = attributes['server.address']
      // The only mark that a span which is not recorded can carry to the propagator.
      if (typeof host !== 'string') return result
      const mark = mayCarry(host.toLowerCase()) ? released : withheld
      const traceState = mark(context, result.traceState)
      return traceState ? { ...result, traceState } : result
    },
    toString: () => String(base)
  }
}

function recordedIfHeld(decided: SamplingResult, context: Context): SamplingResult {
  if (decided.decision !== SamplingDecision.NOT_RECORD) return decided
  const isHeld = heldTraceOf(trace.getSpan(context))?.isRecorded === true
  return isHeld ? { ...decided, decision: SamplingDecision.RECORD } : decided
}

export function isSampler(value: unknown): value is Sampler {
  return typeof value === 'object' && value !== null && 'shouldSample' in value
}

function parentBased(ratio: number): Sampler {
  return new ParentBasedSampler({ root: ratioBased(ratio) })
}

// All and none need no look at the trace id.
function ratioBased(ratio: number): Sampler {
  if (ratio === 1) return new AlwaysOnSampler()
  return ratio === 0 ? new AlwaysOffSampler() : new QuickRatioSampler(ratio)
}

const RECORDED: SamplingResult = Object.freeze({ decision: SamplingDecision.RECORD_AND_SAMPLED })
const DECISIONS = new Set<unknown>([
  SamplingDecision.NOT_RECORD,
  SamplingDecision.RECORD,
  SamplingDecision.RECORD_AND_SAMPLED
])
const A_DECISION: AnswerRule = {
  allows: (answer) => isRecord(answer) && DECISIONS.has(answer.decision),
  words: 'an object with a decision'
}
const NOT_RECORDED: SamplingResult = Object.freeze({ decision: SamplingDecision.NOT_RECORD })

/**
 * Decides of every valid trace id as upstream's does, so that services agree: that compares the four words of the id,
 * combined, with a bound. Their first bytes nearly always tell, and are read in a fraction of the time.
 */
class QuickRatioSampler extends TraceIdRatioBasedSampler {
  private readonly edge: number

  constructor(ratio: number) {
    super(ratio)
    this.edge = Math.floor(ratio * 0xffffffff) >>> 24
  }

  override shouldSample(context: Context, traceId: string): SamplingResult {
    const first = byteOf(traceId, 0) ^ byteOf(traceId, 8) ^ byteOf(traceId, 16) ^ byteOf(traceId, 24)
    if (first === this.edge) return super.shouldSample(context, traceId)
    return first < this.edge ? RECORDED : NOT_RECORDED
  }
}

function byteOf(digits: string, at: number): number {
  return (digitOf(digits.charCodeAt(at)) << 4) | digitOf(digits.charCodeAt(at + 1))
}

// Of a digit in either case.
function digitOf(code: number): number {
  return code <= 0x39 ? code & 0xf : (code & 0xf) + 9
}

/** A sampler of the user's: what it cannot decide is recorded. */
function guarded(sampler: Sampler, report: (error: unknown) => void): Sampler {
  return {
    shouldSample(...args) {
      return answerOf('sampler.shouldSample', () => sampler.shouldSample(...args), RECORDED, report, A_DECISION)
    },
    toString: () => String(sampler)
  }
}

/** @see https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/#general-sdk-configuration */
function samplerFromEnv(warn: (message: string) => void): Sampler {
  const given = process.env.OTEL_TRACES_SAMPLER?.trim() ?? ''
  const known = given === '' || SAMPLERS.includes(given.toLowerCase())
  if (!known) ignoreVariable('OTEL_TRACES_SAMPLER', given, `one of ${SAMPLERS.join(', ')}`, warn)
  const name = known && given ? given.toLowerCase() : DEFAULT_SAMPLER
  const root = rootSampler(name, warn)
  return name.startsWith('parentbased_') ? new ParentBasedSampler({ root }) : root
}

function rootSampler(name: string, warn: (message: string) => void): Sampler {
  if (name.endsWith('always_on')) return new AlwaysOnSampler()
  if (name.endsWith('always_off')) return new AlwaysOffSampler()
  const text = process.env.OTEL_TRACES_SAMPLER_ARG ?? ''
  if (text === '') return ratioBased(1)
  const given = text.trim() === '' ? Number.NaN : Number(text)
  if (given >= 0 && given <= 1) return ratioBased(given)
  ignoreVariable('OTEL_TRACES_SAMPLER_ARG', text, RATIO_RULE, warn)
  return ratioBased(1)
}
