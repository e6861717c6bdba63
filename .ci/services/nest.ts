// NestJS: its exception filter answers errors itself, so it reports them to the request first.
import 'reflect-metadata'
import type { ArgumentsHost } from '@nestjs/common'
import { Catch, Controller, Get, Module, NotFoundException, Param } from '@nestjs/common'
import { BaseExceptionFilter, HttpAdapterHost, NestFactory } from '@nestjs/core'
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify'
import observability, { currentObservation } from 'fastify-observability'

@Controller()
class Orders {
  @Get('orders/:id')
  find(@Param('id') id: string) {
    if (id === '0') throw new NotFoundException()
    return { id }
  }

  @Get('boom')
  boom() {
    throw new TypeError('boom')
  }
}

@Catch()
class ObservedExceptionFilter extends BaseExceptionFilter {
  override catch(exception: unknown, host: ArgumentsHost): void {
    currentObservation()?.fail(exception)
    super.catch(exception, host)
  }
}

@Module({ controllers: [Orders] })
class App {}

const adapter = new FastifyAdapter()
await adapter.getInstance().register(observability)
const app = await NestFactory.create<NestFastifyApplication>(App, adapter, { logger: false })
app.useGlobalFilters(new ObservedExceptionFilter(app.get(HttpAdapterHost).httpAdapter))
await app.listen(0, '127.0.0.1')
