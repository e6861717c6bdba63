import { test } from 'tap'
import { callbacks } from './callbacks.ts'

callbacks(test, ['throws an error', 'is async and rejects'])
