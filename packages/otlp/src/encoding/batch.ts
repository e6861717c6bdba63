import { Buffer } from 'node:buffer'
import { attributesOf } from './attributes.ts'
import { integer, lengthOf, message, text } from './protobuf.ts'

/** Who the telemetry is about, as the SDK's resources are. */
export interface Resource {
  readonly attributes: Readonly<Record<string, unknown>>
  readonly schemaUrl?: string | undefined
  waitForAsyncAttributes?(): Promise<void>
}

/** What made it. */
export interface Scope {
  readonly name: string
  readonly version?: string | undefined
  readonly schemaUrl?: string | undefined
}

/** Entries of one scope, one after the other. */
interface Group {
  buffer: Buffer
  filled: number
  /** What is not in the buffer yet. */
  fresh: string
  /** Where each entry ends. */
  ends: number[]
  /** How many items each entry holds, where that is not one. */
  counts: Map<number, number>
}

const INITIAL_BYTES = 16 * 1024
const MAX_SPARES = 8
const MAX_SPARE_BYTES = 4 * 1024 * 1024

// Buffers are used again: memory beside the heap makes the garbage collector run.
const spares: Buffer[] = []

function bufferOf(size: number): Buffer {
  const index = spares.findLastIndex((spare) => spare.length >= size)
  return (index !== -1 && spares.splice(index, 1)[0]) || Buffer.allocUnsafeSlow(size)
}

function giveBack(buffer: Buffer): void {
  if (spares.length < MAX_SPARES && buffer.length <= MAX_SPARE_BYTES) spares.push(buffer)
}

/** A request, valid until `release`. */
export interface Request {
  readonly body: Buffer
  release(): void
}

/**
 * An Export…ServiceRequest in the making: those of the three signals differ in what an entry is, and in nothing else.
 * Each entry is encoded when it is added: what waits is a few large buffers, and not objects for the garbage collector to
 * move about.
 * @see https://github.com/open-telemetry/opentelemetry-proto/tree/v1.9.0/opentelemetry/proto
 */
export class Batch {
  /** Spans, log records or points. */
  items = 0
  entries = 0
  /** Of all entries. */
  bytes = 0
  private readonly resources = new Map<Resource, Map<Scope, Group>>()

  /** @param content the encoded Span, LogRecord or Metric, a character for each byte. */
  add(resource: Resource, scope: Scope, content: string, items = 1): void {
    const group = this.groupOf(resource, scope)
    const field = message(2, content)
    group.fresh += field
    group.ends.push(group.filled + group.fresh.length)
    if (items !== 1) group.counts.set(group.ends.length - 1, items)
    this.bytes += field.length
    this.items += items
    this.entries++
  }

  /** Moves what was added into the buffers. Several entries at once, because each move costs as much as its entry. */
  settle(): void {
    for (const scopes of this.resources.values()) for (const group of scopes.values()) append(group)
  }

  /** Resolves when everything is known that the request says. */
  async ready(): Promise<void> {
    for (const resource of this.resources.keys()) await resource.waitForAsyncAttributes?.()
  }

  /** How many items stand in these entries. */
  count(from: number, to: number): number {
    let items = 0
    for (const { group, first, last } of this.slices(from, to)) {
      items += last - first
      for (const [entry, count] of group.counts) if (entry >= first && entry < last) items += count - 1
    }
    return items
  }

  /** A request with these entries. */
  encode(from = 0, to = this.entries): Request {
    this.settle()
    const parts: (string | Uint8Array)[] = []
    let current: Resource | undefined
    let start = 0
    function close(): void {
      if (!current) return
      if (current.schemaUrl) parts.push(text(3, current.schemaUrl))
      parts.splice(start, 0, lengthOf(1, sizeOf(parts.slice(start))))
    }
    for (const { resource, scope, group, first, last } of this.slices(from, to)) {
      if (resource !== current) {
        close()
        current = resource
        start = parts.length
        parts.push(message(1, attributesOf(1, resource.attributes) + integer(2, 0)))
      }
      const { name, version, schemaUrl } = scope
      const head = message(1, text(1, name) + (version ? text(2, version) : ''))
      const tail = schemaUrl ? text(3, schemaUrl) : ''
      const content = group.buffer.subarray(group.ends[first - 1] ?? 0, group.ends[last - 1] ?? 0)
      parts.push(lengthOf(2, head.length + content.length + tail.length) + head, content, tail)
    }
    close()
    return requestOf(parts)
  }

  /** Ends the use of the batch. */
  release(): void {
    for (const scopes of this.resources.values()) for (const { buffer } of scopes.values()) giveBack(buffer)
    this.resources.clear()
  }

  /** The groups that hold these entries, each with which of its own they are. */
  private *slices(from: number, to: number) {
    let before = 0
    for (const [resource, scopes] of this.resources) {
      for (const [scope, group] of scopes) {
        const first = Math.max(from - before, 0)
        const last = Math.min(to - before, group.ends.length)
        before += group.ends.length
        if (first < last) yield { resource, scope, group, first, last }
      }
    }
  }

  private groupOf(resource: Resource, scope: Scope): Group {
    const scopes = this.resources.get(resource) ?? new Map<Scope, Group>()
    const known = scopes.get(scope)
    if (known) return known
    const group: Group = { buffer: bufferOf(INITIAL_BYTES), filled: 0, fresh: '', ends: [], counts: new Map() }
    this.resources.set(resource, scopes.set(scope, group))
    return group
  }
}

function sizeOf(parts: (string | Uint8Array)[]): number {
  return parts.reduce((size, { length }) => size + length, 0)
}

function requestOf(parts: (string | Uint8Array)[]): Request {
  const size = sizeOf(parts)
  const buffer = bufferOf(size)
  let at = 0
  for (const part of parts) {
    if (typeof part === 'string') buffer.write(part, at, 'latin1')
    else buffer.set(part, at)
    at += part.length
  }
  return { body: buffer.subarray(0, size), release: () => giveBack(buffer) }
}

function append(to: Group): void {
  const { fresh } = to
  const needed = to.filled + fresh.length
  if (needed > to.buffer.length) {
    const larger = bufferOf(Math.max(2 * to.buffer.length, needed))
    larger.set(to.buffer.subarray(0, to.filled))
    giveBack(to.buffer)
    to.buffer = larger
  }
  to.buffer.write(fresh, to.filled, 'latin1')
  to.filled = needed
  to.fresh = ''
}
