/** The function, which makes few different texts, with a memory of them: joining one takes longer than finding it. */
export function remembered(make: (key: string) => string): (key: string) => string {
  const texts = new Map<string, string>()
  return (key) => {
    const known = texts.get(key)
    if (known !== undefined) return known
    const text = make(key)
    texts.set(key, text)
    return text
  }
}
