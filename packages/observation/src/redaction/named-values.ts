type KeyTest = (key: string) => boolean

// A text that says more than a name has been searched for itself.
const NAME = /^[\w .-]{1,128}$/

/** Whether an item is the value of a secret that the item before it names: in a pair, and in Node's `rawHeaders`. */
export function isNamedByPrevious(items: readonly unknown[], index: number, key: string, isSecret: KeyTest): boolean {
  const name = items[index - 1]
  const isValue = index % 2 === 1 && (items.length === 2 || key === 'rawHeaders')
  return isValue && isNameOf(name, isSecret)
}

/** Whether the entry is the value of a secret that another entry names, as in `{ name: 'authorization', value: '…' }`. */
export function isNamedByOther(record: Readonly<Record<string, unknown>>, key: string, isSecret: KeyTest): boolean {
  const name = key === 'value' ? (record.name ?? record.key) : undefined
  return isNameOf(name, isSecret)
}

function isNameOf(name: unknown, isSecret: KeyTest): boolean {
  return typeof name === 'string' && NAME.test(name) && isSecret(name)
}
