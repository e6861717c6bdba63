// Writes the dashboards: node docker/grafana/dashboards.ts. The JSON is committed, and a test fails when it is not this.
import { mkdirSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Dashboard } from '@grafana/grafana-foundation-sdk/dashboard'
import { TextBoxVariableBuilder } from '@grafana/grafana-foundation-sdk/dashboard'
import { PanelBuilder as NodeGraphPanel } from '@grafana/grafana-foundation-sdk/nodegraph'
import { PanelBuilder as TablePanel } from '@grafana/grafana-foundation-sdk/table'
import { SearchTableType, DataqueryBuilder as TempoQuery } from '@grafana/grafana-foundation-sdk/tempo'
import {
  build,
  type Line,
  logCounts,
  logLines,
  other,
  ROUTE,
  type Row,
  SERVICE,
  stat,
  TEMPO,
  table,
  timeseries
} from './panels.ts'

const FOLDER = new URL('dashboards/', import.meta.url)

/** Of the requests that users make: probes and scrapes are not theirs. */
const REQUESTS = 'service=~"$service", http_route=~"$route", http_route!~"/metrics|/health.*"'
const PROCESS = 'service=~"$service", job="services"'
const RATE = '$__rate_interval'
const DURATION = 'http_server_request_duration_seconds'

function quantile(share: number, by: string, metric = DURATION, filter = REQUESTS): string {
  return `histogram_quantile(${share}, sum by (${['le', by].filter(Boolean).join(', ')}) (rate(${metric}_bucket{${filter}}[${RATE}])))`
}

/** Nothing counted yet is zero, not a gap: a counter has no series before its first count. */
function orZero(expr: string, by = 'service'): string {
  return `${expr} or sum by (${by}) (up{${PROCESS}}) * 0`
}

function share(failing: string): string {
  return `(sum by (service) (rate(${DURATION}_count{${REQUESTS}, ${failing}}[${RATE}])) or sum by (service) (rate(${DURATION}_count{${REQUESTS}}[${RATE}])) * 0) / sum by (service) (rate(${DURATION}_count{${REQUESTS}}[${RATE}]))`
}

function one(expr: string, legend = '{{service}}'): Line[] {
  return [{ expr, legend }]
}

