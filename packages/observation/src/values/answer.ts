/**
 * What a function of the user's returns. Where it throws, or returns a promise in the place of a value, that is reported
 * and `otherwise` is the answer.
 */
export function answerOf<Answer>(ask: () => Answer, otherwise: Answer, report: (error: unknown) => void): Answer {
  try {
    const answer = ask()
    if (!isThenable(answer)) return answer
    report(new TypeError('a function that must not be async has returned a promise'))
    // Nobody else listens, and a rejection without a listener ends the process.
    answer.then(undefined, () => undefined)
  } catch (error) {
    report(error)
  }
  return otherwise
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function'
}
