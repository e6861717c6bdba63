import type { ObservationFields } from 'fastify'
import { type Counts, countBy } from './series.ts'
import { isRecord } from './values/record.ts'

declare module 'fastify' {
  /**
   * The types of the fields that an application adds to its requests, by name: empty, to be extended by the application.
   * @example declare module 'fastify' { interface ObservationFields { plan: 'free' | 'pro' } }
   */
  interface ObservationFields {}
}

/** What can be added: a date becomes its ISO text, a large integer its digits, a number that JSON does not have its name. */
export type FieldValue = string | number | boolean | bigint | Date | null | undefined | readonly FieldItem[]

/** A value in a list of an added field. */
export type FieldItem = string | number | boolean

/** Fields by name: those of `ObservationFields` have their types, others any that can be added. */
export type AddedFields = {
  readonly [Name in keyof ObservationFields]?: ObservationFields[Name] | undefined
} & Readonly<Record<string, FieldValue>>

/** A field as it stands in line, span and event. */
export type KeptValue = FieldItem | null | readonly FieldItem[]

/** What the fields of an app's requests have in common. */
export interface FieldRules {
  /** Names of the suite's own, which no field can take. */
  readonly reserved: Set<string>
  /** Fields that were not kept, by reason. */
  readonly dropped: Counts<'reason'>
}

const DROP_REASONS = ['too_many', 'too_large', 'reserved', 'invalid', 'ended'] as const
type DropReason = (typeof DROP_REASONS)[number]

const MAX_FIELDS = 64
const MAX_CHARACTERS = 4_096
const MAX_NAME = 128

export const NO_FIELDS: ReadonlyMap<string, KeptValue> = new Map()

export function createFieldRules(): FieldRules {
  return { reserved: new Set(), dropped: countBy('reason', DROP_REASONS) }
}

/** A field that is kept, and the one that was added after it. */
export interface KeptField {
  readonly name: string
  value: KeptValue
  next: KeptField | undefined
}

/**
 * The fields of one request: the last value of a name wins, and what is not kept is counted. In a chain, which is quicker to
 * make, to search and to walk along than a Map, as long as there are few.
 */
export class KeptFields {
  first: KeptField | undefined
  size = 0
  private last: KeptField | undefined
  /** Of all names and values. */
  private characters = 0
  private map: Map<string, KeptValue> | undefined

  get byName(): ReadonlyMap<string, KeptValue> {
    if (this.map === undefined) {
      this.map = new Map()
      for (let field = this.first; field !== undefined; field = field.next) this.map.set(field.name, field.value)
    }
    return this.map
  }

  /** Never throws, whatever is passed. */
  addAll(added: unknown, { reserved, dropped }: FieldRules): void {
    try {
      if (!isRecord(added)) throw new TypeError('no fields')
      for (const name of Object.keys(added)) {
        const reason = reserved.has(name) ? 'reserved' : this.put(name, added[name])
        if (reason !== undefined) dropped.add(reason)
      }
    } catch {
      dropped.add('invalid')
    }
  }

  /** Why the field is not kept, if it is not. */
  private put(name: string, given: unknown): DropReason | undefined {
    if (given === undefined) return undefined
    const value = keptValueOf(given)
    if (value === undefined || name === '' || name.length > MAX_NAME) return 'invalid'
    let known = this.first
    while (known !== undefined && known.name !== name) known = known.next
    if (known === undefined && this.size === MAX_FIELDS) return 'too_many'
    const added = known === undefined ? name.length : -lengthOf(known.value)
    const characters = this.characters + added + lengthOf(value)
    if (characters > MAX_CHARACTERS) return 'too_large'
    this.characters = characters
    if (known === undefined) this.append({ name, value, next: undefined })
    else known.value = value
    this.map?.set(name, value)
    return undefined
  }

  private append(field: KeptField): void {
    if (this.last === undefined) this.first = field
    else this.last.next = field
    this.last = field
    this.size++
  }
}

/** The value as it is kept, `undefined` for one that cannot be. */
function keptValueOf(value: unknown): KeptValue | undefined {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return value
  if (typeof value === 'number') return Number.isFinite(value) ? value : String(value)
  if (typeof value === 'bigint') return String(value)
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? undefined : value.toISOString()
  if (!Array.isArray(value) || value.length > MAX_CHARACTERS) return undefined
  const items = value.map(keptValueOf)
  return items.every(isItem) ? items : undefined
}

function isItem(value: KeptValue | undefined): value is FieldItem {
  return typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean'
}

function lengthOf(value: KeptValue): number {
  return value !== null && typeof value === 'object'
    ? value.reduce<number>((length, item) => length + 1 + String(item).length, 0)
    : String(value).length
}
