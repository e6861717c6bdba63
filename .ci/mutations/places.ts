/** A guard of the process, of secrets or of a bound, and how it is taken out. */
export interface Guard {
  /** What it is for. */
  guard: string
  /** The text that is replaced, which occurs once in the file. */
  find: string
  replace: string
  /** The test files that fail without it: of the same package, or `package/file`. */
  tests: readonly string[]
  /** Why it is no fault that none of them does. */
  equivalent?: string
}

/** The guards by their file in `packages`. */
export const PLACES: Readonly<Record<string, readonly Guard[]>> = {
  'request-id/src/outgoing.ts': [
    {
      guard: 'no header is set on a call that has sent its own, which would end the process',
      find: 'request.headersSent ? renderedHeaders(request) : pendingHeaders(request)',
      replace: 'pendingHeaders(request)',
      tests: ['request-id']
    },
    {
      guard: 'calls of an old undici have one text of headers',
      find: "if (typeof headers === 'string') return linesOf(request, 'headers')",
      replace: '',
      tests: ['request-id']
    }
  ],
  'request-id/src/index.ts': [
    {
      guard: 'no ids go out after the end of their request',
      find: 'current === undefined || current.outcome || !mayCarry(host)',
      replace: 'current === undefined || !mayCarry(host)',
      tests: ['request-id']
    },
    {
      guard: 'ids go out only to the hosts that are named',
      find: 'current === undefined || current.outcome || !mayCarry(host)',
      replace: 'current === undefined || current.outcome',
      tests: ['request-id']
    },
    {
      guard: 'an app sends no ids with the calls of another',
      find: 'if (!isOurs) return\n',
      replace: '',
      tests: ['request-id']
    },
    {
      guard: 'an inbound id is short',
      find: "if (id.length > MAX_LENGTH) return 'too long'",
      replace: '',
      tests: ['request-id']
    },
    {
      guard: 'an inbound id is plain',
      find: "return PLAIN.test(id) ? undefined : 'unsafe characters'",
      replace: 'return undefined',
      tests: ['request-id']
    },
    {
      guard: 'an id of the application can be sent',
      find: "allows: (answer) => answer === undefined || SENDABLE.test(textOf(answer) ?? '')",
      replace: 'allows: () => true',
      tests: ['request-id']
    },
    {
      guard: 'trustInbound may throw',
      find: "answerOf('trustInbound', () => trustInbound(raw), false, reportError, YES_OR_NO)",
      replace: 'trustInbound(raw)',
      tests: ['request-id']
    },
    {
      guard: 'the correlation id of a job can be sent',
      find: 'given !== undefined && SENDABLE.test(given) ? given',
      replace: 'given !== undefined ? given',
      tests: ['observability/jobs']
    }
  ],
  'observation/src/values/thrown.ts': [
    {
      guard: 'no item of a list that is thrown is shown',
      find: 'if (Array.isArray(value)) return',
      replace: 'if (Array.isArray(value)) return String(value)\n  if (Array.isArray(value)) return',
      tests: ['thrown']
    },
    {
      guard: 'a proxy that is thrown is not asked, whose traps may never return',
      find: 'if (!isRecord(thrown) || types.isProxy(thrown)) return describe(thrown)',
      replace: 'if (!isRecord(thrown)) return describe(thrown)',
      tests: ['thrown']
    },
    {
      guard: 'no stack shows a list that an error has as its message',
      find: 'hasTexts ? stack :',
      replace: 'true ? stack :',
      tests: ['thrown']
    }
  ],
  'observation/src/time/deadline.ts': [
    {
      guard: 'a deadline that has passed is none to warn of',
      find: 'Math.max(timeoutMs, 0)',
      replace: 'timeoutMs',
      tests: ['deadline']
    },
    {
      guard: 'a wait without an end is no wait of a millisecond',
      find: ', MAX_MS)',
      replace: ', 2 ** 40)',
      tests: ['deadline']
    }
  ],
  'observation/src/values/answer.ts': [
    {
      guard: 'the rejection of an async callback does not end the process',
      find: 'if (isThenable(answer)) answer.then(undefined, () => undefined)\n',
      replace: 'if (isThenable(answer)) void answer\n',
      tests: ['observability/callbacks']
    },
    {
      guard: 'a callback that throws is reported',
      find: '    report(error)\n  }\n  return otherwise',
      replace: '    throw error\n  }\n  return otherwise',
      tests: ['observability/callbacks']
    },
    {
      guard: 'an answer of the wrong kind is not taken',
      find: 'else if (allows(answer)) return answer',
      replace: 'else return answer',
      tests: ['observability/callbacks.long']
    }
  ],
  'observation/src/values/error-name.ts': [
    {
      guard: 'an error that cannot be read has no name',
      find: '  } catch {\n    return undefined',
      replace: '  } catch (error) {\n    throw error',
      tests: ['observation']
    }
  ],
  'observation/src/values/headers-sent.ts': [
    {
      guard: 'headersSent is what the class says, whatever a plugin has defined on the response',
      find: "Reflect.get(Object.getPrototypeOf(response), 'headersSent', response) === true",
      replace: 'response.headersSent',
      tests: ['neighbours']
    }
  ],
  'observation/src/values/method.ts': [
    {
      guard: 'methods that nobody knows share one name',
      find: "typeof method === 'string' && known().has(method) ? method : '_OTHER'",
      replace: 'String(method)',
      tests: ['metrics/requests']
    }
  ],
  'observation/src/observers.ts': [
    {
      guard: "an app's error inside run is the app's",
      find: 'if (entered && !left) throw error',
      replace: '',
      tests: ['observation']
    },
    {
      guard: 'a handler runs once, whatever an observer does with next',
      find: 'if (entered) return\n',
      replace: '',
      tests: ['observation']
    },
    {
      guard: 'the rejection of an async observer does not end the process',
      find: 'if (isThenable(result)) watchResult(result, (error) => report(name, error))',
      replace: '',
      tests: ['observation']
    },
    {
      guard: 'an observer that throws at the end harms nobody',
      find: 'watch(observer.name, observer.end?.(observation, outcome), report)\n      } catch (error) {\n        report(observer.name, error)',
      replace:
        'watch(observer.name, observer.end?.(observation, outcome), report)\n      } catch (error) {\n        throw error',
      tests: ['observation']
    },
    {
      guard: 'failing observers are logged once a minute',
      find: 'if (!mayLog()) return',
      replace: '',
      tests: ['observation']
    },
    {
      guard: 'a logger that throws does not reach the request',
      find: "      // A logger of the user's may fail too.",
      replace: '      throw new Error(observer)',
      tests: ['observation']
    }
  ],
  'observation/src/lifecycle.ts': [
    {
      guard: 'a request without a socket is served as without us',
      find: 'if (!request.raw.socket) return undefined',
      replace: '',
      tests: ['neighbours']
    },
    {
      guard: 'an emitted request without a socket ends nothing',
      find: 'if (raw.socket) arrive(raw, response)',
      replace: 'arrive(raw, response)',
      tests: ['neighbours']
    },
    {
      guard: 'the names of aborted jobs in a line are few',
      find: 'names.slice(0, MAX_NAMED)',
      replace: 'names',
      tests: ['observation']
    }
  ],
  'observation/src/request-observation.ts': [
    {
      guard: 'a header of an early answer is not set after it was sent',
      find: 'else if (!hasSentHeaders(this.response)) this.response.setHeader(name, value)',
      replace: 'else this.response.setHeader(name, value)',
      tests: ['request-id/request-id'],
      equivalent:
        'the observers catch and count what setHeader throws, and only who answers before our listener, at a URL that Fastify cannot decode, gets there'
    },
    {
      guard: 'trustProxy may throw',
      find: '    return request.ip\n  } catch {\n    return undefined',
      replace: '    return request.ip\n  } catch (error) {\n    throw error',
      tests: ['tracing/request-span']
    },
    {
      guard: 'no field is added after the end',
      find: '    if (this.outcome) {\n      fieldRules',
      replace: '    if (this.outcome === null) {\n      fieldRules',
      tests: ['fields']
    },
    {
      guard: 'causes never form a circle',
      find: ' && !isCauseOf(cause, error)',
      replace: '',
      tests: ['outcomes']
    },
    {
      guard: 'an error that cannot be changed stays as it is',
      find: '    // An error that cannot be read stays as it is.',
      replace: '    throw new Error()',
      tests: ['outcomes']
    }
  ],
  'observation/src/fields.ts': [
    {
      guard: 'a request has at most 64 fields',
      find: "if (known === undefined && this.size === MAX_FIELDS) return 'too_many'",
      replace: '',
      tests: ['fields']
    },
    {
      guard: 'the fields of a request have at most 4,096 characters',
      find: "if (characters > MAX_CHARACTERS) return 'too_large'",
      replace: '',
      tests: ['fields']
    },
    {
      guard: 'the name of a field is short',
      find: " || name.length > MAX_NAME) return 'invalid'",
      replace: ") return 'invalid'",
      tests: ['fields']
    },
    {
      guard: 'a field does not replace what the suite writes',
      find: "reserved.has(name) ? 'reserved' : this.put(name, added[name])",
      replace: 'this.put(name, added[name])',
      tests: ['fields']
    },
    {
      guard: 'fields whose getters throw are dropped',
      find: "    } catch {\n      dropped.add('invalid')",
      replace: '    } catch (error) {\n      throw error',
      tests: ['fields']
    }
  ],
  'observation/src/values/by-place.ts': [
    {
      guard: 'what is known of a name is not taken for that of another at its place',
      find: 'last?.name === name',
      replace: 'last',
      tests: ['observability/fields']
    }
  ],
  'observation/src/holding.ts': [
    {
      guard: 'what a request holds is bounded',
      find: 'while (this.bytes > maxBytes) this.dropOldest()',
      replace: '',
      tests: ['logging/keep']
    },
    {
      guard: 'what all requests hold is bounded',
      find: 'while (all.bytes > maxTotalBytes && all.oldest) all.oldest.dropOldest()',
      replace: '',
      tests: ['tracing/keep']
    }
  ],
  'observation/src/job.ts': [
    {
      guard: 'the name of a job is short',
      find: "name !== '' ? name.slice(0, MAX_NAME)",
      replace: "name !== '' ? name",
      tests: ['observability/jobs']
    }
  ],
  'observation/src/redaction/names.ts': [
    {
      guard: 'the memory of names is bounded',
      find: 'if (known.size >= MAX_REMEMBERED) known.clear()',
      replace: '',
      tests: ['redact']
    },
    {
      guard: 'no long name is remembered',
      find: 'if (key.length <= MAX_KEY) known.set(key, answer)',
      replace: 'known.set(key, answer)',
      tests: ['redact']
    },
    {
      guard: 'of a long name the end is considered',
      find: 'const considered = key.slice(-MAX_KEY)',
      replace: 'const considered = key.slice(0, MAX_KEY)',
      tests: ['redact']
    }
  ],
  'observation/src/redaction/redactor.ts': [
    {
      guard: 'a text is cleaned to a bound',
      find: 'text.length <= MAX_TEXT\n',
      replace: 'text.length >= 0\n',
      tests: ['redact']
    },
    {
      guard: 'secret parameters of a query',
      find: 'isSecret(key) || (isSecretParameter(key) && !isAllowed(key))',
      replace: 'isSecret(key)',
      tests: ['redact']
    }
  ],
  'observation/src/redaction/pairs.ts': [
    {
      guard: 'overlapping secrets are redacted to the end instead of searched for ever',
      find: '++overlaps > MAX_OVERLAPS ? text.length : Math.max(secret.end, found.end)',
      replace: 'Math.max(secret.end, found.end)',
      tests: ['redact']
    },
    {
      guard: 'the password in a URL',
      find: 'if (userInfo) return userInfo',
      replace: '',
      tests: ['redact']
    }
  ],
  'observation/src/redaction/forms.ts': [
    {
      guard: "one form of tokens: Shopify's",
      find: '  /shp[a-z]{2}_[A-Fa-f0-9]{32}/,\n',
      replace: '',
      tests: ['redact']
    },
    {
      guard: "one form of tokens: SendGrid's",
      find: '  /SG\\.[\\w-]{16,}\\.[\\w-]{16,}/,\n',
      replace: '',
      tests: ['redact']
    },
    {
      guard: "one form of tokens: Vault's",
      find: '  /hvs\\.[\\w-]{20,}/,\n',
      replace: '',
      tests: ['redact']
    },
    {
      guard: "one form of tokens: Slack's of apps",
      find: '  /xapp-[\\w-]{8,}/,\n',
      replace: '',
      tests: ['redact']
    }
  ],
  'observation/src/options/parse.ts': [
    {
      guard: 'the value of a wrong option is no secret',
      find: 'secrets.isSecret(name) || RANDOM.test(text) ?',
      replace: 'secrets.isSecret(name) ?',
      tests: ['observability/option-secrets']
    },
    {
      guard: 'the URL of a wrong variable is not repeated',
      find: "value.includes('://') ? undefined : value",
      replace: 'value',
      tests: ['options']
    }
  ],
  'observation/src/options/hosts.ts': [
    {
      guard: 'an expression with the flag g matches each time',
      find: 'host.search(pattern) !== -1',
      replace: 'pattern.test(host)',
      tests: ['request-id/request-id']
    }
  ],
  'observation/src/sources/idle.ts': [
    {
      guard: 'the sweep of idle connections holds no process',
      find: 'runOutside(setTimeout, sweep, SWEEP_MS).unref()',
      replace: 'runOutside(setTimeout, sweep, SWEEP_MS)',
      tests: ['idle'],
      equivalent: 'it runs once after 250 ms, so that the process ends all the same'
    }
  ],
  'observation/src/sources/response.ts': [
    {
      guard: '304 has no body',
      find: 'statusCode !== 204 && statusCode !== 304',
      replace: 'statusCode !== 204',
      tests: ['outcomes']
    }
  ],
  'observation/src/scope.ts': [
    {
      guard: 'deliveries are not traced themselves',
      find: '.setValue(SUPPRESS_TRACING, true)',
      replace: '',
      tests: ['tracing/hygiene']
    }
  ],
  'observation/src/delivery.ts': [
    {
      guard: 'a part that cannot flush fails no other',
      find: '  } catch {\n    return false',
      replace: '  } catch (error) {\n    throw error',
      tests: ['observability/flush']
    }
  ],
  'observation/src/losses.ts': [
    {
      guard: 'a part that cannot count does not keep the process from ending',
      find: '      // A part that cannot count must not keep the process from ending.',
      replace: '      throw new Error()',
      tests: ['observation']
    }
  ],
  'health/src/check.ts': [
    {
      guard: 'a check runs once at a time',
      find: 'running ??= run()',
      replace: 'running = run()',
      tests: ['health']
    },
    {
      guard: 'a check that hangs has failed',
      find: 'return await Promise.race([work(), expired])',
      replace: 'return await work()',
      tests: ['health']
    }
  ],
  'health/src/details.ts': [
    {
      guard: 'details by the name of a secret',
      find: 'if (redactor.isSecretName(name)) return [name, redactor.replacement]',
      replace: '',
      tests: ['health']
    },
    {
      guard: 'secrets in the text of details and errors',
      find: 'return redactor.text(text).slice(0, MAX_TEXT)',
      replace: 'return text.slice(0, MAX_TEXT)',
      tests: ['health']
    },
    {
      guard: 'the text of details and errors is short',
      find: 'return redactor.text(text).slice(0, MAX_TEXT)',
      replace: 'return redactor.text(text)',
      tests: ['health']
    },
    {
      guard: 'details are few',
      find: '    .slice(0, MAX_DETAILS)\n',
      replace: '',
      tests: ['health']
    },
    {
      guard: 'an error of a check that cannot be read',
      find: "  } catch {\n    return '[unreadable]'",
      replace: '  } catch (error) {\n    throw error',
      tests: ['health']
    }
  ],
  'health/src/checks/redis.ts': [
    {
      guard: "the error event of a client's broken connection does not end the process",
      find: "client.on('error', ignoreError)",
      replace: '',
      tests: ['health']
    },
    {
      guard: 'one ping at a time waits for a server that hangs',
      find: 'shareCall(() => client.ping())',
      replace: '() => client.ping()',
      tests: ['health']
    }
  ],
  'health/src/checks/postgres.ts': [
    {
      guard: 'the error event of an idle client of the pool does not end the process',
      find: "pool.on('error', ignoreError)",
      replace: '',
      tests: ['outages']
    }
  ],
  'health/src/checks/http.ts': [
    {
      guard: 'a check follows no redirect',
      find: "redirect: 'manual'",
      replace: "redirect: 'follow'",
      tests: ['health']
    }
  ],
  'health/src/index.ts': [
    {
      guard: 'a function for details may throw or be async',
      find: "    return answerOf(\n      'details',\n      () => details(request),\n      false,\n      (error) => report(NAME, error),\n      YES_OR_NO\n    )",
      replace: '    return details(request)',
      tests: ['health']
    }
  ],
  'health/src/pressure.ts': [
    {
      guard: '404 is not shed',
      find: 'if (request.is404 || request.routeOptions',
      replace: 'if (request.routeOptions',
      tests: ['health']
    },
    {
      guard: 'the watch of the pressure holds no process',
      find: 'setInterval(compare, SAMPLE_MS).unref()',
      replace: 'setInterval(compare, SAMPLE_MS)',
      tests: ['health']
    }
  ],
  'health/src/shutdown/connections.ts': [
    {
      guard: 'connections that send nothing do not hold the shutdown',
      find: 'for (const socket of sockets) if (socket.bytesRead === 0) socket.destroy()',
      replace: '',
      tests: ['observability/shutdown']
    },
    {
      guard: 'upgraded connections do not hold the shutdown',
      find: '      for (const socket of sockets) socket.destroy()\n',
      replace: '',
      tests: ['observability/shutdown']
    }
  ],
  'health/src/shutdown/process-end.ts': [
    {
      guard: 'a second signal ends the process at once',
      find: 'if (isSignalled) process.exit(1)',
      replace: 'if (isSignalled) return',
      tests: ['observability/shutdown']
    },
    {
      guard: 'a crash ends the process although an app hangs',
      find: 'setTimeout(() => process.exit(1), CRASH_MS)',
      replace: '',
      tests: ['observability/shutdown'],
      equivalent: 'each step of a crash has a deadline of its own'
    }
  ],
  'otlp/src/metrics.ts': [
    {
      guard: 'a flush of points takes those of now, whatever push is under way',
      find: 'pushing ? pushing.then(push) : push()',
      replace: 'push()',
      tests: ['metrics']
    }
  ],
  'otlp/src/queue.ts': [
    {
      guard: 'held bytes are bounded',
      find: 'heldBytes + entry.content.length > MAX_HELD_BYTES',
      replace: 'false',
      tests: ['exporter']
    },
    {
      guard: 'a batch fits a gRPC server',
      find: 'if (filling.bytes + content.length > MAX_BATCH_BYTES) closeBatch()',
      replace: '',
      tests: ['size']
    },
    {
      guard: 'the queue is bounded',
      find: "if (accounts.held() >= maxQueueSize) return accounts.drop('queue_full', 1)",
      replace: '',
      tests: ['exporter']
    },
    {
      guard: 'what cannot be encoded is counted',
      find: "    } catch {\n      return 'not_encodable'",
      replace: '    } catch (error) {\n      throw error',
      tests: ['encoder']
    },
    {
      guard: 'what comes after the close is counted',
      find: "if (isClosed) return accounts.drop('shutdown', 1)",
      replace: '',
      tests: ['exporter']
    },
    {
      guard: 'the delay of a batch holds no process',
      find: 'setTimeout(sendOne, delayMs).unref()',
      replace: 'setTimeout(sendOne, delayMs)',
      tests: ['ending']
    }
  ],
  'otlp/src/accounts.ts': [
    {
      guard: 'a late answer after the close counts nothing twice',
      find: '    delivered(items) {\n      if (isClosed) return\n',
      replace: '    delivered(items) {\n',
      tests: ['accounts']
    },
    {
      guard: 'a late failure after the close counts nothing twice',
      find: '    lost(reason, items, words) {\n      if (isClosed) return\n',
      replace: '    lost(reason, items, words) {\n',
      tests: ['accounts']
    },
    {
      guard: 'a log that throws stops no delivery',
      find: '      // A log on a full disk throws; nobody catches it here, and the items are counted anyway.',
      replace: '      throw new Error()',
      tests: ['accounts']
    }
  ],
  'otlp/src/failure.ts': [
    {
      guard: 'DATA_LOSS is tried again',
      find: "  'UNAVAILABLE',\n  'DATA_LOSS'\n",
      replace: "  'UNAVAILABLE'\n",
      tests: ['exporter']
    },
    {
      guard: 'the text of a collector is not repeated',
      find: ': name,\n    isTransient',
      replace: ': details,\n    isTransient',
      tests: ['exporter']
    },
    {
      guard: 'a negative number of rejected items is none',
      find: 'return rejected < 2 ** 63 ? rejected : 0',
      replace: 'return rejected',
      tests: ['accounts']
    }
  ],
  'otlp/src/delivery.ts': [
    {
      guard: 'no more are rejected than were sent',
      find: 'Math.min(answer.rejected, items)',
      replace: 'answer.rejected',
      tests: ['exporter']
    },
    {
      guard: 'the close has a deadline',
      find: 'await within(DELIVERY_SHARE * timeoutMs, deliverRest())',
      replace: 'await deliverRest()',
      tests: ['exporter']
    }
  ],
  'otlp/src/http.ts': [
    {
      guard: 'the answer of a collector is read to a bound',
      find: 'if (size <= MAX_ANSWER_BYTES) chunks.push(chunk)',
      replace: 'chunks.push(chunk)',
      tests: ['exporter']
    },
    {
      guard: 'the error event of a call does not end the process',
      find: "call.on('error', (error) => end(networkFailure(error)))",
      replace: '',
      tests: ['exporter']
    }
  ],
  'metrics/src/instruments/series.ts': [
    {
      guard: 'exemplars are taken ten times a second',
      find: 'if (age >= 0 && age < EXEMPLAR_MS) return known',
      replace: '',
      tests: ['instruments']
    },
    {
      guard: 'a clock that was set back keeps no exemplar for ever',
      find: 'if (age >= 0 && age < EXEMPLAR_MS) return known',
      replace: 'if (age < EXEMPLAR_MS) return known',
      tests: ['instruments']
    },
    {
      guard: 'remove() takes the series',
      find: '    this.children.delete(key)\n    this.valuesOf.delete(child)\n',
      replace: '',
      tests: ['instruments']
    },
    {
      guard: 'remove() frees the values of labels',
      find: 'else known.delete(value)',
      replace: 'else known.set(value, 0)',
      tests: ['instruments']
    },
    {
      guard: 'the series of a metric are bounded',
      find: 'const isFull = this.children.size >= limits.maxSeries && ',
      replace: 'const isFull = this.children.size < 0 && ',
      tests: ['instruments']
    },
    {
      guard: 'the values of a label are bounded',
      find: "if (label.size < limits.maxLabelValues || label.has(wanted[index] ?? '')) return",
      replace: 'if (label.size >= 0) return',
      tests: ['instruments']
    }
  ],
  'metrics/src/instruments/labels.ts': [
    {
      guard: 'the value of a label is short',
      find: '.slice(0, MAX_LENGTH)',
      replace: '',
      tests: ['instruments']
    },
    {
      guard: 'labels whose getters throw do not reach a handler',
      find: '  } catch {\n    return undefined\n  }\n}\n\n/** Both',
      replace: '  } catch (error) {\n    throw error\n  }\n}\n\n/** Both',
      tests: ['instruments']
    }
  ],
  'metrics/src/instruments/counter.ts': [
    {
      guard: 'a counter takes no NaN',
      find: 'if (!this.isFinite(amount)) return',
      replace: '',
      tests: ['instruments']
    },
    {
      guard: 'a counter never falls',
      find: "if (amount < 0) this.drop('negative')\n    else ",
      replace: '',
      tests: ['instruments']
    }
  ],
  'metrics/src/exposition/collector.ts': [
    {
      guard: 'a metric that hangs does not hold the scrape',
      find: 'await Promise.race([family, expired])',
      replace: 'await family',
      tests: ['exposition']
    },
    {
      guard: 'a metric that hangs is asked once',
      find: 'if (pending.has(name)) return []',
      replace: '',
      tests: ['exposition']
    },
    {
      guard: 'labels that cannot be written do not fail the scrape',
      find: 'const readable = family.values.filter(({ labels }) => isReadable(labels))',
      replace: 'const readable = family.values',
      tests: ['instruments']
    }
  ],
  'metrics/src/exposition/route.ts': [
    {
      guard: 'answers that nobody reads are few',
      find: 'if (unread.size > MAX_UNREAD && oldest) abort(oldest)',
      replace: '',
      tests: ['exposition']
    },
    {
      guard: 'one collection serves all scrapes at that time',
      find: 'collecting ??= collect()',
      replace: 'collecting = collect()',
      tests: ['exposition']
    },
    {
      guard: 'the deadline of a reader holds no process',
      find: 'setTimeout(() => response.destroy(), READ_TIMEOUT_MS).unref()',
      replace: 'setTimeout(() => response.destroy(), READ_TIMEOUT_MS)',
      tests: ['exposition'],
      equivalent: 'the connection of the reader holds the process as long'
    }
  ],
  'metrics/src/sources/callback.ts': [
    {
      guard: 'the rejection of an async collect does not end the process',
      find: 'watchResult(value, () => undefined)',
      replace: '',
      tests: ['callbacks']
    }
  ],
  'metrics/src/sources/requests.ts': [
    {
      guard: 'customLabels may throw',
      find: "      report(error)\n      return ''",
      replace: '      throw error',
      tests: ['callbacks']
    },
    {
      guard: 'no series of removed metrics is written',
      find: 'if (now !== removals) routes.clear()',
      replace: '',
      tests: ['requests']
    },
    {
      guard: 'the routes past the limit are not remembered',
      find: 'if (active.isOwn(series.active, labels)) routes',
      replace: 'routes',
      tests: ['requests'],
      equivalent: 'an app has so many routes and methods as it has; this spares their memory'
    }
  ],
  'metrics/src/cluster.ts': [
    {
      guard: 'process_* of worker threads is not added up',
      find: "PROCESS.test(family.name) ? { ...family, aggregator: 'max' } : family",
      replace: 'family',
      tests: ['cluster']
    },
    {
      guard: 'a worker that does not answer does not hold the scrape',
      find: 'setTimeout(resolve, ANSWER_MS)',
      replace: 'setTimeout(() => undefined, ANSWER_MS)',
      tests: ['cluster']
    }
  ],
  'metrics/src/otlp/windows.ts': [
    {
      guard: 'the positions of removed series are forgotten',
      find: 'if (lastTimeMs !== timeMs) known.positions.delete(series)',
      replace: '',
      tests: ['points']
    }
  ],
  'logging/src/guard.ts': [
    {
      guard: 'setBindings is made safe',
      find: '[safe.fields(bindings, serializersOf(this))])',
      replace: '[bindings])',
      tests: ['safe']
    },
    {
      guard: 'the bindings of a child are made safe',
      find: '[safe.fields(bindings, own), rest]',
      replace: '[bindings, rest]',
      tests: ['safe']
    },
    {
      guard: 'a line that cannot be written does not reach the handler',
      find: '      } catch (error) {\n        events.lost?.(error)',
      replace: '      } catch (error) {\n        throw error',
      tests: ['safe']
    },
    {
      guard: 'the rejection of an async mixin does not end the process',
      find: 'if (mixed instanceof Promise) mixed.catch((error) => failed?.(error))',
      replace: '',
      tests: ['existing-logger']
    }
  ],
  'logging/src/safe.ts': [
    {
      guard: 'a circle ends',
      find: "if (call.path.includes(value)) return '[circular]'",
      replace: '',
      tests: ['safe']
    },
    {
      guard: 'a value of a line is not too deep',
      find: "if (call.path.length > MAX_DEPTH) return '[too deep]'",
      replace: '',
      tests: ['safe']
    },
    {
      guard: 'a list in a line is not too long',
      find: 'if (index === MAX_WIDTH || call.entries-- <= 0) {',
      replace: 'if (index < 0) {',
      tests: ['safe']
    },
    {
      guard: 'the characters of a line are bounded',
      find: 'const room = Math.min(MAX_TEXT, call.characters)',
      replace: 'const room = MAX_TEXT',
      tests: ['safe']
    },
    {
      guard: 'a text of a line is bounded',
      find: 'const room = Math.min(MAX_TEXT, call.characters)',
      replace: 'const room = call.characters',
      tests: ['safe']
    },
    {
      guard: 'a getter may throw',
      find: '    return source[key]\n  } catch {\n    return UNREADABLE',
      replace: '    return source[key]\n  } catch (error) {\n    throw error',
      tests: ['safe']
    },
    {
      guard: 'a serializer may throw',
      find: '    return serializer(value)\n  } catch {\n    return UNREADABLE',
      replace: '    return serializer(value)\n  } catch (error) {\n    throw error',
      tests: ['safe']
    },
    {
      guard: 'secrets in the texts of a line',
      find: 'escapeLoose(redactor.text(over > 0 ? text.slice(0, room) : text))',
      replace: 'escapeLoose(over > 0 ? text.slice(0, room) : text)',
      tests: ['secrets']
    },
    {
      guard: 'nobody outside forges a line',
      find: 'escapeLoose(redactor.text(over > 0 ? text.slice(0, room) : text))',
      replace: 'redactor.text(over > 0 ? text.slice(0, room) : text)',
      tests: ['safe']
    },
    {
      guard: 'secrets by the name of a field',
      find: 'name.isSecret && isTelling(value) ? redactor.replacement : copy(value, key, call)',
      replace: 'copy(value, key, call)',
      tests: ['secrets']
    },
    {
      guard: 'a pair of name and value is a secret too',
      find: 'isNamedSecret ? redactor.replacement : get(source, key)',
      replace: 'get(source, key)',
      tests: ['safe']
    },
    {
      guard: 'the memory of the names of fields is bounded',
      find: 'if (known.size >= MAX_REMEMBERED) known.clear()',
      replace: '',
      tests: ['safe']
    },
    {
      guard: 'a key of a line is short',
      find: 'key.length > MAX_KEY ? ',
      replace: 'key.length < 0 ? ',
      tests: ['safe']
    }
  ],
  'logging/src/error.ts': [
    {
      guard: 'the stack says no more than the message',
      find: 'message !== safe ? stack.indexOf(message) : -1',
      replace: 'message !== safe ? -1 : -1',
      tests: ['safe']
    },
    {
      guard: 'errors below an error are bounded',
      find: 'if (depth > MAX_CAUSES || seen.length >= MAX_ERRORS)',
      replace: 'if (depth < 0)',
      tests: ['safe']
    }
  ],
  'logging/src/context.ts': [
    {
      guard: 'the path of a request forges no line',
      find: 'path: request && escapeLoose(shortened(request.path))',
      replace: 'path: request && shortened(request.path)',
      tests: ['logging']
    },
    {
      guard: 'a path takes no more than a line has room for',
      find: 'innerOf(shortened(path))',
      replace: 'innerOf(path)',
      tests: ['logging']
    }
  ],
  'logging/src/sink.ts': [
    {
      guard: 'held lines are bounded in bytes',
      find: 'if (heldBytes + size > MAX_HELD_BYTES) return undefined',
      replace: '',
      tests: ['sink']
    },
    {
      guard: 'an outlet that rejects ends nothing',
      find: 'await outlet.write(sending).catch(() => undefined)',
      replace: 'await outlet.write(sending)',
      tests: ['sink']
    },
    {
      guard: 'a line after the close is counted',
      find: "if (closed) return drop('closed', 1)",
      replace: '',
      tests: ['sink']
    }
  ],
  'logging/src/stream-sink.ts': [
    {
      guard: "the application's stream may throw",
      find: '      } catch {\n        refuse()',
      replace: '      } catch (error) {\n        throw error',
      tests: ['destinations']
    },
    {
      guard: "the application's stream may reject",
      find: 'watchResult(stream.write(line), refuse)',
      replace: 'stream.write(line)',
      tests: ['destinations']
    },
    {
      guard: 'a stream that the application has ended emits no error',
      find: "if (hasEnded(stream)) drop('closed')\n    else ",
      replace: '',
      tests: ['destinations']
    },
    {
      guard: 'nothing is written to an ended stream by the flush, which waits for its end',
      find: 'if (hasEnded(stream)) {\n      if (!stream.closed) await finished(stream, { readable: false, cleanup: true })\n    } else ',
      replace: '',
      tests: ['destinations']
    },
    {
      guard: 'an ended stream keeps no listener of a flush',
      find: ', cleanup: true',
      replace: '',
      tests: ['destinations']
    },
    {
      guard: 'no flush is sent to an ended transport, which is waited for',
      find: "  if (hasEnded(stream)) {\n    if ('closed' in",
      replace: "  if (false) {\n    if ('closed' in",
      tests: ['destinations']
    },
    {
      guard: 'a destination that ends before its file is open writes each line once',
      find: "if ('fd' in stream && stream.fd === -1 && !hasEnded(stream)) await once(stream, 'ready')",
      replace: '',
      tests: ['destinations']
    },
    {
      guard: 'what stands in the place of a stream’s write is waited for',
      find: 'answeredAll(deadlineMs), ',
      replace: '',
      tests: ['destinations']
    },
    {
      guard: 'what stands there and never calls back does not hold the close up',
      find: 'Math.min(patienceMs, deadlineMs)',
      replace: 'deadlineMs',
      tests: ['destinations']
    },
    {
      guard: 'what stands there may refuse a line',
      find: 'if (isRefused) refuse()',
      replace: '',
      tests: ['destinations']
    },
    {
      guard: 'what stands there ends the wait for a line once',
      find: 'if (!isPending) return',
      replace: '',
      tests: ['destinations']
    },
    {
      guard: 'what stands there and throws, or rejects, ends the wait',
      find: '() => settle(true)',
      replace: 'refuse',
      tests: ['destinations']
    },
    {
      guard: 'one of several streams that has ended takes no line',
      find: 'else if (isSeveral(stream) && stream.streams.some(needsCare)) writeToSeveral(stream, line)\n    ',
      replace: '',
      tests: ['destinations']
    },
    {
      guard: 'several streams are left as they are',
      find: 'several.streams = streams\n',
      replace: '',
      tests: ['destinations']
    },
    {
      guard: 'a dead one of several streams does not end the wait for the others',
      find: 'await Promise.allSettled(stream.streams',
      replace: 'await Promise.all(stream.streams',
      tests: ['destinations']
    }
  ],
  'logging/src/archives.ts': [
    {
      guard: 'an empty archive leaves no descriptor open',
      find: 'archive.size === 0 || ',
      replace: '',
      tests: ['file']
    },
    {
      guard: 'an archive that cannot be read does not hold the others up',
      find: 'if (isFull(error)) return',
      replace: 'return',
      tests: ['file']
    },
    {
      guard: 'an archive that cannot be deleted does not keep the others',
      find: '.catch(() => undefined)\n    }',
      replace: '\n    }',
      tests: ['file']
    },
    {
      guard: 'an archive that another process writes to stays whole',
      find: 'if ((await source.stat()).size > size)',
      replace: 'if (false)',
      tests: ['file']
    },
    {
      guard: 'what another process has written before a crash is compressed too',
      find: 'if (compressed >= archive.mtime.getTime())',
      replace: 'if (compressed >= 0)',
      tests: ['file']
    },
    {
      guard: 'what another process writes in the last steps is kept',
      find: 'await keepTail(source, size)',
      replace: '',
      tests: ['file']
    }
  ],
  'logging/src/file.ts': [
    {
      guard: 'a file ends with its day, also when the clock is set over midnight',
      find: '|| today() > target.day',
      replace: '',
      tests: ['observability/clock-jumps.long']
    },
    {
      guard: 'a file that cannot be opened twice leaves no descriptor open',
      find: 'this.stream.destroy(error instanceof Error ? error : undefined)',
      replace: 'throw error',
      tests: ['file']
    },
    {
      guard: 'the error event of a file does not end the process',
      find: "    stream.on('error', (error) => this.onError(error))\n",
      replace: '',
      tests: ['full-disk']
    },
    {
      guard: 'a file of lines is not for everybody',
      find: 'const MODE = 0o640',
      replace: 'const MODE = 0o666',
      tests: ['file']
    }
  ],
  'logging/src/line-buffer.ts': [
    {
      guard: 'held lines of a request are bounded',
      find: 'if (this.lines > MAX_LINES) this.dropOldest()',
      replace: '',
      tests: ['keep']
    },
    {
      guard: 'a getter of a held field may log',
      find: '    if (this.isAdding) {\n      this.missing++\n      return true\n    }\n',
      replace: '',
      tests: ['keep']
    },
    {
      guard: 'a getter of a held field may throw',
      find: "      // A getter or a proxy of the user's.",
      replace: '      throw new Error()',
      tests: ['keep']
    }
  ],
  'sentry/src/trace-rate.ts': [
    {
      guard: 'no more traces a second than may be',
      find: 'this.before > this.few ? this.maxPerSecond / this.before : this.asked',
      replace: 'this.asked',
      tests: ['trace-rate']
    },
    {
      guard: 'however many more come, twice as many traces at most',
      find: '(this.maxPerSecond * usual) / this.requests ** 2',
      replace: 'this.maxPerSecond / this.requests',
      tests: ['trace-rate']
    },
    {
      guard: 'the share stands in the trace',
      find: '    this.now = share\n',
      replace: '',
      tests: ['tracing']
    }
  ],
  'sentry/src/rate-limit.ts': [
    {
      guard: 'fatal events are exempt from the cap',
      find: 'admitted.length >= maxEventsPerMinute && !isFatal',
      replace: 'admitted.length >= maxEventsPerMinute',
      tests: ['outage']
    },
    {
      guard: 'equal events are few',
      find: "if (equal.length >= maxEqualEventsPerMinute) return 'fingerprint_limit'",
      replace: '',
      tests: ['outage']
    },
    {
      guard: 'an error whose stack cannot be read has a fingerprint',
      find: "    return 'unreadable'",
      replace: '    throw new Error()',
      tests: ['outage']
    }
  ],
  'sentry/src/transport.ts': [
    {
      guard: 'an event has ten seconds',
      find: 'AbortSignal.any([closing, AbortSignal.timeout(REQUEST_MS)])',
      replace: 'closing',
      tests: ['outage']
    },
    {
      guard: 'deliveries run outside of requests',
      find: 'return await runInBackground(send, envelope)',
      replace: 'return await send(envelope)',
      tests: ['scope']
    },
    {
      guard: 'the rejection of an async transport does not end the process',
      find: 'watchResult(transport, () => undefined)',
      replace: '',
      tests: ['observability/callbacks']
    }
  ],
  'sentry/src/failure.ts': [
    {
      guard: 'the items of a list that is thrown, the source of a function and the bytes of a buffer stay here',
      find: 'thrown instanceof Error ? thrown : thrownText(thrown)',
      replace: 'thrown instanceof Error ? thrown : thrown',
      tests: ['observability/secrets']
    },
    {
      guard: 'an error that cannot be read is counted',
      find: '    return causes.every((cause) => isReadable(cause, depth + 1))\n  } catch {\n    return false',
      replace: '    return causes.every((cause) => isReadable(cause, depth + 1))\n  } catch {\n    return true',
      tests: ['sentry']
    }
  ],
  'sentry/src/crash.ts': [
    {
      guard: 'a capture that throws changes no exit code',
      find: '      // Node and the application still handle it.',
      replace: '      throw new Error()',
      tests: ['crash']
    },
    {
      guard: 'an exception that cannot be printed ends the process in the same way',
      find: "    console.error('an uncaught exception that cannot be shown')",
      replace: '    throw new Error()',
      tests: ['crash']
    }
  ],
  'sentry/src/client.ts': [
    {
      guard: 'the SDK collects nothing by itself',
      find: 'dataCollection: { ...NO_DATA, ...sdk.dataCollection }',
      replace: 'dataCollection: { ...sdk.dataCollection }',
      tests: ['sentry']
    },
    {
      guard: 'no header of Sentry goes to other hosts',
      find: '    tracePropagationTargets: [],\n',
      replace: '',
      tests: ['tracing']
    },
    {
      guard: 'a profile ends with the client, whatever span is open',
      find: '      endProfiles()\n',
      replace: '',
      tests: ['profiling.long']
    },
    {
      guard: 'the close of the client has a deadline',
      find: 'await within(CLOSE_MS, client.close(CLOSE_MS))',
      replace: 'await client.close(CLOSE_MS)',
      tests: ['outage'],
      equivalent: 'client.close() keeps the same deadline itself'
    },
    {
      guard: 'deliveries under way are aborted at the close',
      find: '    closing.abort()\n',
      replace: '',
      tests: ['outage']
    }
  ],
  'sentry/src/scrub.ts': [
    {
      guard: 'secrets of the user',
      find: 'if (event.user) event.user = scrubAttributes(event.user, redactor)',
      replace: '',
      tests: ['sentry']
    },
    {
      guard: 'secrets by the name of a key',
      find: 'if (isSecret(key) || isNamedByOther',
      replace: 'if (isNamedByOther',
      tests: ['sentry']
    },
    {
      guard: 'secrets that another entry names',
      find: 'if (isSecret(key) || isNamedByOther(record, key, isName))',
      replace: 'if (isSecret(key))',
      tests: ['observability/sentry-secrets']
    },
    {
      guard: 'secrets in contexts',
      find: '{ [name]: scrub(context, redactor, redactor.isSecret) }',
      replace: '{ [name]: context }',
      tests: ['observability/sentry-secrets']
    },
    {
      guard: 'secrets in texts of events',
      find: "if (typeof value === 'string') return redactor.text(value)",
      replace: "if (typeof value === 'string') return value",
      tests: ['sentry']
    },
    {
      guard: 'an event is not too deep',
      find: "if (depth === MAX_DEPTH) return '[more]'",
      replace: '',
      tests: ['sentry']
    }
  ],
  'sentry/src/request-scopes.ts': [
    {
      guard: 'breadcrumbs of a request are bounded',
      find: 'if (memory.crumbs.push(crumb) > maxCrumbs) memory.crumbs.shift()',
      replace: 'memory.crumbs.push(crumb)',
      tests: ['sentry']
    },
    {
      guard: 'requests are apart that come in a scope of the SDK',
      find: ' && inner !== memoryOf(work).outer',
      replace: '',
      tests: ['scope']
    }
  ],
  'sentry/src/profiling.ts': [
    {
      guard: 'a span that is not sampled begins no profile',
      find: 'isSampled(span) && open++ === 0',
      replace: 'open++ === 0',
      tests: ['profiling.long']
    },
    {
      guard: 'no profile begins once the client closes',
      find: '    for (const stop of stops) stop()\n',
      replace: '',
      tests: ['profiling.long']
    },
    {
      guard: 'the profile that ends is that of our client, whichever is in force',
      find: 'if (Sentry.getClient() === client) what()',
      replace: 'if (client) what()',
      tests: ['profiling.long']
    }
  ],
  'sentry/src/connection.ts': [
    {
      guard: 'what the SDK could not be loaded for is counted',
      find: "    if (lost > 0) drop('not_loaded', lost)",
      replace: '',
      tests: ['broken']
    },
    {
      guard: 'events that wait for the SDK are few',
      find: 'if (isOver || waiting.length === MAX_WAITING)',
      replace: 'if (isOver)',
      tests: ['waiting']
    },
    {
      guard: 'a flush waits for the SDK',
      find: 'if (!live && waiting.length > 0) await within(timeoutMs, settled())',
      replace: '',
      tests: ['waiting'],
      equivalent: 'Node 24 loads the SDK within the two turns of the event loop that begin every flush'
    },
    {
      guard: 'a client of the user is left to report crashes itself',
      find: '    // Its own handlers report how the process ends.\n    crashes.stop()\n',
      replace: '',
      tests: ['late']
    }
  ],
  'tracing/src/span.ts': [
    {
      guard: 'a span below one that is not sampled is left out only where nobody would record it',
      find: 'const span = skipsUnsampled ? trace.getActiveSpan() : undefined',
      replace: 'const span = trace.getActiveSpan()',
      tests: ['sampling']
    }
  ],
  'tracing/src/server/attributes.ts': [
    {
      guard: 'the Host that is kept is that of the request',
      find: 'if (host === lastHost && scheme === lastScheme) return lastConnection',
      replace: 'if (lastHost !== undefined && scheme === lastScheme) return lastConnection',
      tests: ['request-span']
    },
    {
      guard: 'secrets in the query of a span',
      find: 'redactor.text(url.slice(query)).slice(1)',
      replace: 'url.slice(query).slice(1)',
      tests: ['hygiene'],
      equivalent:
        'the scrubber cleans url.query of each span again; this one is for processors of the application that see the span at its start'
    },
    {
      guard: 'trustProxy may throw',
      find: '    return NOWHERE\n  }\n}',
      replace: '    throw new Error()\n  }\n}',
      tests: ['request-span']
    }
  ],
  'tracing/src/processing/scrubber.ts': [
    {
      guard: 'the redactor that is replaced is in force at once',
      find: '        rules = noRules()\n',
      replace: '',
      tests: ['hygiene']
    },
    {
      guard: 'it is for added fields too, whose rules are known by their places',
      find: '        ruleAt = byPlace(ruleOf)\n',
      replace: '',
      tests: ['hygiene']
    },
    {
      guard: 'secrets by the name of an attribute',
      find: 'if (isSecretName(key)) return () => replacement',
      replace: '',
      tests: ['hygiene']
    },
    {
      guard: 'values of statements',
      find: 'return (value, attributes) => cleanStatement(String(value), attributes)',
      replace: 'return (value) => value',
      tests: ['hygiene']
    },
    {
      guard: 'secrets in the query of other spans',
      find: "if (key === 'url.query') return",
      replace: "if (key === '') return",
      tests: ['hygiene']
    },
    {
      guard: 'secrets in events of spans',
      find: 'if (event.attributes) scrubAttributes(event.attributes)',
      replace: '',
      tests: ['hygiene']
    },
    {
      guard: 'secrets in links of spans',
      find: 'for (const link of links) if (link.attributes) scrubAttributes(link.attributes)',
      replace: '',
      tests: ['hygiene']
    },
    {
      guard: 'secrets in the status of spans',
      find: 'status.message = redactor.text(status.message).slice(0, MAX_MESSAGE)',
      replace: 'status.message = status.message.slice(0, MAX_MESSAGE)',
      tests: ['hygiene']
    },
    {
      guard: 'the memory of attributes is bounded',
      find: 'if (rules.size < MAX_KEYS) rules.set(key, rule)',
      replace: 'rules.set(key, rule)',
      tests: ['hygiene']
    }
  ],
  'tracing/src/processing/guarded.ts': [
    {
      guard: "the application's processor may throw at the end of a span",
      find: 'onEnd: (span) => attempt(() => processor.onEnd(span), report)',
      replace: 'onEnd: (span) => processor.onEnd(span)',
      tests: ['extensions']
    },
    {
      guard: "the application's processor may reject at the close",
      find: '      report(error)\n',
      replace: '      throw error\n',
      tests: ['extensions']
    }
  ],
  'tracing/src/processing/held-traces.ts': [
    {
      guard: 'held spans of a trace are few',
      find: 'if (this.spans.length > MAX_SPANS) this.dropOldest()',
      replace: '',
      tests: ['keep']
    },
    {
      guard: 'a span that is too large is not held',
      find: 'if (bytes > MAX_BYTES) {',
      replace: 'if (bytes < 0) {',
      tests: ['keep']
    }
  ],
  'tracing/src/processing/tree.ts': [
    {
      guard: 'traces that never end are bounded',
      find: 'if (oldest && traces.size >= MAX_TRACES) print(...oldest)',
      replace: '',
      tests: ['tree']
    },
    {
      guard: 'the shown spans of a trace are bounded',
      find: 'if (trace.spans.length < MAX_SPANS) trace.spans.push(span)',
      replace: 'if (trace.spans) trace.spans.push(span)',
      tests: ['tree']
    },
    {
      guard: 'a terminal obeys nobody outside',
      find: "return stripVTControlCharacters(value).replace(/\\p{Cc}/gu, ' ')",
      replace: 'return value',
      tests: ['tree']
    },
    {
      guard: 'a terminal that has gone disturbs nobody',
      find: '      // A terminal that has gone is no reason to disturb who ends a span.',
      replace: '      throw new Error()',
      tests: ['tree']
    }
  ],
  'tracing/src/processing/statement.ts': [
    {
      guard: 'the statement of a span is short',
      find: 'shapeOf(whole ? sql : sql.slice(0, MAX_LENGTH), isMySql)',
      replace: 'shapeOf(sql, isMySql)',
      tests: ['statement']
    }
  ],
  'tracing/src/propagation/trace-context.ts': [
    {
      guard: 'members of a tracestate are bounded',
      find: 'list.length === 0 || list.length > MAX_MEMBERS',
      replace: 'list.length === 0',
      tests: ['propagator']
    },
    {
      guard: 'two traceparents are none',
      find: 'others.length === 0 ? parseTraceparent(traceparent) : undefined',
      replace: 'parseTraceparent(traceparent)',
      tests: ['propagator']
    },
    {
      guard: 'a trace goes out only to the hosts that are named',
      find: 'if (trace.getSpanContext(context)?.traceState instanceof WithheldTraceState) return',
      replace: '',
      tests: ['outgoing']
    },
    {
      guard: 'a propagator of the application may throw at a call',
      find: '        propagator.inject(context, carrier, setter)\n      } catch (error) {\n        report(error)',
      replace: '        propagator.inject(context, carrier, setter)\n      } catch (error) {\n        throw error',
      tests: ['propagator']
    },
    {
      guard: 'a propagator of the application may throw at a request',
      find: '      } catch (error) {\n        report(error)\n        return context',
      replace: '      } catch (error) {\n        throw error',
      tests: ['propagator']
    }
  ],
  'tracing/src/propagation/w3c-baggage.ts': [
    {
      guard: 'baggage is bounded',
      find: 'if (longer > MAX_LENGTH) return false',
      replace: '',
      tests: ['baggage']
    },
    {
      guard: 'baggage with a percent sign is read',
      find: '    return decodeURIComponent(value)\n  } catch {',
      replace: '    return decodeURIComponent(value)\n  } catch (error) {\n    throw error',
      tests: ['baggage']
    }
  ],
  'tracing/src/server/span.ts': [
    {
      guard: 'a caller that is not trusted drives no sampling',
      find: 'if (!isFromCaller || isTrusted(raw)) return [caller]',
      replace: 'return [caller]',
      tests: ['tracing']
    }
  ],
  'tracing/src/server/request-span.ts': [
    {
      guard: 'attributes of a span are bounded',
      find: 'if (isNew && this.count >= this.home.limits.attributeCountLimit) {',
      replace: 'if (isNew && this.count < 0) {',
      tests: ['request-span']
    },
    {
      guard: 'events of a span are bounded',
      find: 'if (this.events.length > this.home.limits.eventCountLimit) {',
      replace: 'if (this.events.length < 0) {',
      tests: ['request-span']
    },
    {
      guard: 'texts of a span are bounded',
      find: 'return value.length > attributeValueLengthLimit ? value.slice(0, attributeValueLengthLimit) : value',
      replace: 'return value',
      tests: ['request-span']
    }
  ],
  'tracing/src/sampler.ts': [
    {
      guard: "the application's sampler may throw",
      find: "return answerOf('sampler.shouldSample', () => sampler.shouldSample(...args), RECORDED, report, A_DECISION)",
      replace: 'return sampler.shouldSample(...args)',
      tests: ['extensions']
    }
  ],
  'observability/src/doctor/secrets.ts': [
    {
      guard: 'the doctor prints no value of a variable that sounds secret',
      find: 'secrets.reduce((rest, secret) => rest.replaceAll(secret, redactor.replacement), text)',
      replace: 'text',
      tests: ['doctor-endpoints.long']
    }
  ],
  'observability/src/management.ts': [
    {
      guard: 'the management listener asks for its token',
      find: 'return timingSafeEqual(digest(given), wanted)',
      replace: 'return given !== undefined',
      tests: ['management']
    },
    {
      guard: 'the management listener is on the loopback',
      find: "host = '127.0.0.1'",
      replace: "host = '0.0.0.0'",
      tests: ['management']
    }
  ],
  'observability/src/serverless.ts': [
    {
      guard: 'after an outage an answer waits little',
      find: 'patienceMs = complete ? FLUSH_MS : OUTAGE_MS',
      replace: 'patienceMs = FLUSH_MS',
      tests: ['serverless']
    }
  ]
}
