import type { Socket } from 'node:net'
import { OBSERVATION } from '../request-observation.ts'
import { runOutside } from '../scope.ts'
import { setTimeout } from '../time/timers.ts'

const SWEEP_MS = 250

// Connections whose last request has ended.
const idle = new Set<Socket>()

/**
 * Frees what a connection holds of its last request. Node sets the timer of an idle connection while it still serves the
 * request, and a timer keeps the scope that it was set in: the request and all its objects, until the next one comes.
 */
export function freeWhenIdle(socket: Socket): void {
  if (idle.size === 0) runOutside(setTimeout, sweep, SWEEP_MS).unref()
  idle.add(socket)
}

function sweep(): void {
  for (const socket of idle) {
    // Another request that has come since sets the timer anew.
    if (socket.timeout && !socket.destroyed && !socket[OBSERVATION]) socket.setTimeout(socket.timeout)
  }
  idle.clear()
}
