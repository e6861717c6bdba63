import { currentScope, type Scope } from '@fastify-observability/observation/internal'
import { SYSTEM } from '../instrumentation/database-calls.ts'
import { withoutValues } from '../processing/statement.ts'
import { type Calls, type Description, type Message, serverOf } from './calls.ts'

const FIRST_WORD = /^\w*/

/** @see https://github.com/sidorares/node-mysql2/blob/master/lib/tracing.js */
export function traceMysql2({ track, on, bind }: Calls): void {
  // A query that waits for a connection of the pool is sent in the scope that has released one.
  const waiting = new WeakMap<Message, Scope>()
  on('mysql2:pool:connect', 'start', (message) => {
    const scope = currentScope()
    if (scope) waiting.set(message, scope)
  })
  bind('mysql2:pool:connect', 'asyncStart', (message) => waiting.get(message))
  track('mysql2:query', query)
  track('mysql2:execute', query)
}

/** What upstream's instrumentation of mysql2 says, without values. */
function query(message: Message): Description {
  const text = withoutValues(String(message.query), true)
  return {
    name: FIRST_WORD.exec(text)?.[0] || 'mysql2.query',
    attributes: {
      [SYSTEM]: 'mysql',
      'db.namespace': message.database ? String(message.database) : undefined,
      'db.query.text': text,
      ...serverOf(message)
    }
  }
}
