// The list of all checks. The umbrella exports it too.

export { type DiskOptions, disk } from './checks/disk.ts'
export { http } from './checks/http.ts'
export { type PostgresClient, type PostgresPool, postgres } from './checks/postgres.ts'
export { type RedisClient, redis } from './checks/redis.ts'
