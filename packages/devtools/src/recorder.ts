import {
  type FinishedSpan,
  JobObservation,
  type LineListener,
  type LogLine,
  type PartJobObserver,
  type PartObserver,
  type Redactor,
  RequestObservation,
  type StartedSpan
} from '@fastify-observability/observation/internal'
import { beginningOfJob, causingSpans, endOfJob } from './job-story.ts'
import { NAME } from './options.ts'
import { beginningOf, endOf } from './request-story.ts'
import { sizeOf } from './size.ts'
import { type Beginning, type End, Story } from './story.ts'
import { tokenBucket } from './token-bucket.ts'

const STORY: unique symbol = Symbol('fastify-observability.devtools.story')

declare module 'node:http' {
  interface IncomingMessage {
    [STORY]?: Story
  }
}

/** A line that belongs to no request. */
interface Notice extends LogLine {
  readonly timeMs: number
}

/** The last requests and jobs of an app, bounded in number, bytes and rate. */
export interface Recorder {
  /** Oldest first. */
  readonly stories: ReadonlyMap<string, Story>
  readonly notices: readonly Notice[]
  readonly bytes: number
  /** Requests and jobs that came too fast. */
  readonly unrecorded: number
  readonly lines: LineListener
  /** The lines below the level of the request are written too. */
  kept(observation: RequestObservation): void
  /** To be registered after tracing, which decides the ids of the span. */
  readonly starts: readonly [PartObserver, PartJobObserver]
  /** To be registered before the other parts: they end after them. */
  readonly ends: readonly [PartObserver, PartJobObserver]
  /** Called with each story that has begun or ended, and without one when something was not recorded. */
  onChange: ((story?: Story) => void) | undefined
  clear(): void
}

const MAX_STORIES = 500
const MAX_BYTES = 16 * 1024 * 1024
const MAX_NOTICES = 200
/** Of one story: that of a WebSocket may go on for days. */
const MAX_SPANS = 1_000
/** Requests and jobs that are recorded while somebody looks: nobody can look at more. */
const RECORDED = { burst: 500, perSecond: 200 }
/** While nobody does: as many at once, so that the page begins with what has just happened. */
const UNWATCHED = { burst: 500, perSecond: 10 }
/** Of the others those that failed, whose end is recorded. */
const FAILED = { burst: 100, perSecond: 20 }

// Of all apps of the process, which have one pipeline for spans.
const storyOfSpan = new Map<string, Story>()
// Of those the spans that have not ended. While there are none, the end of a span asks for no story: to look one up by an id
// that is new takes longer than all else that a request costs which is not recorded.
const openSpans = new Set<string>()
// `undefined` for a job that came too fast.
const storyOfJob = new WeakMap<JobObservation, Story | undefined>()

/**
 * Takes the spans of recorded requests and jobs, for `tracing.spanProcessors`: those that descend from the span of one.
 */
export const spanProcessor = {
  /** What `app.observability.report()` calls it. */
  destination: 'the developer page',
  /** Takes a span in whose parent belongs to what is recorded. */
  onStart(span: StartedSpan): void {
    const { parentSpanContext } = span
    const story = parentSpanContext && storyOfSpan.get(parentSpanContext.spanId)
    if (!story) return
    if (story.spanIds.length < MAX_SPANS) claim(span.spanContext().spanId, story)
    else story.unshown++
  },
  /** Adds the span to its request or job. */
  onEnd(span: FinishedSpan): void {
    if (openSpans.size === 0) return
    const { spanId } = span.spanContext()
    if (openSpans.delete(spanId)) storyOfSpan.get(spanId)?.addSpan(span)
  },
  /** Nothing is held. */
  forceFlush: async (): Promise<void> => undefined,
  /** Nothing is held. */
  shutdown: async (): Promise<void> => undefined
}

function claim(spanId: string, story: Story): void {
  story.spanIds.push(spanId)
  storyOfSpan.set(spanId, story)
  openSpans.add(spanId)
}

function storyOf(observation: RequestObservation | JobObservation): Story | undefined {
  return 'raw' in observation ? observation.raw[STORY] : storyOfJob.get(observation)
}

