import { once } from 'node:events'
import { request } from 'node:http'
import { connect, type Socket } from 'node:net'
import type { Cell } from '../cell.ts'
import { until } from '../patience.ts'
import type { Stage } from '../stage.ts'

/** A client that misbehaves again and again, and others that behave. */
function misbehaving(everyMs: number, misbehave: (stage: Stage) => unknown): Pick<Cell, 'begin' | 'hasOtherRequests'> {
  return {
    hasOtherRequests: true,
    begin(stage) {
      let strikes = 0
      const timer = setInterval(() => {
        strikes++
        misbehave(stage)
      }, everyMs)
      return () => {
        clearInterval(timer)
        return strikes
      }
    }
  }
}

function open({ service }: Stage): Socket {
  return connect(Number(new URL(service.origin).port), '127.0.0.1').on('error', () => undefined)
}

function flood(count: number, length: number): string {
  return Array.from({ length: count }, (_, index) => `x-${index}: ${'y'.repeat(length)}\r\n`).join('')
}

export const clientCells: Cell[] = [
  {
    name: 'clients that leave before the answer',
    expected: 'nothing lost; others are served',
    ...misbehaving(20, ({ service }) => {
      const asked = request(`${service.origin}/slow`).on('error', () => undefined)
      asked.end()
      setTimeout(() => asked.destroy(), 50)
    })
  },
  {
    name: 'clients that leave in the midst of a large answer',
    expected: 'nothing lost; others are served',
    ...misbehaving(100, ({ service }) => {
      const asked = request(`${service.origin}/big`, (response) => {
        response.on('error', () => undefined).once('data', () => response.destroy())
      })
      asked.on('error', () => undefined).end()
    })
  },
  {
    name: 'slowloris: 200 connections that send a byte a second',
    expected: 'nothing lost; others are served',
    hasOtherRequests: true,
    begin(stage) {
      const sockets = Array.from({ length: 200 }, () => open(stage))
      for (const socket of sockets) socket.write('GET /text HTTP/1.1\r\nhost: shop\r\nx-slow: ')
      const timer = setInterval(() => {
        for (const socket of sockets) socket.write('x')
      }, 1_000)
      return () => {
        clearInterval(timer)
        const { length } = sockets.filter(({ destroyed }) => !destroyed)
        for (const socket of sockets) socket.destroy()
        return length
      }
    }
  },
  {
    name: 'clients that close their half after the request',
    expected: 'nothing lost; they are answered',
    hasOtherRequests: true,
    begin(stage) {
      let answered = 0
      const timer = setInterval(() => {
        open(stage)
          .on('data', () => answered++)
          .end('GET /text HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n')
      }, 20)
      return async () => {
        // Node drops a request whose end it reads before it has answered: on a busy machine most of these.
        await until(() => answered > 0)
        clearInterval(timer)
        return answered
      }
    }
  },
  {
    name: 'clients that reset the connection with the request',
    expected: 'nothing lost; others are served',
    ...misbehaving(5, async (stage) => {
      const socket = open(stage)
      await once(socket, 'connect')
      socket.write('GET /text HTTP/1.1\r\nhost: shop\r\n\r\n', () => socket.resetAndDestroy())
    })
  },
  {
    name: 'floods of headers',
    expected: 'nothing lost; others are served',
    ...misbehaving(20, (stage) => {
      const headers = Math.random() < 0.5 ? flood(1_000, 5) : flood(10, 3_000)
      open(stage).resume().write(`GET /text HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n${headers}\r\n`)
    })
  },
  {
    name: 'clients that speak no HTTP',
    expected: 'nothing lost; others are served',
    ...misbehaving(20, (stage) => void open(stage).resume().end('nonsense\r\n\r\n'))
  }
]
