import type { FinishedSpan, StartedSpan } from './span-record.ts'

/** Ends what has been begun. */
export type Stop = () => void

/** Begins to hand what a part makes to a receiver. */
type OpenFeed<Receiver> = (receiver: Receiver) => Stop | Promise<Stop>

/** What a part makes, for tests that watch it beside where it goes. Costs nothing until somebody does. */
interface Feed<Receiver> {
  /** Offers what a part makes. Resolves when those that watch already receive it. */
  offer(open: OpenFeed<Receiver>): Promise<void>
  /** Receives what is offered, now or later, until the returned function is called or the app has closed. */
  watch(receiver: Receiver): Promise<Stop>
  /** Called when the app has closed, which waits for it. */
  onEnd(ended: () => unknown): void
  /** Ends all watching, because the app has closed. */
  end(): Promise<void>
}

/** Receives the spans of all apps of the process, without their secrets. */
export interface SpanReceiver {
  onStart(span: StartedSpan): void
  onEnd(span: FinishedSpan): void
}

/** A metric with its series, as they stand on `/metrics`. */
export interface MetricFamily {
  readonly name: string
  readonly type: string
  readonly values: readonly MetricSample[]
}

export interface MetricSample {
  readonly labels?: Readonly<Record<string, string | number | undefined>>
  readonly value: number
  /** Where it differs from the name of its family. */
  readonly metricName?: string
}

/** Reads the metrics of an app. */
export interface MetricReader {
  read(): Promise<readonly MetricFamily[]>
  /** Those that are written to as things happen, at once. */
  readNow(): MetricFamily[]
}

/** The feeds of an app. */
export interface Feeds {
  /** Receives each line as it is written, as JSON. */
  readonly lines: Feed<(line: string) => void>
  readonly spans: Feed<SpanReceiver>
  /** Receives what reads the metrics. */
  readonly points: Feed<(reader: MetricReader) => void>
  /** Receives the error events of all apps of the process, and `undefined` in the place of one that was dropped. */
  readonly events: Feed<(event: object | undefined) => void>
}

export function createFeeds(): Feeds {
  return { lines: createFeed(), spans: createFeed(), points: createFeed(), events: createFeed() }
}

function createFeed<Receiver>(): Feed<Receiver> {
  const offers: OpenFeed<Receiver>[] = []
  const watching = new Map<Receiver, Stop[]>()
  const ends: (() => unknown)[] = []

  async function connect(open: OpenFeed<Receiver>, receiver: Receiver): Promise<void> {
    const stop = await open(receiver)
    const stops = watching.get(receiver)
    // The watching may have ended meanwhile.
    if (stops) stops.push(stop)
    else stop()
  }

  function stop(receiver: Receiver): void {
    const stops = watching.get(receiver) ?? []
    watching.delete(receiver)
    for (const stop of stops) stop()
  }

  return {
    async offer(open) {
      offers.push(open)
      for (const receiver of watching.keys()) await connect(open, receiver)
    },
    async watch(receiver) {
      watching.set(receiver, [])
      for (const open of offers) await connect(open, receiver)
      return () => stop(receiver)
    },
    onEnd: (ended) => void ends.push(ended),
    async end() {
      for (const receiver of watching.keys()) stop(receiver)
      await Promise.all(ends.map((ended) => ended()))
    }
  }
}
