import type { KeptValue } from '@fastify-observability/observation'
import { byPlace, type KeptFields } from '@fastify-observability/observation/internal'
import type { Safe } from './safe.ts'

const MAX_REMEMBERED = 512
const MAX_LENGTH = 64

/** Makes the function that writes the fields that were added to a request as pino would, each with a comma before it. */
export function addedText(safe: Safe): (fields: KeptFields) => string {
  // Names come again in each request, and so do most texts. Looking for secrets in a text takes longer than all else.
  const starts = new Map<string, string>()
  const startAt = byPlace((name) => remembered(starts, name, startOf))
  const texts = new Map<string, string>()

  /** What stands before the value, empty for a name that is not written as it is or is a secret's. */
  function startOf(name: string): string {
    const isPlain = Object.entries(safe.fields({ [name]: 0 })).some(([key, value]) => key === name && value === 0)
    return isPlain ? `,${JSON.stringify(name)}:` : ''
  }
  function quoted(text: string): string {
    return JSON.stringify(safe.text(text))
  }
  function valueText(value: KeptValue): string {
    if (typeof value === 'number' || typeof value === 'boolean') return String(value)
    if (typeof value !== 'string') return JSON.stringify(safe.copy(value))
    return value.length > MAX_LENGTH ? quoted(value) : remembered(texts, value, quoted)
  }

  return ({ first }) => {
    let text = ''
    let place = 0
    for (let field = first; field !== undefined; field = field.next) {
      const { name, value } = field
      const start = startAt(name, place++)
      text += start ? start + valueText(value) : `,${JSON.stringify(safe.fields({ [name]: value })).slice(1, -1)}`
    }
    return text
  }
}

function remembered(memory: Map<string, string>, key: string, make: (key: string) => string): string {
  const known = memory.get(key)
  if (known !== undefined) return known
  const made = make(key)
  if (memory.size === MAX_REMEMBERED) memory.clear()
  memory.set(key, made)
  return made
}
