export default async function routes(app) {
  app.get('/orders/:id', async ({ params }) => params)
  app.get('/boom', async () => {
    throw new TypeError('boom')
  })
}
