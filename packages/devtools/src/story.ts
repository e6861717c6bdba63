import type { JobOutcome, Outcome } from '@fastify-observability/observation'
import {
  elapsedMs,
  type FinishedSpan,
  type LogLine,
  type SpanRecord,
  spanRecordOf
} from '@fastify-observability/observation/internal'
import type { RecordedError } from './error.ts'
import { sizeOf } from './size.ts'

interface RecordedLine extends LogLine {
  /** Milliseconds since the request or job began. */
  readonly atMs: number
}

/** What a row of the list is made from. */
export interface StoryHead {
  readonly timeMs: number
  /** Of a job: `JOB`. */
  readonly method: string
  /** Of a job: its name, as the route. */
  readonly url: string
  readonly requestId: string | undefined
  readonly traceId: string | undefined
  readonly attempt?: number | undefined
  readonly attempts?: number | undefined
  route: string
  /** What follows is of one that has ended. */
  statusCode?: number
  /** Of a job, which has no status. */
  result?: JobOutcome['result']
  durationMs?: number
  ttfbMs?: number | undefined
  aborted?: boolean
  error?: string | undefined
}

/** The rest. */
export interface StoryBody {
  readonly correlationId: string | undefined
  readonly spanId: string | undefined
  readonly httpVersion: string | undefined
  /** Names and values in turn: a list is written faster than an object. */
  readonly headers: readonly unknown[]
  readonly lines: RecordedLine[]
  readonly spans: SpanRecord[]
  /** Whether `keep` has written its lines below the level. */
  isKept?: boolean
  /** Whether it came too fast: only its end is recorded. */
  readonly isCut?: boolean
  ending?: Ending
}

interface Ending extends Pick<Outcome, 'errorType'> {
  readonly requestBytes: number | undefined
  readonly responseBytes: number | undefined
  readonly errors: readonly RecordedError[]
  readonly fields: Readonly<Record<string, unknown>>
  readonly responseHeaders: readonly unknown[]
  readonly sentryEventId: string | undefined
  readonly clientAddress: string | undefined
}

/** What is known of a request or job when it begins. */
export interface Beginning extends Pick<StoryBody, 'correlationId' | 'spanId' | 'httpVersion' | 'headers'> {
  readonly startedAt: number
  readonly head: Omit<StoryHead, 'timeMs'>
}

/** What is known of it when it has ended. */
export interface End {
  readonly head: Partial<StoryHead>
  readonly ending: Ending
}

/** Receives how many bytes more a story holds, or fewer. */
export type Weigh = (story: Story, bytes: number) => void

const MAX_ITEMS = 500
const MAX_BYTES = 1024 * 1024
// Of an object itself, beside its texts.
const OWN_BYTES = 500
const ITEM_BYTES = 200
const NONE: readonly string[] = []
// With its headers, which a server takes 16 KiB of; its end says how much it is.
const OPEN_BYTES = 3_000

/**
 * What is kept of one request or job: while it runs as objects, and after its end as bytes. Objects that outlive a collection make
 * V8 enlarge the space for new ones, by tens of megabytes.
 */
export class Story {
  readonly id: string
  /** Of all its spans, ended or not. */
  readonly spanIds: string[] = []
  /** Ids of the stories that have caused a job. */
  readonly causes: readonly string[]
  /** Lines and spans that are too many to keep. */
  unshown = 0
  bytes: number
  private readonly startedAt: number
  private items = 0
  private readonly weigh: Weigh
  private open: { head: StoryHead; body: StoryBody } | undefined
  /** The head, and from `bodyAt` on the body. */
  private packed: Buffer | undefined
  private bodyAt = 0
  /** What came after the end. */
  private late: Pick<StoryBody, 'lines' | 'spans'> | undefined

  constructor(id: string, beginning: Beginning, weigh: Weigh, causes: readonly string[] = NONE, isCut = false) {
    const { head, startedAt, correlationId, spanId, httpVersion, headers } = beginning
    this.id = id
    this.weigh = weigh
    this.causes = causes
    this.startedAt = startedAt
    this.open = {
      head: { timeMs: Date.now() - elapsedMs(startedAt), ...head },
      body: { correlationId, spanId, httpVersion, headers, lines: [], spans: [], isCut }
    }
    this.bytes = OPEN_BYTES + head.url.length
  }

  get head(): StoryHead {
    if (this.open) return this.open.head
    const head: StoryHead = JSON.parse(String(this.packed?.subarray(0, this.bodyAt)))
    return head
  }

  get body(): StoryBody {
    if (this.open) return this.open.body
    const body: StoryBody = JSON.parse(String(this.packed?.subarray(this.bodyAt)))
    if (!this.late) return body
    return { ...body, lines: [...body.lines, ...this.late.lines], spans: [...body.spans, ...this.late.spans] }
  }

  addLine(line: LogLine): void {
    if (!this.hasRoom(ITEM_BYTES + sizeOf(line.message) + sizeOf(line.fields))) return
    this.growing.lines.push({ ...line, atMs: elapsedMs(this.startedAt) })
  }

  keep(): void {
    if (this.open) this.open.body.isKept = true
  }

  addSpan(span: FinishedSpan): void {
    if (!this.hasRoom(ITEM_BYTES + sizeOf(span.name) + sizeOf(span.attributes))) return
    this.growing.spans.push(spanRecordOf(span))
  }

  end({ head: ended, ending }: End): void {
    if (!this.open) return
    const { head, body } = this.open
    Object.assign(head, ended)
    body.ending = ending
    const first = textOf(head)
    this.packed = Buffer.from(first + textOf(body))
    this.bodyAt = Buffer.byteLength(first)
    this.open = undefined
    const before = this.bytes
    this.bytes = OWN_BYTES + this.packed.length
    this.weigh(this, this.bytes - before)
  }

  private get growing(): Pick<StoryBody, 'lines' | 'spans'> {
    if (this.open) return this.open.body
    this.late ??= { lines: [], spans: [] }
    return this.late
  }

  private hasRoom(bytes: number): boolean {
    if (this.items === MAX_ITEMS || this.bytes + bytes > MAX_BYTES) {
      this.unshown++
      return false
    }
    this.items++
    this.bytes += bytes
    this.weigh(this, bytes)
    return true
  }
}

function textOf(value: object): string {
  try {
    return JSON.stringify(value)
  } catch {
    // JSON has no large integers.
    return JSON.stringify(value, (_key, inner) => (typeof inner === 'bigint' ? String(inner) : inner))
  }
}
