import client, { type Registry } from '@prometheus-io/client'
import type { Sample } from './exposition/format.ts'

/** The registry of an app, and the labels that its users want on every series. */
export interface AppRegistry {
  registry: Registry
  defaultLabels(): Sample['labels']
}

/** The client applies default labels when it writes its metrics itself, but gives no access to them. */
export function createRegistry(): AppRegistry {
  let labels: Sample['labels'] = {}
  class AppClientRegistry extends client.Registry {
    override setDefaultLabels(given: object): void {
      super.setDefaultLabels(given)
      labels = { ...given }
    }

    override clear(): void {
      super.clear()
      labels = {}
    }
  }
  return { registry: new AppClientRegistry(client.prometheusContentType), defaultLabels: () => labels }
}