const overview: Row[] = [
  {
    question: 'Is it serving?',
    panels: [
      stat('Requests a second', one(`sum by (service) (rate(${DURATION}_count{${REQUESTS}}[${RATE}]))`), {
        unit: 'reqps'
      }),
      stat('Failed', one(share('http_response_status_code=~"5.."')), {
        unit: 'percentunit',
        limits: { warn: 0.001, bad: 0.01 },
        decimals: 2,
        description: 'Share of the requests answered with 5xx.'
      }),
      stat('95 % answered within', one(quantile(0.95, 'service')), { unit: 's', limits: { warn: 0.25, bad: 0.5 } }),
      stat(
        'Ready',
        one(orZero(`min by (service) (health_check_up{${PROCESS}}) or max by (service) (up{${PROCESS}})`)),
        {
          limits: { warn: 1, bad: 0.5 },
          description: '1 while every health check passes; a service without checks, while it can be scraped.'
        }
      )
    ]
  },
  {
    question: 'What do users get? Click a point in the latency to open its trace',
    panels: [
      timeseries(
        'Requests by status',
        one(
          `sum by (http_response_status_code) (rate(${DURATION}_count{${REQUESTS}}[${RATE}]))`,
          '{{http_response_status_code}}'
        ),
        { unit: 'reqps', stacked: true }
      ),
      timeseries(
        'Latency',
        [
          { expr: quantile(0.5, ''), legend: '50 %' },
          { expr: quantile(0.95, ''), legend: '95 %' },
          { expr: quantile(0.99, ''), legend: '99 %', exemplars: true }
        ],
        { unit: 's', description: 'The points are requests with a trace.' }
      ),
      timeseries(
        'Failed and aborted',
        [
          {
            expr: orZero(
              `sum by (service) (rate(${DURATION}_count{${REQUESTS}, http_response_status_code=~"5.."}[${RATE}]))`
            ),
            legend: '{{service}} failed'
          },
          {
            expr: orZero(
              `sum by (service) (rate(${DURATION}_count{${REQUESTS}, error_type="client_disconnect"}[${RATE}]))`
            ),
            legend: '{{service}} aborted by the client'
          }
        ],
        { unit: 'reqps' }
      )
    ]
  },
  {
    question: 'Which routes are busy, failing or slow?',
    panels: [
      table(
        'Routes',
        [
          {
            name: 'Requests a second',
            unit: 'reqps',
            expr: `sum by (service, http_request_method, http_route) (rate(${DURATION}_count{${REQUESTS}}[5m]))`
          },
          {
            name: 'Failed',
            unit: 'percentunit',
            expr: `(sum by (service, http_request_method, http_route) (rate(${DURATION}_count{${REQUESTS}, http_response_status_code=~"5.."}[5m])) or sum by (service, http_request_method, http_route) (rate(${DURATION}_count{${REQUESTS}}[5m])) * 0) / sum by (service, http_request_method, http_route) (rate(${DURATION}_count{${REQUESTS}}[5m]))`
          },
          {
            name: '95 % within',
            unit: 's',
            expr: `histogram_quantile(0.95, sum by (le, service, http_request_method, http_route) (rate(${DURATION}_bucket{${REQUESTS}}[5m])))`
          },
          {
            name: 'First byte, 95 % within',
            unit: 's',
            expr: `histogram_quantile(0.95, sum by (le, service, http_request_method, http_route) (rate(http_server_time_to_first_byte_seconds_bucket{${REQUESTS}}[5m])))`
          },
          {
            name: 'Answer, mean',
            unit: 'bytes',
            expr: `sum by (service, http_request_method, http_route) (rate(http_server_response_body_size_bytes_sum{${REQUESTS}}[5m])) / sum by (service, http_request_method, http_route) (rate(http_server_response_body_size_bytes_count{${REQUESTS}}[5m]))`
          }
        ],
        { service: 'Service', http_request_method: 'Method', http_route: 'Route' }
      )
    ]
  },
  {
    question: 'Is there room for more?',
    panels: [
      timeseries('Requests in progress', one(`sum by (service) (http_server_active_requests{${REQUESTS}})`), {
        width: 6
      }),
      timeseries(
        'Event loop busy',
        one(`max by (service, instance) (nodejs_eventloop_utilization_ratio{${PROCESS}})`, '{{service}} {{instance}}'),
        {
          unit: 'percentunit',
          max: 1,
          width: 6
        }
      ),
      timeseries(
        'CPU',
        one(
          `sum by (service, instance) (rate(process_cpu_seconds_total{${PROCESS}}[${RATE}]))`,
          '{{service}} {{instance}}'
        ),
        {
          unit: 'percentunit',
          width: 6,
          description: '100 % is one core.'
        }
      ),
      timeseries(
        'Memory',
        one(`sum by (service, instance) (process_resident_memory_bytes{${PROCESS}})`, '{{service}} {{instance}}'),
        {
          unit: 'bytes',
          width: 6
        }
      )
    ]
  },
  {
    question: 'Who calls whom, and which traces are worth a look?',
    panels: [
      other(
        new NodeGraphPanel()
          .title('Service graph')
          .datasource(TEMPO)
          .targets([new TempoQuery().refId('A').datasource(TEMPO).queryType('serviceMap').query('')]),
        10,
        10
      ),
      other(
        new TablePanel()
          .title('Traces with an error, or over half a second')
          .datasource(TEMPO)
          .targets([
            new TempoQuery()
              .refId('A')
              .datasource(TEMPO)
              .queryType('traceql')
              .query('{ kind = server && (status = error || duration > 500ms) }')
              .limit(20)
              .tableType(SearchTableType.Traces)
          ]),
        14,
        10
      )
    ]
  }
]

