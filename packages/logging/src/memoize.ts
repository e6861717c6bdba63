/** The function, which is called with few different keys, with a memory of its results. */
export function memoize<Key, Made>(make: (key: Key) => Made): (key: Key) => Made {
  const memory = new Map<Key, Made>()
  return (key) => {
    const known = memory.get(key)
    if (known !== undefined) return known
    const made = make(key)
    memory.set(key, made)
    return made
  }
}

/** The same text. V8 keeps a joined text as its parts, and walks through all of them each time it becomes part of a line. */
export function inOnePiece(text: string): string {
  return JSON.parse(JSON.stringify(text))
}
