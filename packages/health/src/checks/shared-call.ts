/** Makes a call that is made once at a time: while one is pending, all callers share its result. */
export function shareCall<Result>(call: () => Promise<Result>): () => Promise<Result> {
  let pending: Promise<Result> | undefined
  return () => {
    pending ??= call().finally(() => {
      pending = undefined
    })
    return pending
  }
}
