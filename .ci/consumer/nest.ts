import 'reflect-metadata'
import { Controller, Get, Module, Param } from '@nestjs/common'
import { NestFactory } from '@nestjs/core'
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify'
import observability, { currentObservation, withSpan } from 'fastify-observability'
import { exercise } from './exercise.mjs'

@Controller('orders')
class Orders {
  @Get(':id')
  find(@Param('id') id: string) {
    return withSpan('load order', () => ({ id, requestId: currentObservation()?.requestId }))
  }
}

@Module({ controllers: [Orders] })
class App {}

export async function build() {
  const adapter = new FastifyAdapter()
  const app = adapter.getInstance()
  await app.register(observability)
  const nest = await NestFactory.create<NestFastifyApplication>(App, adapter, { logger: false })
  await nest.init()
  return app
}

if (import.meta.main) await exercise(await build())
