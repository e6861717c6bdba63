import { type Check, postgres } from 'fastify-observability'
import { Pool } from 'pg'
import { SettingError, withoutPassword } from './setting-error.ts'

export interface Order {
  id: string
  customer: string
  /** In cents. */
  amount: number
  createdAt: Date
}

export interface Database {
  /** Fails unless the database answers. */
  readonly check: Check
  insert(order: Omit<Order, 'createdAt'>): Promise<Order>
  find(id: string): Promise<Order | undefined>
  /** All orders, a page in memory at a time. */
  all(): AsyncGenerator<Order>
  close(): Promise<void>
}

/** A PostgreSQL of our own, inside this process and in memory. */
export interface EmbeddedPostgres {
  url: string
  close(): Promise<void>
}

const CONNECTIONS = 5
const CONNECT_MS = 3_000
const QUERY_MS = 5_000
const PAGE = 500
const COLUMNS = 'id, customer, amount, created_at AS "createdAt"'

export async function startEmbeddedPostgres(): Promise<EmbeddedPostgres> {
  // 27 MB of WebAssembly that a service with a DATABASE_URL does not load.
  const { PGlite } = await import('@electric-sql/pglite')
  const { PGLiteSocketServer } = await import('@electric-sql/pglite-socket')
  const engine = await PGlite.create()
  const server = new PGLiteSocketServer({ db: engine, host: '127.0.0.1', port: 0, maxConnections: 20 })
  await server.start()
  return {
    url: `postgres://postgres@${server.getServerConn()}/postgres`,
    async close() {
      await server.stop()
      await engine.close()
    }
  }
}

/**
 * Opens the database at `url`, an embedded one without.
 * @throws SettingError if no PostgreSQL answers there.
 */
export async function openDatabase(
  url: string | undefined,
  onConnectionLost: (error: Error) => void
): Promise<Database> {
  const embedded = url === undefined ? await startEmbeddedPostgres() : undefined
  const connectionString = url ?? embedded?.url
  const pool = new Pool({
    connectionString,
    max: CONNECTIONS,
    connectionTimeoutMillis: CONNECT_MS,
    query_timeout: QUERY_MS
  })
  // Without a listener, a connection that breaks while idle ends the process.
  pool.on('error', onConnectionLost)

  async function close(): Promise<void> {
    await pool.end()
    await embedded?.close()
  }

  try {
    await pool.query(
      `CREATE TABLE IF NOT EXISTS orders (
        id text PRIMARY KEY,
        customer text NOT NULL,
        amount integer NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now()
      )`
    )
  } catch (error) {
    await close()
    throw unreachable(connectionString, error)
  }

  return {
    check: postgres(pool),
    async insert({ id, customer, amount }) {
      const { rows } = await pool.query<Order>(
        `INSERT INTO orders (id, customer, amount) VALUES ($1, $2, $3) RETURNING ${COLUMNS}`,
        [id, customer, amount]
      )
      const [order] = rows
      if (!order) throw new Error('PostgreSQL returned no row for an insert')
      return order
    },
    async find(id) {
      const { rows } = await pool.query<Order>(`SELECT ${COLUMNS} FROM orders WHERE id = $1`, [id])
      return rows[0]
    },
    async *all() {
      for (let after: string | undefined = ''; after !== undefined; ) {
        const { rows }: { rows: Order[] } = await pool.query<Order>(
          `SELECT ${COLUMNS} FROM orders WHERE id > $1 ORDER BY id LIMIT ${PAGE}`,
          [after]
        )
        yield* rows
        after = rows.length < PAGE ? undefined : rows.at(-1)?.id
      }
    },
    close
  }
}

function unreachable(url = '', error: unknown): SettingError {
  // A host with several addresses fails with an AggregateError, which has a code and no message.
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  const reason = (error instanceof Error && error.message) || code
  return new SettingError(
    `DATABASE_URL has no usable PostgreSQL at "${withoutPassword(url)}" (${reason}): start it, set another one, ` +
      'or unset DATABASE_URL for an embedded PostgreSQL.',
    { cause: error }
  )
}