const runtime: Row[] = [
  {
    question: 'Is the event loop free?',
    panels: [
      timeseries('Busy', one(`nodejs_eventloop_utilization_ratio{${PROCESS}}`, '{{service}} {{instance}}'), {
        unit: 'percentunit',
        max: 1,
        description: 'Share of the time since the last scrape in which it was not waiting.'
      }),
      timeseries(
        'Delay',
        [
          { expr: `nodejs_eventloop_lag_p50_seconds{${PROCESS}}`, legend: '50 % {{service}} {{instance}}' },
          { expr: `nodejs_eventloop_lag_p99_seconds{${PROCESS}}`, legend: '99 % {{service}} {{instance}}' }
        ],
        { unit: 's' }
      ),
      timeseries(
        'CPU',
        [
          {
            expr: `rate(process_cpu_user_seconds_total{${PROCESS}}[${RATE}])`,
            legend: 'user {{service}} {{instance}}'
          },
          {
            expr: `rate(process_cpu_system_seconds_total{${PROCESS}}[${RATE}])`,
            legend: 'system {{service}} {{instance}}'
          }
        ],
        { unit: 'percentunit' }
      )
    ]
  },
  {
    question: 'Does memory grow?',
    panels: [
      timeseries('Resident', one(`process_resident_memory_bytes{${PROCESS}}`, '{{service}} {{instance}}'), {
        unit: 'bytes'
      }),
      timeseries(
        'Heap',
        [
          { expr: `nodejs_heap_size_used_bytes{${PROCESS}}`, legend: 'used {{service}} {{instance}}' },
          { expr: `nodejs_heap_size_total_bytes{${PROCESS}}`, legend: 'total {{service}} {{instance}}' },
          { expr: `nodejs_external_memory_bytes{${PROCESS}}`, legend: 'outside of it {{service}} {{instance}}' }
        ],
        { unit: 'bytes' }
      ),
      timeseries(
        'Time in garbage collection',
        one(
          `sum by (service, instance, kind) (rate(nodejs_gc_duration_seconds_sum{${PROCESS}}[${RATE}]))`,
          '{{kind}} {{service}} {{instance}}'
        ),
        { unit: 'percentunit' }
      )
    ]
  },
  {
    question: 'What does it hold open, and since when does it run?',
    panels: [
      timeseries('Open files', one(`process_open_fds{${PROCESS}}`, '{{service}} {{instance}}')),
      timeseries(
        'Resources that keep it alive',
        one(
          `sum by (service, instance, type) (nodejs_active_resources{${PROCESS}})`,
          '{{type}} {{service}} {{instance}}'
        )
      ),
      table(
        'Processes',
        [
          { name: 'Up for', unit: 's', expr: `time() - process_start_time_seconds{${PROCESS}}` },
          { name: 'Node', unit: 'none', expr: `nodejs_version_info{${PROCESS}}` }
        ],
        { service: 'Service', instance: 'Instance', version: 'Version' },
        { width: 8 }
      )
    ]
  }
]

const LOGS = '{service_name=~"$service"}'
const CHOSEN = `${LOGS} | severity_text=~"$level" |~ "(?i)$text"`
const logs: Row[] = [
  {
    question: 'How much is said, and how bad is it?',
    panels: [
      logCounts('Lines by level', [
        { expr: `sum by (severity_text) (count_over_time(${LOGS} [$__auto]))`, legend: '{{severity_text}}' }
      ]),
      logCounts('Failed requests by route', [
        {
          expr: `sum by (route) (count_over_time(${LOGS} | status_code >= 500 [$__auto]))`,
          legend: '{{route}}'
        }
      ])
    ]
  },
  {
    question: 'What went wrong? Open a line and follow its trace',
    panels: [logLines('Warnings and errors', `${LOGS} | severity_text=~"warn|error|fatal"`, { height: 10 })]
  },
  {
    question: 'What was said?',
    panels: [logLines('Lines', CHOSEN, { height: 14, description: 'Narrow it down by level and text above.' })]
  },
  {
    question: 'Which requests took long?',
    panels: [
      logLines('Requests over half a second', `${LOGS} |= "request completed" | duration_ms > 500`, { height: 8 })
    ]
  }
]

function budgetLeft(ratio: string, objective: string): string {
  return `1 - ${ratio}{service=~"$service"} / scalar(1 - ${objective})`
}

function burn(metric: string, objective: string): Line[] {
  return ['5m', '1h', '6h', '3d'].map((range) => ({
    expr: `service:http_requests_${metric}:ratio_rate${range}{service=~"$service"} / scalar(1 - ${objective})`,
    legend: `{{service}} over ${range}`
  }))
}

