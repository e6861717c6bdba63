import { type AnswerRule, answerOf, isRecord } from '@fastify-observability/observation/internal'
import type { NodeOptions } from '@sentry/node'

const A_SPAN: AnswerRule = { allows: isRecord, words: 'a span' }
const AN_ITEM: AnswerRule = { allows: (answer) => answer === null || isRecord(answer), words: 'an object or null' }
const A_RATE: AnswerRule = {
  allows: (answer) => typeof answer === 'boolean' || (typeof answer === 'number' && answer >= 0 && answer <= 1),
  words: 'a number from 0 to 1 or a boolean'
}
const A_LIST: AnswerRule = { allows: Array.isArray, words: 'a list' }
const ANYTHING: AnswerRule = { allows: () => true, words: 'no promise' }

/**
 * The functions among the options of `Sentry.init` whose errors the SDK would throw into the application, and to whose
 * promises it would not listen. What they cannot decide is not sent; a span, which has to be, goes as it is.
 */
export function guardedHooks(sdk: NodeOptions, report: (error: unknown) => void): NodeOptions {
  const { beforeBreadcrumb, beforeSendLog, beforeSendMetric, beforeSendSpan } = sdk
  const { tracesSampler, onFatalError, initialScope, integrations, stackParser } = sdk
  function ask<Answer>(name: string, call: () => Answer, otherwise: Answer, rule: AnswerRule): Answer {
    return answerOf(`sdk.${name}`, call, otherwise, report, rule)
  }
  return {
    ...(beforeBreadcrumb && {
      beforeBreadcrumb: (crumb, hint) => ask('beforeBreadcrumb', () => beforeBreadcrumb(crumb, hint), null, AN_ITEM)
    }),
    ...(beforeSendLog && { beforeSendLog: (log) => ask('beforeSendLog', () => beforeSendLog(log), null, AN_ITEM) }),
    ...(beforeSendMetric && {
      beforeSendMetric: (metric) => ask('beforeSendMetric', () => beforeSendMetric(metric), null, AN_ITEM)
    }),
    ...(beforeSendSpan && {
      // The SDK marks those that take spans one by one.
      beforeSendSpan: Object.assign(
        (span: Parameters<typeof beforeSendSpan>[0]) => ask('beforeSendSpan', () => beforeSendSpan(span), span, A_SPAN),
        beforeSendSpan
      )
    }),
    ...(tracesSampler && {
      tracesSampler: (context) => ask('tracesSampler', () => tracesSampler(context), 0, A_RATE)
    }),
    ...(onFatalError && {
      onFatalError: (error) => ask('onFatalError', () => onFatalError(error), undefined, ANYTHING)
    }),
    ...(typeof initialScope === 'function' && {
      initialScope: (scope) => ask('initialScope', () => initialScope(scope), scope, ANYTHING)
    }),
    ...(typeof stackParser === 'function' && {
      stackParser: (...stack) => ask('stackParser', () => stackParser(...stack), [], A_LIST)
    }),
    ...(typeof integrations === 'function' && {
      integrations: (defaults) => ask('integrations', () => integrations(defaults), defaults, A_LIST)
    })
  }
}
