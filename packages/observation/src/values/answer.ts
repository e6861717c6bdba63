/** What a function of the user's may return. */
export interface AnswerRule {
  allows(answer: unknown): boolean
  /** As it stands after "must return". */
  words: string
}

export const YES_OR_NO: AnswerRule = { allows: (answer) => typeof answer === 'boolean', words: 'true or false' }

/**
 * What a function of the user's returns. Where it throws, or returns a promise or anything else that the rule does not allow,
 * that is reported and `otherwise` is the answer.
 */
export function answerOf<Answer>(
  option: string,
  ask: () => Answer,
  otherwise: Answer,
  report: (error: unknown) => void,
  { allows, words }: AnswerRule
): Answer {
  try {
    const answer = ask()
    // Nobody else listens, and a rejection without a listener ends the process.
    if (isThenable(answer)) answer.then(undefined, () => undefined)
    else if (allows(answer)) return answer
    report(new TypeError(`${option} must return ${words}, got ${isThenable(answer) ? 'a promise' : typeof answer}`))
  } catch (error) {
    report(error)
  }
  return otherwise
}

/** Reports the rejection of what a function has returned whose result nobody wants. */
export function watchResult(result: unknown, report: (error: unknown) => void): void {
  if (isThenable(result)) result.then(undefined, report)
}

/** Calls a function of the user's for its effect: what it throws or rejects with is reported. */
export function attempt(call: () => unknown, report: (error: unknown) => void): void {
  try {
    watchResult(call(), report)
  } catch (error) {
    report(error)
  }
}

export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function'
}
