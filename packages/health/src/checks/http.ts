import type { Check } from '../check.ts'

/** Healthy when the URL answers with 2xx. Details: `status`. */
export function http(url: string | URL): Check {
  const target = new URL(url)
  return async (signal) => {
    const { ok, status, body } = await fetch(target, { signal, redirect: 'manual' })
    await body?.cancel()
    if (!ok) throw new Error(`answered ${status}`)
    return { status }
  }
}