const slo: Row[] = [
  {
    question: 'Do we keep what we promise?',
    panels: [
      stat('Objective: requests that do not fail', one('slo:availability:objective', 'objective'), {
        unit: 'percentunit',
        decimals: 2
      }),
      stat(
        'Availability budget left, 3 days',
        one(budgetLeft('service:http_requests_failed:ratio_rate3d', 'slo:availability:objective')),
        {
          unit: 'percentunit',
          limits: { warn: 0.5, bad: 0 },
          decimals: 1
        }
      ),
      stat('Objective: answered within 0.5 s', one('slo:latency:objective', 'objective'), {
        unit: 'percentunit',
        decimals: 2
      }),
      stat(
        'Latency budget left, 3 days',
        one(budgetLeft('service:http_requests_slow:ratio_rate3d', 'slo:latency:objective')),
        {
          unit: 'percentunit',
          limits: { warn: 0.5, bad: 0 },
          decimals: 1
        }
      )
    ]
  },
  {
    question: 'How fast is the budget used up? At 1 it lasts exactly as long as it should',
    panels: [
      timeseries('Availability', burn('failed', 'slo:availability:objective'), { width: 12 }),
      timeseries('Latency', burn('slow', 'slo:latency:objective'), { width: 12 })
    ]
  },
  {
    question: 'Which alerts are on, and what uses the budget?',
    panels: [
      table(
        'Alerts',
        [
          {
            name: 'Firing',
            unit: 'none',
            expr: 'sum by (alertname, service, severity, alertstate) (ALERTS) or sum by (alertname) (absent(ALERTS)) * 0'
          }
        ],
        { alertname: 'Alert', service: 'Service', severity: 'Severity', alertstate: 'State' },
        { width: 12, description: 'What to do is in docker/README.md, a section for each.' }
      ),
      table(
        'Failed requests, last hour',
        [
          {
            name: 'Failed',
            unit: 'short',
            expr: `topk(10, sum by (service, http_route, error_type) (increase(${DURATION}_count{service=~"$service", http_route!~"/metrics|/health.*", http_response_status_code=~"5.."}[1h])))`
          }
        ],
        { service: 'Service', http_route: 'Route', error_type: 'Error' },
        { width: 12 }
      )
    ]
  }
]

const telemetry: Row[] = [
  {
    question: 'Is anything lost?',
    panels: [
      timeseries(
        'Spans lost',
        [
          {
            expr: orZero(
              `sum by (service) (rate(otel_sdk_exporter_span_exported_total{${PROCESS}, error_type!=""}[${RATE}]))`
            ),
            legend: '{{service}} in the export'
          },
          {
            expr: orZero(
              `sum by (service) (rate(otel_sdk_processor_span_processed_total{${PROCESS}, error_type!=""}[${RATE}]))`
            ),
            legend: '{{service}} before it'
          }
        ],
        { unit: 'cps' }
      ),
      timeseries(
        'Log lines lost',
        one(orZero(`sum by (service) (rate(log_lines_dropped_total{${PROCESS}}[${RATE}]))`)),
        {
          unit: 'cps'
        }
      ),
      timeseries(
        'Values without a series of their own',
        one(orZero(`sum by (service) (rate(metrics_series_overflow_total{${PROCESS}}[${RATE}]))`)),
        { unit: 'cps', description: 'A label has more values than its limit.' }
      )
    ]
  },
  {
    question: 'How much is made, and is it taken?',
    panels: [
      timeseries(
        'Spans',
        [
          {
            expr: `sum by (service) (rate(otel_sdk_processor_span_processed_total{${PROCESS}}[${RATE}]))`,
            legend: '{{service}} made'
          },
          {
            expr: `sum by (service) (rate(otel_sdk_exporter_span_exported_total{${PROCESS}, error_type=""}[${RATE}]))`,
            legend: '{{service}} exported'
          }
        ],
        { unit: 'cps' }
      ),
      timeseries('Spans that wait', one(`sum by (service) (otel_sdk_processor_span_queue_size{${PROCESS}})`)),
      timeseries(
        'Log lines',
        one(`sum by (service, level) (rate(log_lines_total{${PROCESS}}[${RATE}]))`, '{{service}} {{level}}'),
        {
          unit: 'cps'
        }
      )
    ]
  },
  {
    question: 'Does the collector keep up?',
    panels: [
      timeseries(
        'Taken and handed on',
        [
          { expr: `sum(rate(otelcol_receiver_accepted_spans{service="collector"}[${RATE}]))`, legend: 'spans taken' },
          {
            expr: `sum by (exporter) (rate(otelcol_exporter_sent_spans{service="collector"}[${RATE}]))`,
            legend: 'spans to {{exporter}}'
          },
          {
            expr: `sum(rate(otelcol_receiver_accepted_log_records{service="collector"}[${RATE}]))`,
            legend: 'log lines taken'
          }
        ],
        { unit: 'cps' }
      ),
      timeseries(
        'Queues',
        one(
          'sum by (exporter) (otelcol_exporter_queue_size{service="collector"}) / sum by (exporter) (otelcol_exporter_queue_capacity{service="collector"})',
          '{{exporter}}'
        ),
        { unit: 'percentunit', max: 1 }
      ),
      timeseries('Memory', one('otelcol_process_memory_rss{service="collector"}', 'collector'), { unit: 'bytes' })
    ]
  },
  {
    question: 'Does anything throw, and is everything scraped?',
    panels: [
      timeseries(
        'Observers that throw',
        one(orZero(`sum by (service) (rate(observability_observer_errors_total{${PROCESS}}[${RATE}]))`)),
        { unit: 'cps' }
      ),
      timeseries('Scraped', one('up', '{{job}} {{service}}'), { max: 1 }),
      timeseries('Time to scrape', one(`scrape_duration_seconds{${PROCESS}}`), { unit: 's' })
    ]
  }
]

