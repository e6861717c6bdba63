import type {
  JobObservation,
  LogLine,
  PartObserver,
  Redactor,
  RequestObservation
} from '@fastify-observability/observation/internal'
import { NAME } from './options.ts'
import { sizeOf } from './size.ts'
import { type EndedSpan, type StartedSpan, Story } from './story.ts'

const STORY: unique symbol = Symbol('fastify-observability.devtools.story')

declare module 'node:http' {
  interface IncomingMessage {
    [STORY]?: Story
  }
}

/** A line that belongs to no request. */
export interface Notice extends LogLine {
  readonly timeMs: number
}

/** The last requests of an app, bounded in number and bytes. */
export interface Recorder {
  /** Oldest first. */
  readonly stories: ReadonlyMap<string, Story>
  readonly notices: readonly Notice[]
  readonly bytes: number
  line(observation: RequestObservation | JobObservation | undefined, line: LogLine): void
  /** The lines below the level of the request are written too. */
  kept(observation: RequestObservation): void
  /** To be registered after tracing, which decides the ids of the span. */
  readonly starts: PartObserver
  /** To be registered before the other parts: it ends after them. */
  readonly ends: PartObserver
  /** Called with each story that has begun or ended. */
  onChange: ((story: Story) => void) | undefined
  clear(): void
}

const MAX_STORIES = 500
const MAX_BYTES = 16 * 1024 * 1024
const MAX_NOTICES = 200

// Of all apps of the process, which have one pipeline for spans.
const storyOfSpan = new Map<string, Story>()

/**
 * Takes the spans of recorded requests, for `tracing.spanProcessors`: those that descend from the server span of one.
 */
export const spanProcessor = {
  destination: 'the developer page',
  onStart(span: StartedSpan): void {
    const { parentSpanContext } = span
    const story = parentSpanContext && storyOfSpan.get(parentSpanContext.spanId)
    if (!story) return
    const { spanId } = span.spanContext()
    story.spanIds.push(spanId)
    storyOfSpan.set(spanId, story)
  },
  onEnd(span: EndedSpan): void {
    storyOfSpan.get(span.spanContext().spanId)?.addSpan(span)
  },
  forceFlush: async (): Promise<void> => undefined,
  shutdown: async (): Promise<void> => undefined
}

export function createRecorder(redactor: () => Redactor): Recorder {
  const stories = new Map<string, Story>()
  const notices: Notice[] = []
  let bytes = 0
  let count = 0

  function forget(story: Story): void {
    stories.delete(story.id)
    bytes -= story.bytes
    for (const spanId of story.spanIds) storyOfSpan.delete(spanId)
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

  const isSecret = (name: string): boolean => redactor().isSecret(name)

  const recorder: Recorder = {
    stories,
    notices,
    get bytes() {
      return bytes
    },
    onChange: undefined,
    line(observation, line) {
      const story = observation && 'raw' in observation ? observation.raw[STORY] : undefined
      if (story) return story.addLine(line)
      if (observation || !isNotable(line) || sizeOf(line) > MAX_BYTES / MAX_NOTICES) return
      notices.push({ ...line, timeMs: Date.now() })
      if (notices.length > MAX_NOTICES) notices.shift()
    },
    kept(observation) {
      observation.raw[STORY]?.keep()
    },
    starts: {
      name: NAME,
      start(observation) {
        if (observation.config.operational === true) return
        const story = new Story(String(++count), observation, isSecret, weigh)
        observation.raw[STORY] = story
        stories.set(story.id, story)
        const { spanId } = observation.spanContext ?? {}
        if (spanId !== undefined) {
          story.spanIds.push(spanId)
          storyOfSpan.set(spanId, story)
        }
        bytes += story.bytes
        trim()
        recorder.onChange?.(story)
      }
    },
    ends: {
      name: NAME,
      end(observation, outcome) {
        const story = observation.raw[STORY]
        if (!story) return
        story.end(observation, outcome, isSecret)
        recorder.onChange?.(story)
      }
    },
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
