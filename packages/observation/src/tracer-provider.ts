import { ProxyTracerProvider, trace } from '@opentelemetry/api'

/** Has the process's tracer provider send what it holds, ours or another. Rejects when the provider does. */
export async function flushTracerProvider(): Promise<void> {
  const registered = trace.getTracerProvider()
  const provider = registered instanceof ProxyTracerProvider ? registered.getDelegate() : registered
  if ('forceFlush' in provider && typeof provider.forceFlush === 'function') await provider.forceFlush()
}