const SPANS = 'service=~"$service", span_kind="SPAN_KIND_SERVER"'
const CALLS = 'traces_spanmetrics_calls_total'
const EDGE = 'traces_service_graph_request'
const NOT_PROBED = 'http_route!~"/metrics|/health.*"'

function traces(title: string, query: string, description = '') {
  const target = new TempoQuery().refId('A').datasource(TEMPO).queryType('traceql').query(query)
  return other(
    new TablePanel()
      .title(title)
      .description(description)
      .datasource(TEMPO)
      .targets([target.limit(20).tableType(SearchTableType.Traces)]),
    12,
    9
  )
}

const spans: Row[] = [
  {
    question: 'What do the spans say of the services, and of how many requests do they know?',
    panels: [
      stat('Server spans a second', one(`sum by (service) (rate(${CALLS}{${SPANS}}[${RATE}]))`), { unit: 'reqps' }),
      stat(
        'Failed',
        one(
          `(sum by (service) (rate(${CALLS}{${SPANS}, status_code="STATUS_CODE_ERROR"}[${RATE}])) or sum by (service) (rate(${CALLS}{${SPANS}}[${RATE}])) * 0) / sum by (service) (rate(${CALLS}{${SPANS}}[${RATE}]))`
        ),
        {
          unit: 'percentunit',
          decimals: 2,
          limits: { warn: 0.001, bad: 0.01 },
          description: 'Where only failed and slow traces are kept, this is far above the share of the requests.'
        }
      ),
      stat(
        '95 % ended within',
        one(
          `histogram_quantile(0.95, sum by (le, service) (rate(traces_spanmetrics_latency_bucket{${SPANS}}[${RATE}])))`
        ),
        { unit: 's', limits: { warn: 0.25, bad: 0.5 } }
      ),
      stat(
        'Requests with a span',
        one(
          `sum by (service) (rate(${CALLS}{${SPANS}}[5m])) / sum by (service) (rate(${DURATION}_count{service=~"$service", ${NOT_PROBED}}[5m]))`
        ),
        {
          unit: 'percentunit',
          decimals: 0,
          description:
            'The metrics of the services count every request, these count the spans that reach Tempo. At 100 % both dashboards agree; under sampling believe Service overview, and take this one for the traces behind it.'
        }
      )
    ]
  },
  {
    question: 'Which routes, as Tempo sees them? Click a point to open its trace',
    panels: [
      timeseries('Spans by route', one(`sum by (http_route) (rate(${CALLS}{${SPANS}}[${RATE}]))`, '{{http_route}}'), {
        unit: 'reqps',
        stacked: true
      }),
      timeseries(
        'Duration, 95 %, by route',
        [
          {
            expr: `histogram_quantile(0.95, sum by (le, http_route) (rate(traces_spanmetrics_latency_bucket{${SPANS}}[${RATE}])))`,
            legend: '{{http_route}}',
            exemplars: true
          }
        ],
        { unit: 's' }
      ),
      timeseries(
        'Failed by route',
        one(
          `sum by (http_route) (rate(${CALLS}{${SPANS}, status_code="STATUS_CODE_ERROR"}[${RATE}])) or sum by (http_route) (rate(${CALLS}{${SPANS}}[${RATE}])) * 0`,
          '{{http_route}}'
        ),
        { unit: 'reqps' }
      )
    ]
  },
  {
    question: 'Who calls whom, and how long does the answer take?',
    panels: [
      table(
        'Calls',
        [
          {
            name: 'Calls a second',
            unit: 'reqps',
            expr: `sum by (client, server, connection_type) (rate(${EDGE}_total{client=~"user|$service"}[5m]))`
          },
          {
            name: 'Failed a second',
            unit: 'reqps',
            expr: `sum by (client, server, connection_type) (rate(${EDGE}_failed_total{client=~"user|$service"}[5m])) or sum by (client, server, connection_type) (rate(${EDGE}_total{client=~"user|$service"}[5m])) * 0`
          },
          {
            name: '95 % within',
            unit: 's',
            expr: `histogram_quantile(0.95, sum by (le, client, server, connection_type) (rate(${EDGE}_server_seconds_bucket{client=~"user|$service"}[5m])))`
          }
        ],
        { client: 'Caller', server: 'Called', connection_type: 'Kind' }
      )
    ]
  },
  {
    question: 'Which traces are behind it?',
    panels: [
      traces('Failed requests', '{ kind = server && status = error } | select(span.http.route, span.error.type)'),
      traces(
        'Calls over a tenth of a second',
        '{ kind = client && duration > 100ms } | select(span.server.address, span.db.system.name)'
      )
    ]
  }
]