/** @param isWatched whether somebody looks at the page, or has just asked for its data. */
export function createRecorder(redactor: () => Redactor, isWatched: (nowMs: number) => boolean): Recorder {
  const stories = new Map<string, Story>()
  const notices: Notice[] = []
  const mayRecordWatched = tokenBucket(RECORDED)
  const mayRecordUnwatched = tokenBucket(UNWATCHED)
  const mayRecordFailed = tokenBucket(FAILED)
  let bytes = 0
  let count = 0
  let unrecorded = 0

  function forget(story: Story): void {
    stories.delete(story.id)
    bytes -= story.bytes
    // The span of a job that runs within a request is the job's by then.
    for (const spanId of story.spanIds) {
      if (storyOfSpan.get(spanId) !== story) continue
      storyOfSpan.delete(spanId)
      openSpans.delete(spanId)
    }
  }

  function weigh(story: Story, more: number): void {
    if (!stories.has(story.id)) return
    bytes += more
    trim()
  }

  function trim(): void {
    while (stories.size > MAX_STORIES || bytes > MAX_BYTES) {
      const [oldest] = stories.values()
      if (!oldest) return
      forget(oldest)
    }
  }

  function begin(beginning: Beginning, causes?: readonly string[], isCut?: boolean): Story {
    const story = new Story(String(++count), beginning, weigh, causes, isCut)
    stories.set(story.id, story)
    bytes += story.bytes
    if (beginning.spanId !== undefined && !isCut) claim(beginning.spanId, story)
    trim()
    recorder.onChange?.(story)
    return story
  }

  function end(story: Story, ended: End): void {
    story.end(ended)
    recorder.onChange?.(story)
  }

  function mayRecord(nowMs: number): boolean {
    return isWatched(nowMs) ? mayRecordWatched(nowMs) : mayRecordUnwatched(nowMs)
  }

  /** Of what came too fast: whether at least its end is recorded. */
  function recordsEnd(hasFailed: boolean, nowMs: number): boolean {
    if (hasFailed && mayRecordFailed(nowMs)) return true
    unrecorded++
    recorder.onChange?.()
    return false
  }

  /** Stories of this app that have caused a job. */
  function causesOf(job: JobObservation): string[] {
    const { outer } = job
    const isKnown = outer instanceof RequestObservation || outer instanceof JobObservation
    const around = isKnown ? storyOf(outer) : undefined
    const causes = [around, ...causingSpans(job).map((spanId) => storyOfSpan.get(spanId))]
    const ids = causes.flatMap((story) => (story && stories.get(story.id) === story ? [story.id] : []))
    return Array.from(new Set(ids))
  }

  const isSecret = (name: string): boolean => redactor().isSecret(name)

  const recorder: Recorder = {
    stories,
    notices,
    get bytes() {
      return bytes
    },
    get unrecorded() {
      return unrecorded
    },
    onChange: undefined,
    lines: {
      wants: (observation) => observation === undefined || storyOf(observation) !== undefined,
      line(observation, line) {
        if (observation) return storyOf(observation)?.addLine(line)
        if (!isNotable(line) || sizeOf(line) > MAX_BYTES / MAX_NOTICES) return
        notices.push({ ...line, timeMs: Date.now() })
        if (notices.length > MAX_NOTICES) notices.shift()
      }
    },
    kept(observation) {
      observation.raw[STORY]?.keep()
    },
    starts: [
      {
        name: NAME,
        start(observation) {
          if (observation.config.operational === true || !mayRecord(observation.startedAt)) return
          observation.raw[STORY] = begin(beginningOf(observation, isSecret))
        }
      },
      {
        name: NAME,
        kind: 'job',
        start(job) {
          const isRecorded = mayRecord(job.startedAt)
          storyOfJob.set(job, isRecorded ? begin(beginningOfJob(job), causesOf(job)) : undefined)
        }
      }
    ],
    ends: [
      {
        name: NAME,
        end(observation, outcome) {
          const story = observation.raw[STORY]
          if (story) return end(story, endOf(observation, outcome, isSecret))
          if (observation.config.operational === true) return
          const { startedAt } = observation
          const hasFailed = outcome.error !== undefined || outcome.statusCode >= 500
          if (!recordsEnd(hasFailed, startedAt + outcome.durationMs)) return
          const cut = begin(beginningOf(observation, isSecret), undefined, true)
          end(cut, endOf(observation, outcome, isSecret))
        }
      },
      {
        name: NAME,
        kind: 'job',
        end(job, outcome) {
          const story = storyOfJob.get(job)
          if (story) return end(story, endOfJob(job, outcome))
          // One that began before the app was ready is not.
          if (!storyOfJob.has(job)) return
          if (!recordsEnd(outcome.result === 'failed', job.startedAt + outcome.durationMs)) return
          end(begin(beginningOfJob(job), causesOf(job), true), endOfJob(job, outcome))
        }
      }
    ],
    clear() {
      for (const story of stories.values()) forget(story)
      notices.length = 0
    }
  }
  return recorder
}

/** Of the lines of no request, what says how the suite was set up, and what looks wrong. */
function isNotable({ level, message = '' }: LogLine): boolean {
  return (
    ['warn', 'error', 'fatal'].includes(level) || (level === 'info' && /^(tracing|metrics|telemetry)\b/.test(message))
  )
}
