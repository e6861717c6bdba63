/** A gate that opens at most once in `intervalMs`: for warnings that must not flood. */
export function atMostEvery(intervalMs: number): () => boolean {
  let last = Number.NEGATIVE_INFINITY
  return () => {
    const now = performance.now()
    if (now - last < intervalMs) return false
    last = now
    return true
  }
}