const LEVEL = new TextBoxVariableBuilder('level').label('Level').defaultValue('.+')
const TEXT = new TextBoxVariableBuilder('text').label('Text').defaultValue('')

/** The dashboards by the name of their file. */
export const dashboards: Record<string, Dashboard> = {
  'service-overview': build({
    uid: 'service-overview',
    title: 'Service overview',
    description: 'What users get, and where to look when they do not.',
    variables: [SERVICE, ROUTE],
    rows: overview
  }),
  'node-runtime': build({
    uid: 'node-runtime',
    title: 'Node runtime',
    description: 'The processes behind the services.',
    variables: [SERVICE],
    rows: runtime
  }),
  logs: build({
    uid: 'logs',
    title: 'Logs',
    description: 'What the services say.',
    variables: [SERVICE, LEVEL, TEXT],
    rows: logs
  }),
  slo: build({
    uid: 'slo',
    title: 'SLO',
    description: 'The objectives and the budgets of docker/prometheus/rules.',
    variables: [SERVICE],
    rows: slo
  }),
  spans: build({
    uid: 'spans',
    title: 'Requests, from spans',
    description:
      'What Tempo makes of the spans: under sampling that is of some requests, where Service overview knows all.',
    variables: [SERVICE],
    rows: spans
  }),
  'telemetry-health': build({
    uid: 'telemetry-health',
    title: 'Telemetry health',
    description: 'Whether what the other dashboards show is complete.',
    variables: [SERVICE],
    rows: telemetry
  })
}

/** A dashboard as it stands in its file. */
export function written(dashboard: Dashboard): string {
  return `${JSON.stringify(dashboard, null, 2)}\n`
}

if (import.meta.main) {
  mkdirSync(FOLDER, { recursive: true })
  for (const [name, dashboard] of Object.entries(dashboards)) {
    writeFileSync(fileURLToPath(new URL(`${name}.json`, FOLDER)), written(dashboard))
  }
}
