import { test } from 'tap'
import { callbacks, PROBLEMS } from './callbacks.ts'

callbacks(test, PROBLEMS)
