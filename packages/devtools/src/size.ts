const MAX_DEPTH = 10

/** About how many bytes a plain value takes, by its texts. */
export function sizeOf(value: unknown, depth = 0): number {
  if (typeof value === 'string') return 24 + value.length
  if (typeof value !== 'object' || value === null || depth > MAX_DEPTH) return 8
  let bytes = 32
  for (const key in value) bytes += 8 + key.length + sizeOf(Reflect.get(value, key), depth + 1)
  return bytes
}
